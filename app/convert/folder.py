"""The picture files of a folder and of those in it, however many, in the order of their names."""

import os
from collections.abc import Iterator

import pyarrow as pa

from app.catalog.duck import Database
from app.catalog.image_rows import BATCH_ROWS
from app.convert.listing import LISTING, Listed, Notes, batch_listed, find_fault
from app.convert.rejects import show_name
from app.convert.sources import is_picture, key_of

_Found = tuple[int, int]  # device and inode of a folder


def list_folder(path: str, notes: Notes, database: Database) -> Iterator[pa.RecordBatch]:
    """The pictures by their names; links are followed, but not into a folder that they are in."""
    found = pa.RecordBatchReader.from_batches(LISTING, batch_listed(_walk(path, notes)))
    rows = 0
    sql = "SELECT * FROM found ORDER BY name"
    for batch in database.query_arrow(sql, {"found": found}, BATCH_ROWS):
        numbers = pa.array(range(rows, rows + len(batch)), pa.uint64())
        yield batch.set_column(0, LISTING.field("row"), numbers)
        rows += len(batch)


def _walk(root: str, notes: Notes) -> Iterator[Listed]:
    waiting: list[tuple[str, tuple[_Found, ...]]] = [("", ())]
    while waiting:
        inside, above = waiting.pop()
        folder = os.path.join(root, inside)
        here = os.stat(folder)
        if (found := (here.st_dev, here.st_ino)) in above:
            continue
        if not os.access(folder, os.R_OK | os.X_OK):
            notes.rejects.add("missing_file", root, None, name=show_name(inside))
            continue
        with os.scandir(folder) as entries:
            for entry in entries:
                name = f"{inside}/{entry.name}" if inside else entry.name
                if _is_folder(entry):
                    if entry.name.startswith("."):
                        notes.pass_over(entry.name)
                    else:
                        waiting.append((name, (*above, found)))
                elif not is_picture(entry.name):
                    notes.pass_over(entry.name)
                elif (listed := _list_file(root, name, entry, notes)) is not None:
                    yield listed


def _is_folder(entry: "os.DirEntry[str]") -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def _list_file(root: str, name: str, entry: "os.DirEntry[str]", notes: Notes) -> Listed | None:
    try:
        name.encode()
        status = entry.stat()
    except UnicodeEncodeError:
        notes.rejects.add("foreign_name", root, None, name=show_name(name))
    except OSError:
        notes.rejects.add("missing_file", root, key_of(name), name=name)
    else:
        if fault := find_fault(entry.path, status):
            notes.rejects.add(fault, root, key_of(name), name=name)
        else:
            return 0, key_of(name), name, 0, status.st_size, status.st_mtime_ns
    return None
