"""Rows of a Parquet file, as read in place and as DuckDB reads them: whether they are the same.

DuckDB reads no objects: of one it is given a local file with the pages that the rows lie in, and
holes where the others are.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

from app.catalog.duck import ParquetRows
from app.errors import DamagedFileError, UnsupportedError
from app.images.stored import Form
from app.parquet.footer import Chunk, find_footer
from app.parquet.pages import Page
from app.parquet.place import Place, Places, hash_stored
from app.storage import is_address
from app.storage.sources import Source, copy_ranges

# The first, the last and some between, so that dictionary pages and plain pages both have theirs.
# Each costs DuckDB a page of 100 MB in a pandas file.
_COMPARED_ROWS = 6
# DuckDB reads a row group in vectors of so many rows, and of one that is asked for every page.
_VECTOR_ROWS = 2048

Range = tuple[int, int]  # start and end, in a file


class Compared:
    """Some rows of a file, to be compared; of an object those whose pages are `max_bytes`,
    which are written into the folder meanwhile."""

    def __init__(
        self, source: Source, chunks: Sequence[Chunk], max_bytes: int, folder: Path
    ) -> None:
        self._folder = folder
        self._source = source
        self._chunks = chunks
        self._max_bytes = max_bytes
        last = sum(chunk.rows for chunk in chunks) - 1
        steps = range(_COMPARED_ROWS)
        rows = sorted({last * step // (_COMPARED_ROWS - 1) for step in steps} if last >= 0 else ())
        self._vectors = {row: self._find_vector(row) for row in rows}
        self._places: dict[int, Place] = {}
        self._pages: dict[int, set[int]] = {}

    def _find_vector(self, row: int) -> range:
        first = 0
        for chunk in self._chunks:
            if row < first + chunk.rows:
                break
            first += chunk.rows
        start = row - (row - first) % _VECTOR_ROWS
        return range(start, min(start + _VECTOR_ROWS, first + chunk.rows))

    def watch(self, blocks: Iterator[Places]) -> Iterator[Places]:
        """The blocks as they come, noting the places of the rows to compare."""
        first = 0
        self._places.clear()
        self._pages = {row: set() for row in self._vectors}
        for block in blocks:
            end = first + len(block)
            for row, vector in self._vectors.items():
                if first <= row < end:
                    self._places[row] = Place(*block[row - first].item())
                if vector.start < end and first < vector.stop:
                    part = block[max(0, vector.start - first) : vector.stop - first]
                    self._pages[row] |= set(part["page"][part["form"] != Form.NULL].tolist())
            first = end
            yield block

    def check(self, reference: ParquetRows, column: Sequence[str], pages: list[Page]) -> bool:
        """Whether DuckDB read the rows; raises UnsupportedError if it read other values."""
        if not self._places:
            return True
        try:
            found = self._ask(reference, column, pages)
        except MemoryError:
            return False
        for row, stored in found.items():
            if not _agree(self._places[row], stored):
                raise UnsupportedError(f"DuckDB reads row {row} differently")
        return bool(found)

    def _ask(
        self, reference: ParquetRows, column: Sequence[str], pages: list[Page]
    ) -> dict[int, bytes | None]:
        """What DuckDB reads in the rows; of an object none, if it may not or can not."""
        path, rows = self._source.stamp.path, list(self._places)
        if not is_address(path):
            found = reference.get(path, column, rows)
            return {row: found.get(row) for row in rows}
        rows, ranges = self._fit(pages)
        if not rows:
            return {}
        try:
            with copy_ranges(self._source, ranges, self._folder) as part:
                found = reference.get(part, column, rows)
        except DamagedFileError:  # it read in a hole
            return {}
        return {row: found.get(row) for row in rows}

    def _fit(self, pages: list[Page]) -> tuple[list[int], list[Range]]:
        """As many of the rows as may be fetched, ends first, and what DuckDB reads for them."""
        order = sorted(
            self._places, key=lambda row: row not in (min(self._places), max(self._places))
        )
        rows: list[int] = []
        ranges: list[Range] = []
        for row in order:
            more = self._list_ranges([*rows, row], pages)
            if sum(end - start for start, end in more) <= self._max_bytes:
                rows.append(row)
                ranges = more
        return rows, ranges

    def _list_ranges(self, rows: Sequence[int], pages: list[Page]) -> list[Range]:
        """The footer, and of the row groups of those rows all but the pages that have others."""
        wanted = {number for row in rows for number in self._pages[row]}
        found: list[Range] = [(0, 4), (find_footer(self._source), self._source.stamp.size_bytes)]
        first = 0
        for chunk in self._chunks:
            group = range(first, first + chunk.rows)
            first += chunk.rows
            if not any(row in group for row in rows):
                continue
            at, end = chunk.start, chunk.start + chunk.stored_bytes
            inside = [n for n, page in enumerate(pages) if at <= page.offset < end]
            for number in inside[1:]:  # the first may be a dictionary
                if number not in wanted:
                    found.append((at, pages[number].offset))
                    at = pages[number].offset + pages[number].stored_bytes
            found.append((at, end))
        return found


def _agree(place: Place, stored: bytes | None) -> bool:
    if stored is None or place.form == Form.NULL:
        return stored is None and place.form == Form.NULL
    if len(stored) != place.length:
        return False
    return place.form == Form.TOO_LARGE or hash_stored(stored) == place.hash
