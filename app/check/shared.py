"""Keys that several image sources have: with the same bytes, or with others."""

from collections.abc import Iterable, Iterator

from app.catalog.catalog import Catalog
from app.catalog.image_source import ImageSource
from app.catalog.questions import Question, Questions, Row, ask_shared_images
from app.check.subjects import Subject, list_sources
from app.images.stored import decode

_PAGE_ROWS = 10_000
# A base64 text and its picture differ as they are stored, so those are read: 0.2 ms for two of
# 75 KB, or 20 s for so many. What is over is held to be the same, as nearly all of it will be.
_MAX_COMPARED = 100_000


def find_shared_images(
    catalog: Catalog, questions: Questions, examples: int
) -> Iterator[tuple[str, Subject, int, list[Row]]]:
    """The kinds shared_image and ambiguous_image: how many there are, and at most `examples`."""
    sources = {subject.folder: source for source, subject, _ in list_sources(catalog)}
    if len(sources) < 2:
        return
    names = {subject.folder: subject.name for _, subject, _ in list_sources(catalog)}
    everything = Subject(None, catalog.folder, list(catalog.datasets))
    counts: dict[str, int] = {}
    rows: dict[str, list[Row]] = {}
    for kind, sameness in (("shared_image", "same"), ("ambiguous_image", "other")):
        question = ask_shared_images(names, sameness)
        counts[kind] = questions.count(question)
        rows[kind] = questions.list_rows(question, 0, examples) if counts[kind] else []
    unknown = ask_shared_images(names, "unknown")
    left = questions.count(unknown)
    for row in _list_all(questions, unknown, min(left, _MAX_COMPARED)):
        kind = "shared_image" if _is_same(row.name, sources.values()) else "ambiguous_image"
        counts[kind] += 1
        rows[kind] = [*rows[kind], row][:examples]
    counts["shared_image"] += max(0, left - _MAX_COMPARED)
    for kind, count in counts.items():
        if count:
            yield kind, everything, count, rows[kind]


def _list_all(questions: Questions, question: Question, count: int) -> Iterator[Row]:
    for after in range(0, count, _PAGE_ROWS):
        yield from questions.list_rows(question, after, min(_PAGE_ROWS, count - after))


def _is_same(key: str, sources: Iterable[ImageSource]) -> bool:
    """Whether the pictures that the sources have under that key are the same bytes."""
    first: bytes | None = None
    for source in sources:
        place = source.find_place(key)
        if place is not None and place.is_readable:
            picture = decode(source.read(place, wait=True), place.form)
            if first is not None and picture != first:
                return False
            first = picture
    return True
