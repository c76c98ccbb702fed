"""One images file, indexed: the key and place of every row, in a unit of its own.

rows.arrow   key, offset, hash, page, length, form: one row for each row of the file
pages.bin    the pages that places refer to
seeks.bin    the pages' seek points, as uint64
unit.json    FileFacts
"""

from array import array
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from app.catalog import duck
from app.catalog.limits import BuildLimits
from app.errors import DamagedFileError, UnsupportedError
from app.images.stored import Form, classify
from app.json_object import JsonStream
from app.parquet.columns import Columns, choose_columns, read_footer
from app.parquet.pages import Layout, Page, pack_page
from app.parquet.place import PLACE_TYPE, Place, Places, hash_stored, note_value
from app.parquet.scan import ColumnScan, ScanLimits
from app.storage import FileStamp, Read, read_exactly, stamp_file

ROWS = pa.schema(
    [
        ("key", pa.string()),
        ("offset", pa.uint64()),
        ("hash", pa.uint64()),
        ("page", pa.uint32()),
        ("length", pa.uint32()),
        ("form", pa.uint8()),
    ]
)
_BATCH_ROWS = 16_384
# Rows compared with DuckDB's reading: the first, the last and some between, so that dictionary
# pages and plain pages both have theirs. Each costs DuckDB a page of 100 MB in a pandas file.
_COMPARED_ROWS = 6


class FileFacts(msgspec.Struct, frozen=True):
    """What is known of an indexed images file."""

    path: str
    size_bytes: int
    mtime_ns: int
    rows: int
    pages: int
    seeks: int
    reader: str  # in_place, whole_pages or duckdb
    reason: str | None  # why it is not in_place
    is_compared: bool  # with DuckDB's reading
    key_column: str | None
    value_column: str | None

    @property
    def stamp(self) -> FileStamp:
        """The stamp that reads are checked against."""
        return FileStamp(self.path, self.size_bytes, self.mtime_ns)


Scanned = tuple[pa.Array, Places]  # keys and places of some rows


def index_file(
    path: str,
    key_column: str | None,
    value_column: str | None,
    limits: BuildLimits,
    folder: Path,
    advance: Callable[[int], None],
) -> None:
    """Write the unit of an images file into `folder`; `advance` hears of the bytes read.

    Raises SourceError if the file can not be read as images by key.
    """
    stamp = stamp_file(path)
    with open(path, "rb", buffering=0) as file:
        read = read_exactly(file.fileno(), path, advance)
        if path.endswith(".json"):
            facts = _index_json(stamp, read, limits, folder)
        else:
            with duck.connected(memory_bytes=limits.duckdb_memory_bytes, threads=1) as connection:
                reference = duck.ParquetRows(connection)
                named = (key_column, value_column)
                facts = _index_parquet(stamp, read, named, reference, limits, folder)
    if stamp_file(path) != stamp:
        raise DamagedFileError(f"{path} changed while it was indexed; index again when it is still")
    (folder / "unit.json").write_bytes(msgspec.json.encode(facts))


def _index_json(stamp: FileStamp, read: Read, limits: BuildLimits, folder: Path) -> FileFacts:
    page = Page(0, Layout.AS_IS, "uncompressed", 0, stamp.size_bytes, stamp.size_bytes, 0)
    stream = JsonStream(stamp.path, read, stamp.size_bytes, limits.max_value_bytes)
    rows = _write(folder, _json_rows(stream), lambda: ([page], array("Q")))
    return FileFacts(
        stamp.path,
        stamp.size_bytes,
        stamp.mtime_ns,
        rows,
        1,
        0,
        "in_place",
        None,
        False,
        None,
        None,
    )


def _json_rows(stream: JsonStream) -> Iterator[Scanned]:
    keys: list[str] = []
    places: list[Place] = []
    for key in stream.members():
        keys.append(key)
        places.append(_json_place(stream))
        if len(keys) == _BATCH_ROWS:
            yield _json_keys(keys), np.array(places, PLACE_TYPE)
            keys, places = [], []
    stream.end()
    yield _json_keys(keys), np.array(places, PLACE_TYPE)


