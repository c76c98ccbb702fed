"""A dataset: its instructions as cards, searched and filtered, a page at a time."""

from dataclasses import dataclass
from typing import Annotated
from urllib.parse import urlencode

from fastapi import APIRouter, Depends, Query
from fastapi.responses import HTMLResponse

from app.explorer import links
from app.explorer.badges import make_badges
from app.explorer.cards import make_cards
from app.explorer.pages import render
from app.routes.revision import CatalogService

_CARDS = 24  # fills a large screen, and whole rows of 2, 3, 4, 6 and 8
_Flag = Annotated[bool, Query()]


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is searched for; the names are those of the form."""

    q: str
    several: bool
    context: bool
    problem: bool

    @property
    def is_all(self) -> bool:
        """Whether nothing is left out."""
        return not (self.q or self.several or self.context or self.problem)

    @property
    def query(self) -> dict[str, str]:
        """The form's fields that are filled in."""
        flags = {"several": self.several, "context": self.context, "problem": self.problem}
        fields = {name: "true" for name, is_set in flags.items() if is_set}
        return {"q": self.q, **fields} if self.q else fields


async def _get_wanted(
    q: Annotated[str, Query(max_length=1000)] = "",
    several: _Flag = False,
    context: _Flag = False,
    problem: _Flag = False,
) -> Wanted:
    return Wanted(q, several, context, problem)


def create_router() -> APIRouter:
    """The route of a dataset's gallery."""
    router = APIRouter()

    @router.get("/datasets/{dataset}")
    async def get_gallery(
        service: CatalogService,
        dataset: str,
        wanted: Annotated[Wanted, Depends(_get_wanted)],
        after: Annotated[int, Query(ge=0, le=10**18)] = 0,
    ) -> HTMLResponse:
        found = service.catalog.get_dataset(dataset)
        limit = min(_CARDS, service.settings.max_page_items)
        if wanted.is_all:
            max_bytes = service.settings.max_answer_bytes
            page = found.instructions.list_page(after, limit, max_bytes)
        else:
            search = await service.read(
                lambda: found.make_search(
                    text=wanted.q or None,
                    has_several_images=wanted.several,
                    has_context=wanted.context,
                    has_problem=wanted.problem,
                )
            )
            page = await service.search(found.instructions, after, limit, search)
        query = wanted.query
        following = None if page.next is None else query | {"after": str(page.next)}
        return render(
            "gallery.html",
            dataset=found,
            facts=found.images.facts if found.images else None,
            badges=make_badges(found.count_problems()),
            cards=await make_cards(service, found, page.items),
            wanted=wanted,
            after=after,
            first=links.dataset_page(dataset, **query),
            next=following and f"{links.dataset_page(dataset)}?{urlencode(following)}",
        )

    return router
