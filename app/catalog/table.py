"""An Arrow file of rows and an index of their ids: written in windows, mapped by readers.

table.arrow  the rows, in file order; the first two columns are `row` and `id`
starts.bin   the first row of each record batch, as uint64
sizes.bin    how many bytes each row takes as JSON, as uint32
ids.lmdb     id → row
"""

import mmap
import struct
from array import array
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache
from itertools import groupby
from pathlib import Path
from typing import Any

import pyarrow as pa

from app.catalog.duck import Database
from app.catalog.keyed import KeyedFile, sort_key, write_keyed

_ROW = struct.Struct("<Q")
_BATCH_ROWS = 4096
_BATCH_BYTES = 4 << 20  # bounds what is held while the rows of a huge file stream by
_SORTED_ROWS = 65_536
# Opening one takes 16 µs, and what is held of it, 5 KB, is where its columns are mapped.
_HELD_BATCHES = 4096


class TableWriter:
    """Writes rows as they come, numbering them."""

    def __init__(self, folder: Path, schema: pa.Schema) -> None:
        self.rows = 0
        self._schema = schema
        self._starts = open(folder / "starts.bin", "wb")  # noqa: SIM115
        self._sizes = open(folder / "sizes.bin", "wb")  # noqa: SIM115
        self._file = pa.ipc.new_file(str(folder / "table.arrow"), schema)
        self._held: list[tuple[Any, ...]] = []
        self._held_bytes = 0
        self._held_sizes = array("I")

    def add(self, values: tuple[Any, ...], size_bytes: int) -> None:
        """Add a row; its first value is the id, and its size is what it takes as JSON."""
        self._held.append(values)
        self._held_sizes.append(size_bytes)
        self._held_bytes += size_bytes
        if len(self._held) == _BATCH_ROWS or self._held_bytes >= _BATCH_BYTES:
            self._flush()

    def __enter__(self) -> "TableWriter":
        return self

    def __exit__(self, *_: object) -> None:
        self._flush()
        self._file.close()
        self._starts.close()
        self._sizes.close()

    def _flush(self) -> None:
        if not self._held:
            return
        numbers = range(self.rows, self.rows + len(self._held))
        columns = [numbers, *zip(*self._held, strict=True)]
        arrays = [
            pa.array(column, field.type)
            for column, field in zip(columns, self._schema, strict=True)
        ]
        self._file.write_batch(pa.record_batch(arrays, schema=self._schema))
        self._starts.write(_ROW.pack(self.rows))
        self.rows += len(self._held)
        self._held_sizes.tofile(self._sizes)
        self._held, self._held_bytes, self._held_sizes = [], 0, array("I")


def stream_rows(path: Path, columns: list[str]) -> pa.RecordBatchReader:
    """Those columns of an Arrow file, a batch read at a time: nothing of it is mapped or kept."""
    with pa.ipc.open_file(str(path)) as file:
        schema = pa.schema([file.schema.field(name) for name in columns])

    def batches() -> Iterator[pa.RecordBatch]:
        numbers = [file.schema.get_field_index(name) for name in columns]
        options = pa.ipc.IpcReadOptions(included_fields=numbers)
        with pa.OSFile(str(path)) as source, pa.ipc.open_file(source, options=options) as opened:
            for number in range(opened.num_record_batches):
                yield opened.get_batch(number).select(columns)

    return pa.RecordBatchReader.from_batches(schema, batches())


def map_file(path: Path) -> memoryview:
    """The bytes of a catalog file, mapped; an empty file can not be, and is empty."""
    if not path.stat().st_size:
        return memoryview(b"")
    with open(path, "rb") as file:
        return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))


def index_table(folder: Path, joins: Database, duplicate: Callable[[str], None]) -> None:
    """Write the index of the ids; of an id that is there again the last row counts, as in json.

    `duplicate` hears of each row that does not count.
    """
    entries = _last_rows(_sorted_ids(folder, joins), duplicate)
    write_keyed(folder / "ids.lmdb", entries, max_entries=_count_rows(folder))


def _count_rows(folder: Path) -> int:
    with pa.ipc.open_file(str(folder / "table.arrow")) as file:
        return int(file.count_rows())


