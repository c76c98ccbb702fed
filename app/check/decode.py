"""Every picture decoded, as the service would: a job whose items are rows of an images file."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from app.catalog.catalog import Catalog
from app.catalog.image_source import ImageSource
from app.catalog.questions import Row
from app.catalog.stored_rows import RowRange, StoredRows, list_ranges
from app.check.findings import Finding
from app.check.subjects import Subject, list_sources
from app.errors import ImageUnreadableError, PictureTooLargeError
from app.histogram import Histogram, make_histogram
from app.images.picture import measure
from app.images.stored import decode
from app.parquet.place import Place
from app.progress import Progress
from app.progress import Report as Tell
from app.tasks.job import Advance, ChooseRunner


@dataclass(slots=True)
class Sizes:
    """How often each width and each height was met."""

    widths: Counter[int] = field(default_factory=Counter)
    heights: Counter[int] = field(default_factory=Counter)

    def update(self, other: "Sizes") -> None:
        """Count those of `other` as well."""
        self.widths.update(other.widths)
        self.heights.update(other.heights)


def make_sides(sides: Mapping[int, int]) -> Histogram:
    """The histogram of widths or heights, in pixels."""
    values = sorted(sides)
    counts = [sides[value] for value in values]
    return make_histogram(np.array(values, np.int64), np.array(counts, np.int64))


class BadPicture(NamedTuple):
    """A picture that does not decode, and where it is."""

    kind: str
    row: Row
    place: Place


@dataclass(frozen=True, slots=True)
class DecodedRows:
    """What decoding a range of rows gave."""

    rows: RowRange
    sizes: Sizes
    bad: list[BadPicture]


@dataclass(frozen=True, slots=True)
class DecodePictures:
    """The job of decoding ranges of rows; nothing is written, so any can be done again."""

    max_pixels: int
    page_cache_bytes: int
    duckdb_memory_bytes: int

    @contextmanager
    def open(self) -> Iterator[Callable[[RowRange, Advance], DecodedRows]]:
        with closing(StoredRows(self.page_cache_bytes, self.duckdb_memory_bytes)) as stored:
            yield partial(_decode_rows, stored, self.max_pixels)


def _decode_rows(
    stored: StoredRows, max_pixels: int, rows: RowRange, advance: Advance
) -> DecodedRows:
    found = DecodedRows(rows, Sizes(), [])
    for key, place, value in stored.read(rows):
        try:
            width, height = measure(decode(value, place.form), max_pixels=max_pixels)
        except ImageUnreadableError as error:
            is_large = isinstance(error, PictureTooLargeError)
            kind = "large_picture" if is_large else "undecodable_picture"
            found.bad.append(BadPicture(kind, Row(key, str(error)), place))
        else:
            found.sizes.widths[width] += 1
            found.sizes.heights[height] += 1
        advance(place.length)
    return found


class Decoded:
    """The pictures of one source, as far as they are decoded."""

    def __init__(self, source: ImageSource, subject: Subject) -> None:
        self.sizes = Sizes()
        self.subject = subject
        self._source = source
        self._bad: dict[str, dict[str, str]] = {}  # details by kind and key

    def add(self, found: DecodedRows) -> None:
        """Add what decoding some of its rows gave; of a key that is there again, what is served."""
        self.sizes.update(found.sizes)
        for kind, (key, detail), place in found.bad:
            served = self._source.find_place(key)
            if served is not None and (served.hash, served.length) == (place.hash, place.length):
                self._bad.setdefault(kind, {})[key] = detail

    @property
    def pictures(self) -> int:
        """How many pictures were decoded, or can not be."""
        return self.sizes.widths.total() + sum(map(len, self._bad.values()))

    def list_findings(self, examples: int) -> Iterator[Finding]:
        """The problems that were met, with the first so many by key."""
        for kind, details in self._bad.items():
            rows = [Row(key, details[key]) for key in sorted(details)[:examples]]
            yield Finding(kind, self.subject, len(details), rows)


def decode_pictures(
    catalog: Catalog, job: DecodePictures, choose: ChooseRunner, tell: Tell
) -> dict[Path, Decoded]:
    """Decode every picture of the catalog, a file that sources share once; by unit of a source."""
    decoded: dict[Path, Decoded] = {}
    of_unit: dict[Path, list[Decoded]] = {}
    for source, subject, _ in list_sources(catalog):
        decoded[subject.folder] = Decoded(source, subject)
        for unit in catalog.list_file_units(source):
            of_unit.setdefault(unit, []).append(decoded[subject.folder])
    ranges = [rows for unit in of_unit for rows in list_ranges(unit)]
    sizes_bytes = [rows.stored_bytes for rows in ranges]

    def watch(done: int, done_bytes: int) -> None:
        total_bytes = sum(sizes_bytes)
        tell(Progress("decoding pictures", min(done_bytes, total_bytes), total_bytes))

    for found in choose(sizes_bytes).run(job, ranges, watch):
        for one in of_unit[found.rows.unit]:
            one.add(found)
    return decoded
