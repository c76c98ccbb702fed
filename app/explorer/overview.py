"""The overview: groups and datasets, their shares of the mixture, and what is wrong with them."""

from collections import Counter
from dataclasses import dataclass
from typing import Annotated

from fastapi import APIRouter, Query
from fastapi.responses import HTMLResponse

from app.catalog.catalog import Catalog
from app.catalog.dataset import Dataset
from app.explorer.badges import Badge, make_badges
from app.explorer.mixture import GroupBar, Mixture, get_share, make_mixture
from app.explorer.pages import render
from app.routes.revision import CatalogService

_ROWS = 100


@dataclass(frozen=True, slots=True)
class Row:
    """A dataset in the table; shares are of its group's epoch and of all groups together."""

    dataset: Dataset
    stored_bytes: int
    in_group: float
    in_whole: float
    badges: list[Badge]


@dataclass(frozen=True, slots=True)
class GroupRows:
    """A group and those of its datasets that the page shows."""

    bar: GroupBar
    rows: list[Row]


@dataclass(frozen=True, slots=True)
class Totals:
    """What there is, all datasets together; sources that datasets share count once."""

    datasets: int
    instructions: int
    images: int
    stored_bytes: int
    samples: int
    badges: list[Badge]


def create_router() -> APIRouter:
    """The route of the overview."""
    router = APIRouter()

    @router.get("/")
    async def get_overview(
        service: CatalogService,
        q: Annotated[str, Query(max_length=200)] = "",
        after: Annotated[int, Query(ge=0, le=10**9)] = 0,
    ) -> HTMLResponse:
        catalog = service.catalog
        found = [one for one in catalog.datasets.values() if q.lower() in one.name.lower()]
        page = found[after : after + _ROWS]
        mixture = make_mixture(catalog.datasets.values())
        return render(
            "overview.html",
            revision=catalog.revision,
            totals=_add_up(catalog, mixture.samples),
            mixture=mixture,
            groups=_group_rows(mixture, page),
            q=q,
            after=after,
            found=len(found),
            shown=len(page),
            next=after + _ROWS if after + _ROWS < len(found) else None,
        )

    return router


def _group_rows(mixture: Mixture, shown: list[Dataset]) -> list[GroupRows]:
    groups = []
    for bar in mixture.groups:
        members = [one for one in shown if one.group == bar.name]
        if members:
            rows = [_make_row(one, bar.samples, mixture.samples) for one in members]
            groups.append(GroupRows(bar, rows))
    return groups


def _make_row(dataset: Dataset, in_group: int, in_whole: int) -> Row:
    return Row(
        dataset=dataset,
        stored_bytes=dataset.images.facts.stored_bytes if dataset.images else 0,
        in_group=get_share(dataset.draws, in_group),
        in_whole=get_share(dataset.draws, in_whole),
        badges=make_badges(dataset.count_problems()),
    )


def _add_up(catalog: Catalog, samples: int) -> Totals:
    problems: Counter[str] = Counter()
    files = {id(one.instructions): one.instructions.facts for one in catalog.datasets.values()}
    sources = {id(one.images): one.images.facts for one in catalog.datasets.values() if one.images}
    joined = {one.folder: one.facts for one in catalog.datasets.values()}
    noted = [one.problems for facts in (files, sources, joined) for one in facts.values()]
    for counts in noted:
        problems.update(counts)
    return Totals(
        datasets=len(catalog.datasets),
        instructions=sum(facts.instructions for facts in files.values()),
        images=sum(facts.images for facts in sources.values()),
        stored_bytes=sum(facts.stored_bytes for facts in sources.values()),
        samples=samples,
        badges=make_badges(problems),
    )
