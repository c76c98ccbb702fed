"""The rows of a problem, with links to what they are of."""

from collections.abc import Sequence
from dataclasses import dataclass

from app.catalog.catalog import Catalog
from app.catalog.questions import Row
from app.explorer import links

# Their names are keys of images, and those of all others ids of instructions.
_OF_IMAGES = frozenset(
    {
        "null_image",
        "empty_image",
        "undecodable_image",
        "large_image",
        "conflicting_image",
        "duplicate_image",
        "unused_image",
        "shared_image",
        "ambiguous_image",
    }
)
_OF_NOTHING = frozenset({"unnamed_image", "long_key", "invalid_record", "unknown_train_id"})
_DETAIL_IS_KEY = frozenset({"missing_image", "unreadable_image"})
_SEARCHED = 20  # of the datasets that may have a name


@dataclass(frozen=True, slots=True)
class LinkedRow:
    """A problem: what it is of and its detail, each with the page it has, if it has one."""

    name: str
    detail: str
    page: str | None
    detail_page: str | None


def link_rows(
    catalog: Catalog, kind: str, datasets: Sequence[str], rows: Sequence[Row]
) -> list[LinkedRow]:
    """The rows of that kind, whose names the first of the datasets has, or one of the next."""
    return [_link(catalog, kind, datasets, row) for row in rows]


def _link(catalog: Catalog, kind: str, datasets: Sequence[str], row: Row) -> LinkedRow:
    page = detail_page = None
    if kind not in _OF_NOTHING:
        for name in datasets[:_SEARCHED]:
            dataset = catalog.datasets[name]
            if kind in _OF_IMAGES:
                if dataset.images is not None and dataset.images.find_place(row.name) is not None:
                    page = links.image_page(name, row.name)
            elif dataset.instructions.find_row(row.name) is not None:
                page = links.instruction_page(name, row.name)
            if page is not None:
                break
    if kind in _DETAIL_IS_KEY and datasets:
        detail_page = links.image_page(datasets[0], row.detail)
    return LinkedRow(row.name, row.detail, page, detail_page)
