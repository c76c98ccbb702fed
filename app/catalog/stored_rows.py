"""The stored values of an images file in the order of its rows: all of it read, from front to back.

A range of rows names files of the catalog and of the data only, so it can be read on any machine
that has both.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import msgspec
import pyarrow as pa

from app.catalog.duck import Database, ParquetRows
from app.catalog.image_file import FileFacts
from app.catalog.image_rows import ROWS
from app.catalog.table import map_file, stream_rows
from app.errors import DamagedFileError, OverloadedError, SourceChangedError
from app.parquet.place import Place, hash_stored
from app.parquet.reader import PageCache, Stored, ValueReader
from app.storage import FileStamp, LocalStorage

# Of a range: what a process does in half a minute at the most, if each row is a picture to decode.
_MAX_ROWS = 4096
_MAX_BYTES = 64 << 20


@dataclass(frozen=True, slots=True)
class RowRange:
    """Rows `first` to below `end` of the images file that `unit` is of."""

    unit: Path
    first: int
    end: int
    stored_bytes: int


class StoredRow(NamedTuple):
    """A readable value with its key, and where it is in its file."""

    key: str
    place: Place
    stored: Stored


def list_ranges(unit: Path) -> Iterator[RowRange]:
    """The ranges that make up a file; one that DuckDB reads is a single range, since it can not
    be entered in the middle."""
    is_whole = load_file_facts(unit).reader == "duckdb"
    first = end = stored_bytes = 0
    for batch in stream_rows(unit / "rows.arrow", ["length"]):
        for length in batch.column(0).to_pylist():
            is_full = end - first >= _MAX_ROWS or stored_bytes + length > _MAX_BYTES
            if is_full and end > first and not is_whole:
                yield RowRange(unit, first, end, stored_bytes)
                first, stored_bytes = end, 0
            end += 1
            stored_bytes += length
    if end > first:
        yield RowRange(unit, first, end, stored_bytes)


def load_file_facts(unit: Path) -> FileFacts:
    """What is known of the file that the unit is of."""
    return msgspec.json.decode((unit / "unit.json").read_bytes(), type=FileFacts)


class StoredRows:
    """Reads ranges of rows; close it when done."""

    def __init__(self, page_cache_bytes: int, duckdb_memory_bytes: int) -> None:
        self._storage = LocalStorage(max_open_files=8)
        self._cache = PageCache(page_cache_bytes)
        self._database = Database(duckdb_memory_bytes, threads=1)

    def close(self) -> None:
        """Close DuckDB, if it was used."""
        self._database.close()

    def read(self, rows: RowRange) -> Iterator[StoredRow]:
        """The rows that have a key and a readable value.

        Raises SourceChangedError if the file is not what was indexed, and OverloadedError if
        DuckDB has too little memory for it.
        """
        facts = load_file_facts(rows.unit)
        if facts.reader == "duckdb":
            yield from self._scan(rows, facts)
            return
        seeks = map_file(rows.unit / "seeks.bin").cast("Q")
        pages = map_file(rows.unit / "pages.bin")
        files = (facts.stamp,)
        reader = ValueReader(files, pages, seeks, self._storage, self._cache, _no_row)
        for key, place in _list_places(rows):
            if key and place.is_readable:
                yield StoredRow(key, place, reader.read(place, wait=True))

    def _scan(self, rows: RowRange, facts: FileFacts) -> Iterator[StoredRow]:
        self._storage.check(facts.stamp)
        values = ParquetRows(self._database).scan(facts.path, facts.value_parts)
        try:
            for (key, place), stored in zip(_list_places(rows), values, strict=True):
                if key and place.is_readable:
                    if stored is None or hash_stored(stored) != place.hash:
                        raise SourceChangedError(f"{facts.path} holds other bytes than it did")
                    yield StoredRow(key, place, stored)
        except (DamagedFileError, ValueError) as error:
            raise SourceChangedError(f"{facts.path} is not what was indexed: {error}") from error
        except MemoryError as error:
            raise OverloadedError(f"{error} (setting duckdb_memory_bytes)") from error


def _no_row(stamp: FileStamp, row: int) -> bytes:
    raise SourceChangedError(f"the catalog's pages of {stamp.path} are damaged (row {row})")


def _list_places(rows: RowRange) -> Iterator[tuple[str | None, Place]]:
    """The keys and places of the rows; no key, or an empty one, is of what can not be asked for."""
    with pa.memory_map(str(rows.unit / "rows.arrow")) as mapped, pa.ipc.open_file(mapped) as file:
        first = 0
        for number in range(file.num_record_batches):
            batch = file.get_batch(number)
            begin, end = max(rows.first - first, 0), min(rows.end - first, len(batch))
            if begin < end:
                columns = batch.slice(begin, end - begin).select(ROWS.names).to_pydict().values()
                for key, *fields in zip(*columns, strict=True):
                    yield key, Place(*fields)
            first += len(batch)
