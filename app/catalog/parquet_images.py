"""A Parquet file of images: its values in place, else its pages whole, else DuckDB's reading.

DuckDB's reading is the truth: rows of every file are compared with it before they are served.
"""

from array import array
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from app.catalog.compared import Compared
from app.catalog.duck import ParquetRows
from app.catalog.image_rows import BATCH_ROWS, Scanned, ScannedFile, WriteRows
from app.catalog.limits import BuildLimits
from app.errors import DamagedFileError, UnsupportedError
from app.images.stored import Form
from app.parquet.columns import Columns, Leaf, choose_columns, read_footer
from app.parquet.footer import list_chunks
from app.parquet.pages import Layout, Page
from app.parquet.place import PLACE_TYPE, Place, Places, note_value
from app.parquet.scan import ColumnScan, ScanLimits
from app.storage import is_address
from app.storage.sources import Source


def scan_parquet(
    source: Source,
    named: tuple[str | None, str | None],
    reference: ParquetRows,
    limits: BuildLimits,
    write_rows: WriteRows,
    folder: Path,
) -> ScannedFile:
    """Write the rows of the file, whose key and value columns may be named.

    What is only needed meanwhile is written into the folder.

    Raises SourceError if its columns are not plain or it can not be read.
    """
    path = source.stamp.path
    footer = read_footer(source)
    columns = choose_columns(path, footer, *named)
    try:
        chunks = list_chunks(source, columns.value.number)
        reasons: list[str] = []
        for enter_snappy in (True, False):
            scan = ColumnScan(
                source.read,
                chunks,
                columns.value,
                ScanLimits(limits.max_value_bytes, limits.max_page_bytes),
                enter_snappy=enter_snappy,
            )
            try:
                compared = Compared(source, chunks, limits.objects.compare_bytes, folder)
                return _scan_in_place(
                    source, columns, scan, compared, reference, write_rows, reasons
                )
            except UnsupportedError as error:
                reasons.append(str(error))
        if is_address(path):
            raise UnsupportedError(
                f"{path}: only DuckDB can read it, because {reasons[0]}, and it reads no objects. "
                "Put the file on a disk, or write it again as `mimicit repack` does."
            )
        return _scan_with_duckdb(source, columns, reference, limits, write_rows, reasons[0])
    except DamagedFileError as error:
        raise DamagedFileError(f"{path}: {error}") from error


def _scan_in_place(
    source: Source,
    columns: Columns,
    scan: ColumnScan,
    compared: Compared,
    reference: ParquetRows,
    write_rows: WriteRows,
    reasons: list[str],
) -> ScannedFile:
    rows = write_rows(_zip(source, columns, compared.watch(scan.places())))
    is_compared = compared.check(reference, columns.value.parts, scan.pages)
    whole = [page for page in scan.pages if page.layout == Layout.WHOLE]
    return ScannedFile(
        rows,
        scan.pages,
        scan.seeks,
        "whole_pages" if whole else "in_place",
        (reasons or [f"its codec is {whole[0].codec}"])[0] if whole else None,
        is_compared,
        columns.key.path,
        columns.value.path,
        list(columns.value.parts),
    )


def _scan_with_duckdb(
    source: Source,
    columns: Columns,
    reference: ParquetRows,
    limits: BuildLimits,
    write_rows: WriteRows,
    reason: str,
) -> ScannedFile:
    page = Page(0, Layout.DUCKDB, "uncompressed", 0, 0, 0, 0)
    values = _duckdb_places(reference, source.stamp.path, columns, limits)
    try:
        rows = write_rows(_zip(source, columns, values))
    except MemoryError as error:
        raise DamagedFileError(
            f"DuckDB can not read it in {limits.duckdb_memory_bytes:,} bytes, nor can it be read "
            f"in place, because {reason}. Raise the setting duckdb_memory_bytes (when converting, "
            "convert_memory_bytes), or write the file again with smaller pages."
        ) from error
    key, value = columns.key.path, columns.value.path
    parts = list(columns.value.parts)
    return ScannedFile(rows, [page], array("Q"), "duckdb", reason, True, key, value, parts)


def _duckdb_places(
    reference: ParquetRows, path: str, columns: Columns, limits: BuildLimits
) -> Iterator[Places]:
    is_text = columns.value.is_text
    found: list[Place] = []
    for row, stored in enumerate(reference.scan(path, columns.value.parts)):
        if stored is None:
            found.append(Place(row, 0, 0, 0, Form.NULL))
        else:
            kept = memoryview(stored) if len(stored) <= limits.max_value_bytes else None
            found.append(note_value(0, row, len(stored), kept, is_text=is_text))
        if len(found) == BATCH_ROWS:
            yield np.array(found, PLACE_TYPE)
            found = []
    yield np.array(found, PLACE_TYPE)


def _zip(source: Source, columns: Columns, blocks: Iterator[Places]) -> Iterator[Scanned]:
    """Put the keys beside the places of the same rows."""
    keys = _KeyColumn(source, columns.key)
    for places in blocks:
        if len(places):
            yield keys.take(len(places)), places
    if keys.take_any():
        raise DamagedFileError("it has more keys than values")


class _KeyColumn:
    """The keys of a file from the front, read by pyarrow some thousand rows at a time."""

    def __init__(self, source: Source, leaf: Leaf) -> None:
        self._batches = self._read(source, leaf)
        self._held = pa.array([], pa.string())

    @staticmethod
    def _read(source: Source, leaf: Leaf) -> Iterator[pa.Array]:
        try:
            with pq.ParquetFile(source.open(), pre_buffer=False, buffer_size=1 << 20) as file:
                for batch in file.iter_batches(BATCH_ROWS, columns=[leaf.path], use_threads=False):
                    keys = batch.column(0)
                    for name in leaf.parts[1:]:
                        keys = keys.field(name)
                    text = keys.cast(pa.string())
                    text.validate(full=True)  # pyarrow takes text from the file without looking
                    yield text
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
