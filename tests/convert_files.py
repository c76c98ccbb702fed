"""Conversions for tests, and their output as everybody reads it."""

import base64
import io
import json
import subprocess
import sys
import tarfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import dask.dataframe as dd
import duckdb
import pandas as pd
import polars as pl
import pyarrow.parquet as pq
from packs import draw_jpeg
from parquet_files import opened_images

from app.catalog.limits import BuildLimits
from app.convert.images import Converted, convert_images
from app.convert.options import ImageOptions
from app.images.stored import decode
from app.tasks.here import Here

LIMITS = BuildLimits(
    max_value_bytes=1 << 20, max_page_bytes=1 << 26, duckdb_memory_bytes=64 << 20, processes=1
)
ROOT = Path(__file__).parents[1]
Images = dict[str, bytes]


def draw_images(count: int) -> Images:
    """Pictures by keys that do not come in order."""
    return {f"IMG_{number * 7919 % 100_000:05}": draw_jpeg(number) for number in range(count)}


def convert(
    inputs: Iterable[Path | str] | Path,
    destination: Path,
    limits: BuildLimits = LIMITS,
    **more: Any,
) -> Converted:
    """Convert in this process."""
    paths = [inputs] if isinstance(inputs, Path) else inputs
    options = ImageOptions(limits, **more)
    found = list(map(str, paths))
    return convert_images(found, destination, options, lambda _: Here(), lambda _: None)


def run(*arguments: object, **more: Any) -> subprocess.CompletedProcess[str]:
    """`mimicit` with those arguments, in a process of its own."""
    words = [sys.executable, "-m", "app", *map(str, arguments)]
    return subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=120, **more)


def load_rejected(converted: Converted) -> list[dict[str, Any]]:
    """The lines of its rejected.jsonl."""
    assert converted.rejected_path is not None
    return [json.loads(line) for line in converted.rejected_path.read_text().splitlines()]


def write_json(path: Path, images: Mapping[str, object]) -> Path:
    """An images.json; bytes are written as base64, anything else as it is."""
    texts = {
        key: base64.b64encode(value).decode() if isinstance(value, bytes) else value
        for key, value in images.items()
    }
    path.write_text(json.dumps(texts))
    return path


def write_folder(folder: Path, images: Mapping[str, bytes], suffix: str = ".jpg") -> Path:
    """A folder of files by key."""
    for key, data in images.items():
        path = folder / f"{key}{suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return folder


def write_tar(path: Path, members: Mapping[str, bytes], **options: Any) -> Path:
    """A tar of files by name."""
    with tarfile.open(path, "w", **options) as tar:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


def list_parts(path: Path) -> list[Path]:
    """The files of an output, in order."""
    if path.is_file():
        return [path]
    return sorted(path.iterdir(), key=lambda part: int(part.name.split(".")[1]))


def read_rows(path: Path) -> list[tuple[str, bytes]]:
    """Keys and pictures in order, as pyarrow reads them."""
    rows = []
    for part in list_parts(path):
        table = pq.read_table(part).to_pydict()
        values = [base64.b64decode(value, validate=True) for value in table["base64"]]
        rows += list(zip(table["key"], values, strict=True))
    return rows


def read_with_pandas(path: Path) -> Images:
    frame = pd.read_parquet(path)
    assert [*frame.columns] == ["base64"]
    assert frame.index.name == "key"
    return {str(key): base64.b64decode(value) for key, value in frame["base64"].items()}


def read_with_dask(path: Path) -> Images:
    frame = dd.read_parquet(str(path)).compute()
    assert frame.index.name == "key"
    return {str(key): base64.b64decode(value) for key, value in frame["base64"].items()}


def read_with_duckdb(path: Path) -> Images:
    pattern = path if path.is_file() else path / "*.parquet"
    sql = "SELECT key, from_base64(base64) FROM read_parquet(?)"
    with duckdb.connect() as connection:
        return dict(connection.execute(sql, [str(pattern)]).fetchall())


def read_with_polars(path: Path) -> Images:
    frame = pl.read_parquet(path if path.is_file() else path / "*.parquet")
    return {
        key: base64.b64decode(value) for value, key in frame.select("base64", "key").iter_rows()
    }


def read_with_otter(path: Path) -> Images:
    """As Otter does: batches to pandas, by index, and the URL-safe alphabet."""
    frames = [
        batch.to_pandas()
        for part in list_parts(path)
        for batch in pq.ParquetFile(part).iter_batches()
    ]
    frame = pd.concat(frames)
    return {key: base64.urlsafe_b64decode(frame.loc[key]["base64"]) for key in frame.index}


def read_with_service(path: Path, folder: Path) -> Images:
    """As the service does, which has to read every file in place."""
    with opened_images(list_parts(path), folder) as source:
        assert {file.reader for file in source.facts.files} == {"in_place"}
        assert source.facts.readable == source.facts.images
        places = dict(source.list_keys("", "", source.facts.images + 1))
        return {
            key: decode(source.read(place, wait=True), place.form) for key, place in places.items()
        }


def assert_everybody_reads(path: Path, images: Images, folder: Path) -> None:
    """Every reader finds those images, and no others."""
    assert dict(read_rows(path)) == images
    assert read_with_pandas(path) == images
    assert read_with_dask(path) == images
    assert read_with_duckdb(path) == images
    assert read_with_polars(path) == images
    assert read_with_otter(path) == images
    assert read_with_service(path, folder) == images
