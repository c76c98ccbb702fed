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
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pytest
from parquet_files import (
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

from app.catalog.image_file import index_file
from app.catalog.image_source import ImageSource
from app.catalog.limits import BuildLimits
from app.catalog.tools import BuildTools
from app.errors import DamagedFileError, SourceChangedError, SourceError, UnsupportedError
from app.images.stored import Form
from app.parquet.columns import Leaf
from app.parquet.footer import Chunk
from app.parquet.place import Places, new_places
from app.parquet.scan import ColumnScan, ScanLimits
from app.parquet.snappy import encode_varint
from app.storage import WouldBlockError

pytestmark = pytest.mark.slow

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
        [
            b"\xff\xff\xff\xff\x0f",
            b"\xff\xff\xff\x7f",
            b"\xff" * 9 + b"\x01",
            b"\x80" * 5,
            b"\0" * 4,
        ]
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
    """The rows as DuckDB reads each alone; where it can not, the original's if that counts."""
    rows = []
    sql = (
        "SELECT key, base64 FROM read_parquet(?, file_row_number = true) WHERE file_row_number = ?"
    )
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
        outcome = check_damaged(path, original, is_one_byte=damage == "flip")
        faulthandler.cancel_dump_traceback_later()
        outcomes[outcome] = outcomes.get(outcome, 0) + 1
        path.unlink()
    sys.stdout.write(json.dumps(outcomes))


def damaged_files(data: bytes, damage: str, random: Random, count: int) -> Iterator[bytes]:
    ways = list(DAMAGES.values()) if damage == "any" else [DAMAGES[damage]]
    return (ways[number % len(ways)](data, random) for number in range(count))


# Batches


def run_limited(folder: Path, *arguments: str) -> dict[str, int]:
    """Run a batch in a process of its own; what came of its files."""
    root = Path(__file__).parent.parent
    done = subprocess.run(
        [sys.executable, __file__, str(folder), *arguments],
        env={**os.environ, "PYTHONPATH": f"{root}{os.pathsep}{root / 'tests'}"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    outcomes: dict[str, int] = json.loads(done.stdout)
    return outcomes


@pytest.mark.parametrize("layout", LAYOUTS)
def test_damaged_anywhere(layout: str, tmp_path: Path) -> None:
    """Indexed under bounded memory and time; most flips of a byte are harmless or found."""
    outcomes = run_limited(tmp_path, layout, "any", "1", "24")
    assert sum(outcomes.values()) == 24
    assert outcomes["refused"] > 8


@pytest.mark.parametrize("layout", ["none-plain", "snappy-v2-plain-groups"])
def test_every_truncation_is_refused(layout: str, tmp_path: Path) -> None:
    """A Parquet file ends in its footer, so nothing else comes to see one cut short."""
    path = write_small(layout, tmp_path / "a.parquet")
    data = path.read_bytes()
    unit = tmp_path / "unit"
    unit.mkdir()
    with BuildTools(SMALL, tmp_path / "spill") as tools:
        for length in range(len(data)):
            path.write_bytes(data[:length])
            with pytest.raises(SourceError, match=r"a\.parquet"):
                index_file(str(path), None, None, tools, unit, lambda _: None)


@pytest.mark.parametrize("layout", ["snappy", "none-v2-plain", "zstd-delta"])
def test_pages_cut_off_under_a_whole_footer(layout: str, tmp_path: Path) -> None:
    """Every run of bytes after the first pages' header is taken away or zeroed."""
    outcomes = run_limited(tmp_path, layout, "cut_out", "2", "24")
    assert set(outcomes) <= {"refused", "refused, though DuckDB reads it"}


# Damage after indexing


@pytest.mark.parametrize("layout", [layout for layout in LAYOUTS if "binary" not in layout])
def test_damage_under_an_indexed_file_is_never_served(layout: str, tmp_path: Path) -> None:
    """Same size, same modification time: each value is the original's or SourceChangedError."""
    path = write_small(layout, tmp_path / "a.parquet")
    data = path.read_bytes()
    original = dict(oracle(path, "key", "base64"))
    random = Random(layout)
    refused = 0
    # No page stays in the cache, or the pages that are decoded whole would not be read again.
    with opened_images([path], tmp_path, page_cache_bytes=0) as source:
        places = [(key, place) for key, place in source.list_keys("", "", 100)]
        for number in range(150):
            damage = (flip, overwrite, extreme)[number % 3]
            put_in_place(path, damage(data, random))
            for key, place in places:
                if not Form(place.form).is_readable:
                    continue
                for wait in (True, False):
                    try:
                        stored = bytes(source.read(place, wait=wait))
                    except SourceChangedError:
                        refused += 1
                    except WouldBlockError:
                        assert not wait
                    else:
                        assert stored == original[key]
        put_in_place(path, data)
        for key, place in places:
            if Form(place.form).is_readable:
                assert bytes(source.read(place, wait=True)) == original[key]
    assert refused > 10


# Crafted files


def zigzag(number: int) -> bytes:
    return encode_varint(number << 1 if number >= 0 else (-number << 1) - 1)


def header(kind: int, length: int, stored: int, fields: bytes) -> bytes:
    """A page header: its type, its two sizes, and the struct of that type's own fields."""
    number = {0: 5, 2: 7, 3: 8}[kind]
    return (
        b"\x15" + zigzag(kind) + b"\x15" + zigzag(length) + b"\x15" + zigzag(stored)
        + bytes([(number - 3) << 4 | 12]) + fields + b"\0\0"
    )  # fmt: skip


def data_page(count: int, encoding: int, body: bytes, length: int | None = None) -> bytes:
    fields = b"\x15" + zigzag(count) + b"\x15" + zigzag(encoding) + b"\x15\x06\x15\x06"
    return header(0, len(body) if length is None else length, len(body), fields) + body


def data_page_v2(count: int, levels: int, body: bytes, length: int | None = None) -> bytes:
    fields = b"".join(b"\x15" + zigzag(number) for number in (count, 0, count, 0, levels, 0))
    return header(3, len(body) if length is None else length, len(body), fields) + body


def dictionary_page(count: int, body: bytes, length: int | None = None) -> bytes:
    fields = b"\x15" + zigzag(count) + b"\x15\0"
    return header(2, len(body) if length is None else length, len(body), fields) + body


def plain(*values: bytes) -> bytes:
    return b"".join(len(value).to_bytes(4, "little") + value for value in values)


def scan(
    pages: bytes, codec: str = "uncompressed", rows: int = 1, *, nullable: bool = True
) -> Places:
    """The places in a chunk of those pages; Snappy that can not be entered is decoded whole."""

    def read(offset: int, length: int) -> bytes:
        if offset + length > len(pages) + 4:
            raise DamagedFileError("ends too early")
        return pages[offset - 4 : offset - 4 + length]

    chunk = Chunk(rows, rows, codec, 4, len(pages))
    leaf = Leaf("base64", ("base64",), 0, True, False, 1)
    limits = ScanLimits(SMALL.max_value_bytes, SMALL.max_page_bytes)
    for enter_snappy in (True, False):
        try:
            found = ColumnScan(read, [chunk], leaf, limits, enter_snappy=enter_snappy)
            return np.concatenate([new_places(0), *found.places()])
        except UnsupportedError:
            if not enter_snappy:
                raise
    raise AssertionError


RUN_OF_2_31 = encode_varint(1 << 32) + b"\x01"
ONE = (4).to_bytes(4, "little") + b"QUJD"
LEVEL = (2).to_bytes(4, "little") + b"\x02\x01"  # one row, not null


def compressed(codec: str, data: bytes) -> bytes:
    return bytes(pa.Codec(codec).compress(data))


def test_crafted_pages_are_read_where_they_are_right() -> None:
    """The builders above make what they say, so that refusals below are for the reason given."""
    body = plain(b"QUJD")
    assert body == ONE
    for pages in (
        data_page(1, 0, LEVEL + body),
        data_page_v2(1, 2, b"\x02\x01" + body),
        dictionary_page(1, body) + data_page(1, 8, LEVEL + b"\x01\x02\x00"),
    ):
        (place,) = scan(pages)
        assert (place["length"], place["form"]) == (4, Form.BASE64)
    for codec in ("snappy", "gzip", "zstd", "lz4_raw", "brotli"):
        page = data_page(1, 0, compressed(codec, LEVEL + body), len(LEVEL + body))
        assert scan(page, codec)["length"].tolist() == [4]
    crossing = encode_varint(70_000) + b"\xf8" + (69_999).to_bytes(3, "little") + LEVEL
    crossing += (69_990).to_bytes(4, "little") + b"A" * 69_990
    assert scan(data_page(1, 0, crossing, 70_000), "snappy")["length"].tolist() == [69_990]


CRAFTED: dict[str, tuple[bytes, str, int]] = {
    "stored size of 2 GB": (header(0, 10, 2**31 - 1, b"\x15\x02\x15\0\x15\x06\x15\x06"), "zstd", 1),
    "both sizes of 2 GB": (header(0, 2**31 - 1, 2**31 - 1, b"\x15\x02\x15\0\x15\x06"), "none", 1),
    "length of 2 GB": (data_page(1, 0, LEVEL + ONE, 2**31 - 1), "uncompressed", 1),
    "length of 2 GB, zstd": (data_page(1, 0, compressed("zstd", LEVEL), 2**31 - 1), "zstd", 1),
    "2 GB of snappy": (data_page(1, 0, compressed("snappy", LEVEL), 2**31 - 1), "snappy", 1),
    "negative size": (header(0, -5, 10, b"\x15\x02\x15\0\x15\x06\x15\x06") + bytes(10), "zstd", 1),
    "2^31 - 1 rows": (data_page(2**31 - 1, 0, RUN_OF_2_31), "uncompressed", 2**31 - 1),
    "2^31 - 1 rows v2": (data_page_v2(2**31 - 1, 6, RUN_OF_2_31), "uncompressed", 2**31 - 1),
    "more rows than levels": (data_page(1000, 0, LEVEL + ONE), "uncompressed", 1000),
    "more rows than the chunk": (data_page(9, 0, LEVEL + ONE), "uncompressed", 1),
    "fewer rows than the chunk": (data_page(1, 0, LEVEL + ONE), "uncompressed", 9),
    "levels of 2 GB": (data_page(1, 0, b"\xff\xff\xff\x7f" + ONE), "uncompressed", 1),
    "levels of 2 GB v2": (data_page_v2(1, 2**31 - 1, b"\x02\x01" + ONE), "none", 1),
    "a level over its width": (
        data_page(1, 0, b"\x02\0\0\0\x02\x02" + ONE), "uncompressed", 1,
    ),
    "dictionary of 2^31 - 1": (dictionary_page(2**31 - 1, ONE), "uncompressed", 1),
    "dictionary of more than its page": (dictionary_page(3, ONE), "uncompressed", 1),
    "no dictionary": (data_page(1, 8, LEVEL + b"\x01\x02\x00"), "uncompressed", 1),
    "index out of range": (
        dictionary_page(1, ONE) + data_page(1, 8, LEVEL + b"\x01\x02\x01"),
        "uncompressed", 1,
    ),
    "index far out of range": (
        dictionary_page(1, ONE) + data_page(1, 8, LEVEL + b"\x20\x02\xff\xff\xff\xff"),
        "uncompressed", 1,
    ),
    "index into an empty dictionary": (
        dictionary_page(0, b"") + data_page(1, 8, LEVEL + b"\0\x02"), "uncompressed", 1,
    ),
    "indices of 33 bits": (
        dictionary_page(1, ONE) + data_page(1, 8, LEVEL + b"\x21\x02\0\0\0\0\0"),
        "uncompressed", 1,
    ),
    "an endless run header": (
        dictionary_page(1, ONE) + data_page(1, 8, LEVEL + b"\x01" + b"\xff" * 40),
        "uncompressed", 1,
    ),
    "a value of 4 GB": (data_page(1, 0, LEVEL + b"\xff\xff\xff\xffQUJD"), "uncompressed", 1),
    "a value past the page": (data_page(1, 0, LEVEL + b"\x05\0\0\0QUJD"), "uncompressed", 1),
    "bytes after the last value": (data_page(1, 0, LEVEL + ONE + b"x"), "uncompressed", 1),
    "snappy that says more": (data_page(1, 0, b"\xff\xff\xff\xff\x07" + LEVEL, 14), "snappy", 1),
    "snappy that says less": (
        data_page(1, 0, compressed("snappy", LEVEL + ONE), 15), "snappy", 1,
    ),
    "a copy before the start": (data_page(1, 0, b"\x0e\x01\x0a" + b"A" * 14, 14), "snappy", 1),
    "a snappy copy of no distance": (data_page(1, 0, b"\x0e\x00A\x32\0\0", 14), "snappy", 1),
    "a literal past the end": (data_page(1, 0, b"\x0e\xfc\xff\xff\xff\x7f", 14), "snappy", 1),
    "snappy that goes on": (
        data_page(1, 0, compressed("snappy", LEVEL + ONE) + b"\0A", 14), "snappy", 1,
    ),
    "a struct in a struct in a struct": (b"\x1c" * 100_000, "uncompressed", 1),
    "a list of 2^40": (b"\x19\xf5" + encode_varint(1 << 40) + b"\x02" * 100, "uncompressed", 1),
    "booleans": (b"\x19\xf0" + encode_varint(1 << 40) + b"\x02" * 100, "uncompressed", 1),
    "a string of 2^60": (b"\x18" + encode_varint(1 << 60) + b"x" * 100, "uncompressed", 1),
    "a header of 2 MB": (b"\x18\x80\x80\x80\x01" + bytes(2 << 20), "uncompressed", 1),
    "nothing": (b"\0" * 10, "uncompressed", 1),
}  # fmt: skip


@pytest.mark.parametrize("name", CRAFTED)
def test_crafted_pages_are_refused(name: str) -> None:
    """Each lies about a size, a count or a reference; nothing is allocated for the lie."""
    pages, codec, rows = CRAFTED[name]
    with refused_within(32 << 20):
        scan(pages, codec.replace("none", "uncompressed"), rows)


@pytest.mark.parametrize("claim", [14, 1 << 20, 15 << 20])
@pytest.mark.parametrize("codec", ["zstd", "gzip", "lz4_raw", "brotli", "snappy"])
def test_pages_that_decode_to_more_than_they_say(codec: str, claim: int) -> None:
    """100 MB of nothing in a page that says it has less, and a page that has less than it says."""
    bomb = data_page(1, 0, compressed(codec, bytes(100 << 20)), claim)
    short = data_page(1, 0, compressed(codec, LEVEL + ONE), claim + 1)
    for pages in (bomb, short):
        with refused_within(50 << 20):
            scan(pages, codec)


def test_a_short_snappy_page_after_one_that_can_not_be_entered() -> None:
    """Once a page of a file is decoded whole all are: its length is still not taken on trust."""
    crossing = encode_varint(70_000) + b"\xf8" + (69_999).to_bytes(3, "little") + LEVEL
    crossing += (69_990).to_bytes(4, "little") + b"A" * 69_990
    short = compressed("snappy", LEVEL + ONE)
    pages = data_page(1, 0, crossing, 70_000) + data_page(1, 0, short, 15)
    with refused_within(32 << 20):
        scan(pages, "snappy", rows=2)


@contextmanager
def refused_within(limit_bytes: int) -> Iterator[None]:
    tracemalloc.start()
    try:
        with pytest.raises(SourceError):
            yield
        assert tracemalloc.get_traced_memory()[1] < limit_bytes
    finally:
        tracemalloc.stop()


if __name__ == "__main__":
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    run_batch(Path(sys.argv[1]), sys.argv[2], sys.argv[3], int(sys.argv[4]), int(sys.argv[5]))
