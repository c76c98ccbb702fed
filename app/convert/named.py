"""The picture files that a table of keys and paths names, in its order."""

import os
from collections.abc import Iterator

import pyarrow as pa

from app.convert.listing import Listed, Notes, batch_listed, find_fault
from app.convert.options import ImageOptions
from app.convert.records import check_columns, read_rows
from app.convert.sources import Source
from app.tasks.job import Advance


def list_named(
    source: Source, options: ImageOptions, notes: Notes, advance: Advance
) -> Iterator[pa.RecordBatch]:
    """The pictures; their paths are relative to the table's own folder, or absolute."""
    yield from batch_listed(_walk(source, options, notes, advance))


def _walk(
    source: Source, options: ImageOptions, notes: Notes, advance: Advance
) -> Iterator[Listed]:
    folder = os.path.dirname(source.path)
    columns = options.key_column or "key", options.path_column or "path"
    for row in read_rows(source.path, source.kind, options.limits.max_value_bytes, advance):
        if row.number == 0:
            check_columns(source.path, row, *columns)
        key, path = [(row.fields or {}).get(name) for name in columns]
        if not isinstance(key, str | None) or not isinstance(path, str) or not path:
            notes.rejects.add("invalid_row", source.path, None, row=row.number)
            continue
        found = os.path.join(folder, path)
        try:
            status = os.stat(found)
        except (OSError, ValueError):
            fault: str | None = "missing_file"
        else:
            fault = find_fault(found, status)
        if fault is not None:
            notes.rejects.add(fault, source.path, key, row=row.number, name=path)
        else:
            yield row.number, key, path, 0, status.st_size, status.st_mtime_ns