def _sorted_ids(folder: Path, joins: Database) -> Iterable[tuple[str, int]]:
    schema = pa.schema([("row", pa.uint64()), ("id", pa.string()), ("sort_key", pa.binary())])

    def batches() -> Iterator[pa.RecordBatch]:
        for batch in stream_rows(folder / "table.arrow", ["row", "id"]):
            ids = batch.column("id")
            keys = [sort_key(key) for key in ids.cast(pa.binary()).to_pylist()]
            columns = [batch.column("row"), ids, pa.array(keys, pa.binary())]
            yield pa.record_batch(columns, schema=schema)

    source = pa.RecordBatchReader.from_batches(schema, batches())
    sql = "SELECT id, row FROM ids ORDER BY sort_key, row"
    for batch in joins.query_arrow(sql, {"ids": source}, _SORTED_ROWS):
        yield from zip(batch.column(0).to_pylist(), batch.column(1).to_pylist(), strict=True)


def _last_rows(
    ids: Iterable[tuple[str, int]], duplicate: Callable[[str], None]
) -> Iterator[tuple[bytes, bytes]]:
    held: tuple[str, int] | None = None
    for entry in ids:
        if held is not None and held[0] == entry[0]:
            duplicate(held[0])
        elif held is not None:
            yield held[0].encode(), _ROW.pack(held[1])
        held = entry
    if held is not None:
        yield held[0].encode(), _ROW.pack(held[1])


def put_back(rows: pa.RecordBatch, order: list[int]) -> pa.RecordBatch:
    """The rows, each at the place of its number in `order`, which has every place once."""
    places = sorted(range(len(order)), key=order.__getitem__)
    return rows.take(pa.array(places, pa.int64()))


class Table:
    """Rows by number and by id, read from the mapped file."""

    def __init__(self, folder: Path) -> None:
        self._file = pa.ipc.open_file(pa.memory_map(str(folder / "table.arrow")))
        self._starts = map_file(folder / "starts.bin").cast("Q")
        self._sizes = map_file(folder / "sizes.bin").cast("I")
        self._ids = KeyedFile(folder / "ids.lmdb", _ROW.size)
        self._get_batch = lru_cache(_HELD_BATCHES)(self._file.get_batch)

    def close(self) -> None:
        """Unmap the index."""
        self._ids.close()

    def find_row(self, id: str) -> int | None:
        """The number of the row with that id, or None."""
        try:
            found = self._ids.get(id.encode())
        except UnicodeEncodeError:
            return None
        return None if found is None else int(_ROW.unpack(found)[0])

    def list_ids(self, after: str, limit: int) -> list[str]:
        """At most `limit` ids that come after `after`, in the order of the index."""
        return [id.decode() for id, _ in self._ids.list_after(after.encode(), limit)]

    def take(self, rows: Sequence[int], columns: list[str]) -> pa.RecordBatch:
        """Those columns of the rows of those numbers, of which there is one at the least, in their
        order."""
        order = sorted(range(len(rows)), key=rows.__getitem__)
        found = []
        for number, group in groupby(order, lambda at: bisect_right(self._starts, rows[at]) - 1):
            batch, first = self._get_batch(number).select(columns), self._starts[number]
            places = [rows[at] - first for at in group]
            # A slice takes 1 µs and a take 25: of a large table most batches give one row.
            found.append(
                batch.slice(places[0], 1)
                if len(places) == 1
                else batch.take(pa.array(places, pa.int64()))
            )
        return put_back(pa.concat_batches(found), order)

    def get_size(self, row: int) -> int:
        """How many bytes the row takes as JSON."""
        return self._sizes[row]

    def get_row(self, row: int) -> dict[str, Any]:
        """The row of that number."""
        return self.list_rows(row, 1, 0)[0]

    def list_rows(self, first: int, limit: int, max_bytes: int) -> list[dict[str, Any]]:
        """At most `limit` rows from row `first` on, in file order; fewer, but one at the least,
        where they take over `max_bytes`, by a record batch at the most."""
        rows: list[dict[str, Any]] = []
        taken_bytes = 0
        number = bisect_right(self._starts, first) - 1
        while 0 <= number < len(self._starts) and len(rows) < limit:
            batch = self._get_batch(number)
            part = batch.slice(max(0, first - self._starts[number]), limit - len(rows))
            rows += part.to_pylist()
            taken_bytes += part.nbytes
            if rows and taken_bytes >= max_bytes:
                break
            number += 1
        return rows

    def read_all(self) -> pa.Table:
        """All rows, mapped."""
        return self._file.read_all()

    @property
    def batches(self) -> int:
        """How many record batches it has."""
        return len(self._starts)

    def find_batch(self, row: int) -> int:
        """The number of the record batch that has the row, or would have it."""
        return max(0, bisect_right(self._starts, row) - 1)

    def read_batches(self, first: int, count: int) -> pa.Table:
        """The rows of so many record batches, mapped, for DuckDB."""
        last = min(first + count, self.batches)
        return pa.Table.from_batches(map(self._get_batch, range(first, last)))
