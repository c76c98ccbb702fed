"""A damaged file is refused, or what is served of it is what DuckDB reads: never anything else.

Every batch of damaged files runs in a process of its own, with bounded memory and time, so that a
crash, a hang or a huge allocation is a failure and not the end of the tests.
"""

import faulthandler
import json
import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any

import duckdb
import pyarrow as pa
import pytest
from parquet_files import (
    LIMITS,
    PNG,
    Rows,
    flat_base64,
    opened_images,
    oracle,
    put_in_place,
    random_base64,
    table_of,
    write,
)

from app.catalog.image_source import ImageSource
from app.catalog.limits import BuildLimits
from app.errors import SourceChangedError, SourceError
from app.images.stored import Form

CASE_SECONDS = 10
MEMORY_BYTES = 3 << 30  # of addresses: DuckDB and pyarrow take 1 to 2 GB of them for their arenas
SMALL = BuildLimits(1 << 20, 16 << 20, 256 << 20, 1)

Damage = Callable[[bytes, Random], bytes]


# Files to damage, and ways to


def small_values(seed: int) -> list[str | None]:
    random = Random(seed)
    repeated = random_base64(random, 20)
    values = [random_base64(random, random.randint(1, 60)) for _ in range(8)]
    return [*values, flat_base64(200), repeated, None, repeated, "", "no base64", repeated]


def write_small(layout: str, path: Path) -> Path:
    """A valid file of one or two KB."""
    options: dict[str, Any] = {"compression": layout.split("-")[0], "store_schema": False}
    table = table_of(small_values(1), prefix="K")
    if "-plain" in layout:
        options["use_dictionary"] = False
    if "-v2" in layout:
        options["data_page_version"] = "2.0"
    if "-delta" in layout:
        options |= {"use_dictionary": False, "column_encoding": "DELTA_LENGTH_BYTE_ARRAY"}
    if "-groups" in layout:
        options |= {"row_group_size": 4, "max_rows_per_page": 2}
    if "-binary" in layout:
        values = [PNG + bytes([n] * n) for n in range(15)]
        table = table_of(values, prefix="K", value_type=pa.binary())
    return write(path, table, **options)


LAYOUTS = [
    "none",
    "none-plain",
    "none-v2-plain",
    "snappy",
    "snappy-plain",
    "snappy-v2",
    "snappy-v2-plain-groups",
    "snappy-plain-binary",
    "gzip-plain",
    "zstd",
    "zstd-v2-plain",
    "lz4-plain",
    "brotli",
    "none-delta",
    "zstd-delta",
]


def flip(data: bytes, random: Random) -> bytes:
    damaged = bytearray(data)
    damaged[random.randrange(4, len(data) - 8)] ^= random.randint(1, 255)
    return bytes(damaged)


def flip_some(data: bytes, random: Random) -> bytes:
    for _ in range(random.randint(2, 6)):
        data = flip(data, random)
    return data


def overwrite(data: bytes, random: Random) -> bytes:
    start = random.randrange(4, len(data) - 8)
    length = min(random.randint(1, 40), len(data) - 8 - start)
    filler = random.choice([bytes(length), b"\xff" * length, random.randbytes(length)])
    return data[:start] + filler + data[start + length :]


def cut_out(data: bytes, random: Random) -> bytes:
    start = random.randrange(4, len(data) - 8)
    return data[:start] + data[start + random.randint(1, 40) :]


def repeat(data: bytes, random: Random) -> bytes:
    start = random.randrange(4, len(data) - 8)
    return data[: start + random.randint(1, 40)] + data[start:]


def extreme(data: bytes, random: Random) -> bytes:
    """Put a number at its largest where there may be one: a varint, or four bytes of length."""
    start = random.randrange(4, len(data) - 13)
    number = random.choice(
        [b"\xff\xff\xff\xff\x0f", b"\xff\xff\xff\x7f", b"\xff" * 9 + b"\x01", b"\x80" * 5, b"\0" * 4]
    )
    return data[:start] + number + data[start + len(number) :]


