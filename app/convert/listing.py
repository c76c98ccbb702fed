"""The pictures of a folder, a tar or a table of paths, listed and not read: a unit of its own.

rows.arrow      row, key, name, offset, length, mtime_ns: one for each picture, in order
rejected.jsonl  what can not be one
unit.json       ListFacts
"""

import os
import stat
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pyarrow as pa
from xxhash import xxh3_128

from app.catalog.image_rows import BATCH_ROWS
from app.convert.rejects import RejectWriter

# `row` is the number of a table's row, or counts. `name` is the path of a file of its own, relative
# to the folder that is listed or that the table is in, and null of a tar's member.
LISTING = pa.schema(
    [
        ("row", pa.uint64()),
        ("key", pa.binary()),
        ("name", pa.binary()),
        ("offset", pa.uint64()),
        ("length", pa.uint64()),
        ("mtime_ns", pa.int64()),
    ]
)
_SUFFIX_CHARACTERS = 10  # what is longer is part of a name that happens to have a dot

Listed = tuple[int, str | None, str | None, int, int, int]


class ListFacts(msgspec.Struct, frozen=True):
    """What is known of a listed source; `digest` is of its rows."""

    path: str
    size_bytes: int
    mtime_ns: int
    rows: int
    digest: str
    passed_over: dict[str, int]  # files that are no pictures, by suffix
    rejected: dict[str, int]


class Notes:
    """What a listing comes across that is not converted."""

    def __init__(self, rejects: RejectWriter) -> None:
        self.rejects = rejects
        self.passed_over: Counter[str] = Counter()

    def pass_over(self, name: str) -> None:
        """A file that is no picture by its name."""
        base = name[name.rfind("/") + 1 :]
        suffix = base[base.rfind(".") :].lower() if "." in base else "no suffix"
        if len(suffix) > _SUFFIX_CHARACTERS or not suffix.isascii():
            suffix = "others"
        self.passed_over["hidden" if base.startswith(".") else suffix] += 1


def find_fault(path: str, status: os.stat_result) -> str | None:
    """Why the file is not one that can be read, of which that is the status; None if it is."""
    if not stat.S_ISREG(status.st_mode):
        return "no_plain_file"
    return None if os.access(path, os.R_OK) else "missing_file"


def batch_listed(rows: Iterator[Listed]) -> Iterator[pa.RecordBatch]:
    """The rows, some thousand at a time."""
    held: list[Listed] = []
    for row in rows:
        held.append(row)
        if len(held) == BATCH_ROWS:
            yield _to_batch(held)
            held = []
    if held:
        yield _to_batch(held)


def _to_batch(rows: list[Listed]) -> pa.RecordBatch:
    numbers, keys, names, *more = zip(*rows, strict=True)
    texts = [
        [None if text is None else text.encode() for text in column] for column in (keys, names)
    ]
    arrays = [
        pa.array(column, field.type)
        for column, field in zip([numbers, *texts, *more], LISTING, strict=True)
    ]
    return pa.record_batch(arrays, schema=LISTING)


def write_listing(folder: Path, batches: Iterator[pa.RecordBatch]) -> tuple[int, str]:
    """Write the rows; how many they are, and a digest of them."""
    rows, digest = 0, xxh3_128()
    with pa.OSFile(str(folder / "rows.arrow"), "wb") as sink, pa.ipc.new_file(sink, LISTING) as out:
        for batch in batches:
            out.write_batch(batch)
            rows += len(batch)
            columns = [column.to_pylist() for column in batch.columns]
            digest.update(b"".join(map(msgspec.msgpack.encode, zip(*columns, strict=True))))
    return rows, digest.hexdigest()