def _json_keys(keys: list[str]) -> pa.Array:
    try:
        return pa.array(keys, pa.string())
    except UnicodeEncodeError:  # a lone surrogate is no text, so no request can name its key
        return pa.array([key if _is_text(key) else None for key in keys], pa.string())


def _is_text(key: str) -> bool:
    return not any("\ud800" <= character <= "\udfff" for character in key)


def _json_place(stream: JsonStream) -> Place:
    """The place of a value: text, null, or a list of which the first is meant."""
    if stream.peek() == "[":
        places = [_json_scalar(stream) for _ in stream.items()]
        return places[0] if places else Place(0, 0, 0, 0, Form.NULL)
    return _json_scalar(stream)


def _json_scalar(stream: JsonStream) -> Place:
    if stream.peek() == '"':
        span = stream.string_span()
        form = classify(span.text, raw=False, json_string=True)
        return Place(span.offset, hash_stored(span.text), 0, len(span.text), form)
    form = Form.NULL if stream.value() is None else Form.UNDECODABLE
    return Place(0, 0, 0, 0, form)


def _index_parquet(
    stamp: FileStamp,
    read: Read,
    named: tuple[str | None, str | None],
    reference: duck.ParquetRows,
    limits: BuildLimits,
    folder: Path,
) -> FileFacts:
    footer = read_footer(stamp.path)
    columns = choose_columns(stamp.path, footer, *named)
    compared = _Compared(footer.num_rows)
    scan_limits = ScanLimits(limits.max_value_bytes, limits.max_page_bytes)
    reason = None
    for enter_snappy in (True, False):
        scan = ColumnScan(read, footer, columns.value, scan_limits, enter_snappy=enter_snappy)
        try:
            zipped = _zip(stamp.path, columns, compared.watch(scan.places()))
            rows = _write(folder, zipped, lambda: (scan.pages, scan.seeks))
            is_compared = compared.check(reference, stamp.path, columns.value.path)
        except UnsupportedError as error:
            reason = reason or str(error)
            continue
        except DamagedFileError as error:
            raise DamagedFileError(f"{stamp.path}: {error}") from error
        is_whole = any(page.layout == Layout.WHOLE for page in scan.pages)
        reason = reason or (f"its codec is {scan.pages[0].codec}" if is_whole else None)
        reader = "whole_pages" if is_whole else "in_place"
        pages, seeks = len(scan.pages), len(scan.seeks)
        break
    else:
        reader, is_compared, pages, seeks = "duckdb", True, 1, 0
        page = Page(0, Layout.DUCKDB, "uncompressed", 0, 0, 0, 0)
        values = _duckdb_places(reference, stamp.path, columns, limits)
        try:
            rows = _write(folder, _zip(stamp.path, columns, values), lambda: ([page], array("Q")))
        except MemoryError as error:
            raise DamagedFileError(
                f"{error}; its values can not be read in place either, because {reason}. Write the "
                "file again with smaller pages, or raise duckdb_memory_bytes."
            ) from error
    return FileFacts(
        stamp.path,
        stamp.size_bytes,
        stamp.mtime_ns,
        rows,
        pages,
        seeks,
        reader,
        reason,
        is_compared,
        columns.key.path,
        columns.value.path,
    )


def _duckdb_places(
    reference: duck.ParquetRows, path: str, columns: Columns, limits: BuildLimits
) -> Iterator[Places]:
    is_text = columns.value.is_text
    found: list[Place] = []
    for row, stored in enumerate(reference.scan(path, columns.value.path)):
        if stored is None:
            found.append(Place(row, 0, 0, 0, Form.NULL))
        else:
            kept = memoryview(stored) if len(stored) <= limits.max_value_bytes else None
            found.append(note_value(0, row, len(stored), kept, is_text=is_text))
        if len(found) == _BATCH_ROWS:
            yield np.array(found, PLACE_TYPE)
            found = []
    yield np.array(found, PLACE_TYPE)


