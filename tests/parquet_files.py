"""Writes image files as people's tools do, and reads them as DuckDB does: the oracle."""

import base64
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from random import Random
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from app.catalog.duck import Database, ParquetRows
from app.catalog.image_file import index_file
from app.catalog.image_source import ImageSource, build_images
from app.catalog.limits import BuildLimits
from app.catalog.tools import BuildTools
from app.images.stored import Form
from app.parquet.reader import PageCache
from app.storage import LocalStorage, WouldBlockError

Rows = list[tuple[str | None, bytes | None]]

LIMITS = BuildLimits(
    max_value_bytes=64 << 20, max_page_bytes=256 << 20, duckdb_memory_bytes=1 << 30, processes=1
)
PNG = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"
JPEG = b"\xff\xd8\xff\xe0\0\x10JFIF\0"


def random_base64(random: Random, size_bytes: int) -> str:
    """Base64 that hardly compresses, as that of a JPEG."""
    return base64.b64encode(random.randbytes(size_bytes)).decode()


def flat_base64(size_bytes: int, seed: int = 0) -> str:
    """Base64 that compresses well, as that of a drawing: flat areas and a gradient."""
    half = bytes(seed % 256 for _ in range(size_bytes // 2))
    return base64.b64encode(half + bytes(n // 7 % 256 for n in range(size_bytes // 2))).decode()


def mixed_values(count: int, seed: int, largest_bytes: int = 3000) -> list[str | None]:
    """Values of every form: hardly and well compressible, repeated, null, empty, not base64."""
    random = Random(seed)
    repeated = random_base64(random, 500)
    values: list[str | None] = []
    for number in range(count):
        kind = number % 10
        if kind < 4:
            values.append(random_base64(random, random.randint(1, largest_bytes)))
        elif kind < 6:
            values.append(flat_base64(random.randint(2, largest_bytes), number))
        elif kind == 6:
            values.append(repeated)
        elif kind == 7:
            values.append(None)
        elif kind == 8:
            values.append("")
        else:
            values.append(f"no base64, {number} é漢" * random.randint(1, 40))
    random.shuffle(values)
    return values


def table_of(
    values: Sequence[Any],
    *,
    key_type: pa.DataType | None = None,
    value_type: pa.DataType | None = None,
    prefix: str = "IMG_",
) -> pa.Table:
    """A table of `base64` and then `key`, as pandas orders them."""
    keys = [f"{prefix}{number:05}" for number in range(len(values))]
    return pa.table(
        {
            "base64": pa.array(values, value_type or pa.string()),
            "key": pa.array(keys, key_type or pa.string()),
        }
    )


def write(path: Path, table: pa.Table, **options: Any) -> Path:
    """Write the table with pyarrow."""
    pq.write_table(table, path, **options)
    return path


def oracle(path: Path | str, key: str, value: str) -> Rows:
    """Every (key, stored bytes) as DuckDB reads the file, in its row order."""
    sql = (
        f"SELECT {key}, {value} FROM read_parquet(?, file_row_number = true, "
        "hive_partitioning = false) ORDER BY file_row_number"
    )
    with duckdb.connect(":memory:") as connection:
        rows = connection.execute(sql, [str(path)]).fetchall()
    return [(name, stored.encode() if isinstance(stored, str) else stored) for name, stored in rows]


@contextmanager
def opened_images(
    files: Iterable[Path | str],
    folder: Path,
    *,
    key_column: str | None = None,
    value_column: str | None = None,
    limits: BuildLimits = LIMITS,
    page_cache_bytes: int = 64 << 20,
) -> Iterator[ImageSource]:
    """The files' images, indexed and opened, as the catalog does it."""
    units = []
    joined = folder / "images"
    with BuildTools(limits, folder / "spill") as tools:
        for number, file in enumerate(files):
            unit = folder / f"unit-{number}"
            unit.mkdir(parents=True)
            index_file(str(file), key_column, value_column, tools, unit, lambda _: None)
            units.append(unit)
        joined.mkdir(parents=True)
        build_images(units, tools.joins, joined)
    reference = Database(limits.duckdb_memory_bytes, threads=1)
    storage = LocalStorage(8)
    rows = ParquetRows(reference)
    source = ImageSource(joined, lambda _: storage, PageCache(page_cache_bytes), rows)
    try:
        yield source
    finally:
        source.close()
        reference.close()


def read_twice(source: ImageSource, key: str) -> bytes:
    """The key's stored bytes, read as on the event loop and as on a thread: they are the same."""
    place = source.get_place(key)
    stored = bytes(source.read(place, wait=True))
    try:
        warm = source.read(place, wait=False)
    except WouldBlockError:
        pass
    else:
        assert bytes(warm) == stored
    return stored


def assert_agrees(source: ImageSource, rows: Rows) -> None:
    """Every key and value is what the oracle read; of a key that is there twice the first."""
    expected: dict[str, bytes | None] = {}
    for key, stored in rows:
        if key:
            expected.setdefault(key, stored)
    for key, stored in expected.items():
        place = source.get_place(key)
        if stored is None:
            assert place.form == Form.NULL, key
        elif not stored:
            assert place.form == Form.EMPTY, key
        else:
            assert place.form not in (Form.NULL, Form.TOO_LARGE), key
            assert read_twice(source, key) == stored, key
    listed = [key for key, _ in source.list_keys("", "", len(expected) + 1)]
    assert listed == sorted(expected, key=str.encode)
    assert source.facts.images == len(expected)


def put_in_place(path: Path, data: bytes) -> None:
    """Replace the bytes of a file of the same size, and leave its modification time."""
    stat = os.stat(path)
    assert len(data) == stat.st_size
    with open(path, "r+b") as file:
        file.write(data)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
