"""The stored bytes of planned rows, from wherever they are; a changed source is refused."""

import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

import msgspec

from app.catalog.duck import ParquetRows
from app.catalog.image_file import FileFacts
from app.catalog.table import map_file
from app.convert.listing import ListFacts
from app.convert.sources import Kind, Source
from app.errors import SourceChangedError
from app.parquet.place import Place
from app.parquet.reader import PageCache, Stored, ValueReader
from app.storage import FileStamp, LocalStorage

_OPEN_FILES = 16
# DuckDB reads a page or a row group for each question, so rows are asked for together.
_ASKED_BYTES = 8 << 20


class Row(NamedTuple):
    """A planned row, as in `app.convert.rows.FOUND`; `key` and `name` as bytes."""

    source: int
    row: int
    preference: int
    key: bytes
    name: bytes | None
    offset: int
    length: int
    mtime_ns: int
    hash: int
    page: int
    form: int


class SourceValues:
    """Reads values of the sources, whose units are given; `rows` asks DuckDB where nothing else
    can."""

    def __init__(self, units: Sequence[tuple[Source, Path]], rows: ParquetRows) -> None:
        self._units = units
        self._rows = rows
        self._storage = LocalStorage(_OPEN_FILES)
        self._cache = _OnePage()

    def read(self, rows: Sequence[Row]) -> Iterator[tuple[int, Stored]]:
        """The number of each of the rows, in an order in which no page is decoded twice, and its
        stored bytes.

        Raises SourceChangedError if they are not those that were found.
        """
        places = [(row.source, row.page, row.offset, row.row) for row in rows]
        order = sorted(range(len(rows)), key=places.__getitem__)
        for source, some in groupby(order, lambda at: rows[at].source):
            numbers = list(some)
            found = self._read_source(source, [rows[at] for at in numbers])
            yield from zip(numbers, found, strict=True)

    def _read_source(self, number: int, rows: list[Row]) -> Iterator[Stored]:
        source, unit = self._units[number]
        if source.kind.is_indexed:
            return self._read_indexed(unit, rows)
        if source.kind == Kind.TAR:
            return self._read_tar(unit, rows)
        folder = source.path if source.kind == Kind.FOLDER else os.path.dirname(source.path)
        return (_read_file(os.path.join(folder, (row.name or b"").decode()), row) for row in rows)

    def _read_indexed(self, unit: Path, rows: list[Row]) -> Iterator[Stored]:
        facts = msgspec.json.decode((unit / "unit.json").read_bytes(), type=FileFacts)
        asked: dict[int, bytes | None] = {}
        reader = ValueReader(
            (facts.stamp,),
            map_file(unit / "pages.bin"),
            map_file(unit / "seeks.bin").cast("Q"),
            self._storage,
            self._cache,
            lambda _, row: asked[row] or b"",
        )
        for some in [rows] if facts.reader != "duckdb" else _chunk(rows):
            if facts.reader == "duckdb":
                numbers = [row.offset for row in some]
                asked = self._rows.get(facts.path, facts.value_parts, numbers)
            for row in some:
                place = Place(row.offset, row.hash, row.page, row.length, row.form)
                yield reader.read(place, wait=True)

    def _read_tar(self, unit: Path, rows: list[Row]) -> Iterator[Stored]:
        facts = msgspec.json.decode((unit / "unit.json").read_bytes(), type=ListFacts)
        stamp = FileStamp(facts.path, facts.size_bytes, facts.mtime_ns)
        for row in rows:
            data = bytearray(row.length)
            self._storage.read_into(stamp, row.offset, [data], wait=True)
            yield memoryview(data)
        self._storage.check(stamp)  # what is in a tar has no hash that would tell


class _OnePage(PageCache):
    """The last decoded page only: rows come page by page, and pages are some 100 MB."""

    def __init__(self) -> None:
        super().__init__(1 << 62)

    def get(self, stamp: FileStamp, offset: int) -> memoryview | None:
        page = super().get(stamp, offset)
        if page is None:
            self._pages.clear()
            self._bytes = 0
        return page


def _chunk(rows: list[Row]) -> Iterator[list[Row]]:
    held: list[Row] = []
    held_bytes = 0
    for row in rows:
        if held and held_bytes + row.length > _ASKED_BYTES:
            yield held
            held, held_bytes = [], 0
        held.append(row)
        held_bytes += row.length
    yield held


def _read_file(path: str, row: Row) -> bytes:
    """The bytes of a file of its own; raises SourceChangedError if it is not what was listed."""
    with suppress(OSError), open(path, "rb") as file:
        data = file.read(row.length + 1)
        status = os.fstat(file.fileno())
        if len(data) == row.length and status.st_mtime_ns == row.mtime_ns:
            return data
    raise SourceChangedError(f"{path} is no longer the file that was listed")
