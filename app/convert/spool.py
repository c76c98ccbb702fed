"""Records on their way: written as they come, and read again without those that come twice."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa

from app.catalog.duck import Database
from app.catalog.table import stream_rows
from app.convert.again import Again

_SCHEMA = pa.schema(
    [
        ("number", pa.uint64()),
        ("id", pa.binary()),
        ("text", pa.binary()),
        ("source", pa.uint32()),
        ("row", pa.uint64()),
    ]
)
_BATCH_ROWS = 4096
_BATCH_BYTES = 4 << 20
_BY_ID = "SELECT id, number FROM spooled ORDER BY id, number"


class Spooled(NamedTuple):
    """A record as JSON, and where it comes from; the first of its id `is_first`."""

    id: str
    text: bytes
    source: int
    row: int
    is_first: bool


class Spool:
    """A file of records."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = pa.ipc.new_file(str(path), _SCHEMA)
        self._held: list[tuple[Any, ...]] = []
        self._held_bytes = 0
        self._count = 0

    def add(self, id: bytes, text: bytes, source: int, row: int) -> None:
        """Add a record."""
        self._held.append((self._count, id, text, source, row))
        self._held_bytes += len(text)
        self._count += 1
        if len(self._held) == _BATCH_ROWS or self._held_bytes >= _BATCH_BYTES:
            self._flush()

    def _flush(self) -> None:
        columns = zip(*self._held, strict=True)
        arrays = [
            pa.array(column, field.type) for column, field in zip(columns, _SCHEMA, strict=False)
        ]
        if arrays:
            self._file.write_batch(pa.record_batch(arrays, schema=_SCHEMA))
        self._held, self._held_bytes = [], 0

    def read(self, database: Database) -> Iterator[Spooled]:
        """Every record, in order, once all are added."""
        self._flush()
        self._file.close()
        ids = stream_rows(self._path, ["number", "id"])
        again = Again(database.query_arrow(_BY_ID, {"spooled": ids}, _BATCH_ROWS))
        for batch in stream_rows(self._path, _SCHEMA.names):
            is_again = again.has(batch.column("number").to_numpy()).tolist()
            columns = [column.to_pylist() for column in batch.columns[1:]]
            for id, text, source, row, comes_again in zip(*columns, is_again, strict=True):
                yield Spooled(id.decode(), text, source, row, not comes_again)
