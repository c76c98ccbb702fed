"""What a survey found, grouped by kind."""

from collections.abc import Iterable
from dataclasses import dataclass

from app.catalog.catalog import Catalog
from app.check.findings import Finding
from app.check.kinds import KINDS, Kind
from app.explorer.problem_rows import LinkedRow, link_rows

_PLACES = 20  # of a kind; the page can be had for one dataset
# To find them pictures are read, so they are not asked for again, page by page.
HAS_NO_LIST = frozenset({"shared_image", "ambiguous_image"})


@dataclass(frozen=True, slots=True)
class Place:
    """Problems of a kind in a file, source or dataset, and some of them; `unit` lists them all."""

    datasets: list[str]
    name: str
    path: str | None
    unit: str | None
    count: int
    rows: list[LinkedRow]


@dataclass(frozen=True, slots=True)
class KindFound:
    """A kind of problem, and where it is; `more` places are not shown."""

    kind: Kind
    count: int
    places: list[Place]
    more: int


def group_findings(catalog: Catalog, findings: Iterable[Finding]) -> list[KindFound]:
    """The kinds that were found, in the order of all kinds, the worst first."""
    by_kind: dict[str, list[Finding]] = {}
    for finding in findings:
        by_kind.setdefault(finding.kind, []).append(finding)
    return [
        KindFound(
            kind=kind,
            count=sum(one.count for one in by_kind[name]),
            places=[_make_place(catalog, one) for one in by_kind[name][:_PLACES]],
            more=max(0, len(by_kind[name]) - _PLACES),
        )
        for name, kind in KINDS.items()
        if name in by_kind
    ]


def _make_place(catalog: Catalog, finding: Finding) -> Place:
    subject = finding.subject
    return Place(
        datasets=subject.datasets,
        name=subject.name,
        path=subject.path,
        unit=None if finding.kind in HAS_NO_LIST else subject.folder.name,
        count=finding.count,
        rows=link_rows(catalog, finding.kind, subject.datasets, finding.rows),
    )