class _Compared:
    """Some rows of a file, to be compared with DuckDB's reading of them."""

    def __init__(self, rows: int) -> None:
        last = rows - 1
        steps = range(_COMPARED_ROWS)
        self._rows = sorted({last * step // (_COMPARED_ROWS - 1) for step in steps} if rows else ())
        self._places: dict[int, Place] = {}

    def watch(self, blocks: Iterator[Places]) -> Iterator[Places]:
        """The blocks as they come, noting the places of the rows to compare."""
        first = 0
        self._places.clear()
        for block in blocks:
            for row in self._rows:
                if first <= row < first + len(block):
                    self._places[row] = Place(*block[row - first].item())
            first += len(block)
            yield block

    def check(self, reference: duck.ParquetRows, path: str, column: str) -> bool:
        """Whether DuckDB read the rows; raises UnsupportedError if it read other values."""
        if not self._places:
            return True
        try:
            found = reference.get(path, column, list(self._places))
        except MemoryError:
            return False
        for row, place in self._places.items():
            if not _agree(place, found.get(row)):
                raise UnsupportedError(f"DuckDB reads row {row} differently")
        return True


def _agree(place: Place, stored: bytes | None) -> bool:
    if stored is None or place.form == Form.NULL:
        return stored is None and place.form == Form.NULL
    if len(stored) != place.length:
        return False
    return place.form == Form.TOO_LARGE or hash_stored(stored) == place.hash


def _zip(path: str, columns: Columns, blocks: Iterator[Places]) -> Iterator[Scanned]:
    """Put the keys beside the places of the same rows."""
    keys = _KeyColumn(path, columns.key.path)
    for places in blocks:
        if len(places):
            yield keys.take(len(places)), places
    if keys.take_any():
        raise DamagedFileError("it has more keys than values")


class _KeyColumn:
    """The keys of a file from the front, read by pyarrow some thousand rows at a time."""

    def __init__(self, path: str, column: str) -> None:
        self._batches = self._read(path, column)
        self._held = pa.array([], pa.string())

    @staticmethod
    def _read(path: str, column: str) -> Iterator[pa.Array]:
        try:
            with pq.ParquetFile(path, pre_buffer=False, buffer_size=1 << 20) as file:
                for batch in file.iter_batches(_BATCH_ROWS, columns=[column], use_threads=False):
                    keys = batch.column(0)
                    for name in column.split(".")[1:]:
                        keys = keys.field(name)
                    yield keys.cast(pa.string())
        except (OSError, ValueError, pa.ArrowException) as error:
            raise DamagedFileError(f"its key column can not be read: {error}") from error

    def take(self, count: int) -> pa.Array:
        parts = [self._held]
        have = len(self._held)
        while have < count:
            batch = next(self._batches, None)
            if batch is None:
                raise DamagedFileError("it has fewer keys than values")
            parts.append(batch)
            have += len(batch)
        joined = pa.concat_arrays(parts) if len(parts) > 1 else self._held
        self._held = joined.slice(count)
        return joined.slice(0, count)

    def take_any(self) -> bool:
        return bool(len(self._held)) or any(len(batch) for batch in self._batches)


def _write(
    folder: Path,
    scanned: Iterator[Scanned],
    found: Callable[[], tuple[list[Page], "array[int]"]],
) -> int:
    """Write rows as they come and then the pages they turned out to lie in; the number of rows."""
    rows = 0
    with pa.OSFile(str(folder / "rows.arrow"), "wb") as sink, pa.ipc.new_file(sink, ROWS) as file:
        for keys, places in scanned:
            columns = [keys, *(pa.array(places[name]) for name in ROWS.names[1:])]
            file.write_batch(pa.record_batch(columns, schema=ROWS))
            rows += len(keys)
    pages, seeks = found()
    (folder / "pages.bin").write_bytes(b"".join(map(pack_page, pages)))
    (folder / "seeks.bin").write_bytes(seeks.tobytes())
    return rows
