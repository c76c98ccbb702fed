"""One images file, indexed: the key and place of every row, in a unit of its own.

rows.arrow   key, offset, hash, page, length, form: one row for each row of the file
pages.bin    the pages that places refer to
seeks.bin    the pages' seek points, as uint64
unit.json    FileFacts
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import msgspec

from app.catalog.image_rows import write_pages, write_rows
from app.catalog.json_images import scan_json
from app.catalog.parquet_images import scan_parquet
from app.catalog.tools import BuildTools
from app.storage import FileStamp
from app.storage.sources import open_source


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
    value_parts: list[str]  # the names on the way to it
    etag: str | None = None  # of an object
    version: str | None = None

    @property
    def stamp(self) -> FileStamp:
        """The stamp that reads are checked against."""
        return FileStamp(self.path, self.size_bytes, self.mtime_ns, self.etag, self.version)


def index_file(
    path: str,
    key_column: str | None,
    value_column: str | None,
    tools: BuildTools,
    folder: Path,
    advance: Callable[[int], None],
) -> None:
    """Write the unit of an images file into `folder`; `advance` hears of the bytes read.

    Raises SourceError if the file can not be read as images by key.
    """
    write = partial(write_rows, folder)
    with open_source(path, tools.objects, advance) as source:
        stamp = source.stamp
        if path.endswith(".json"):
            scanned = scan_json(stamp, source.read, tools.limits, write)
        else:
            named = (key_column, value_column)
            scanned = scan_parquet(source, named, tools.reference, tools.limits, write, folder)
        source.check_still()
    write_pages(folder, scanned)
    facts = FileFacts(
        path=path,
        size_bytes=stamp.size_bytes,
        mtime_ns=stamp.mtime_ns,
        rows=scanned.rows,
        pages=len(scanned.pages),
        seeks=len(scanned.seeks),
        reader=scanned.reader,
        reason=scanned.reason,
        is_compared=scanned.is_compared,
        key_column=scanned.key_column,
        value_column=scanned.value_column,
        value_parts=scanned.value_parts,
        etag=stamp.etag,
        version=stamp.version,
    )
    (folder / "unit.json").write_bytes(msgspec.json.encode(facts))