DAMAGES: dict[str, Damage] = {
    function.__name__: function
    for function in (flip, flip_some, overwrite, cut_out, repeat, extreme)
}


# What has to hold of a damaged file


def check_damaged(path: Path, original: Rows, *, is_one_byte: bool) -> str:
    """Index the file and read every value; how it came out, for counting.

    Where DuckDB reads a row, its value is DuckDB's. Where DuckDB reads the rows that indexing
    compares and not this one, a value that is served is the original's if one byte only is damaged;
    after more damage, in the value and elsewhere, nobody can tell what it should be. Raises
    AssertionError where that is not so.
    """
    is_whole = True
    try:
        found: Rows = oracle(path, "key", "base64")
    except (duckdb.Error, UnicodeDecodeError):  # of a message that quotes damaged bytes
        is_whole = False
        found = read_rows(path, original, is_one_byte=is_one_byte)
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        try:
            with opened_images([path], Path(folder), limits=SMALL) as source:
                check_served(source, found, is_whole=is_whole)
                return f"served by {source.facts.files[0].reader}"
        except SourceError:
            return "refused, though DuckDB reads it" if is_whole else "refused"


def read_rows(path: Path, original: Rows, *, is_one_byte: bool) -> Rows:
    """The rows as DuckDB reads each on its own; where it can not, the original's if that counts."""
    rows = []
    sql = "SELECT key, base64 FROM read_parquet(?, file_row_number = true) WHERE file_row_number = ?"
    with duckdb.connect(":memory:") as connection:
        for number, row in enumerate(original):
            try:
                key, stored = connection.execute(sql, [str(path), number]).fetchall()[0]
                rows.append((key, stored.encode() if isinstance(stored, str) else stored))
            except (duckdb.Error, UnicodeDecodeError, IndexError):
                if is_one_byte:
                    rows.append(row)
    return rows


def check_served(source: ImageSource, found: Rows, *, is_whole: bool) -> None:
    expected: dict[str | None, bytes | None] = {}
    for key, stored in found:
        expected.setdefault(key, stored)
    for key, place in source.list_keys("", "", 1000):
        form = Form(place.form)
        value = bytes(source.read(place, wait=True)) if form.is_readable else b""
        if key not in expected:
            assert not is_whole, (key, form, value)
        elif form.is_readable:
            assert value == expected[key], (key, form, value, expected[key])
        elif is_whole:
            assert (expected[key] is None) == (form == Form.NULL), (key, form, expected[key])
            assert (expected[key] == b"") == (form == Form.EMPTY), (key, form, expected[key])
    if is_whole:
        assert source.facts.images == len([key for key in expected if key])


def run_batch(folder: Path, layout: str, damage: str, seed: int, count: int) -> None:
    """Damage a file `count` times; what came of it is printed as JSON."""
    original_path = write_small(layout, folder / "original.parquet")
    data = original_path.read_bytes()
    original = oracle(original_path, "key", "base64")
    random = Random(f"{layout} {damage} {seed}")
    outcomes: dict[str, int] = {}
    for number, damaged in enumerate(damaged_files(data, damage, random, count)):
        path = folder / f"damaged-{number}.parquet"
        path.write_bytes(damaged)
        faulthandler.dump_traceback_later(CASE_SECONDS, exit=True)
        outcome = check_damaged(path, original, is_one_byte=damage in ("flip", "truncate"))
        faulthandler.cancel_dump_traceback_later()
        outcomes[outcome] = outcomes.get(outcome, 0) + 1
        path.unlink()
    sys.stdout.write(json.dumps(outcomes))


def damaged_files(data: bytes, damage: str, random: Random, count: int) -> Iterator[bytes]:
    if damage == "truncate":
        yield from (data[:length] for length in range(len(data)))
    else:
        yield from (DAMAGES[damage](data, random) for _ in range(count))


if __name__ == "__main__":
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    run_batch(Path(sys.argv[1]), sys.argv[2], sys.argv[3], int(sys.argv[4]), int(sys.argv[5]))
