"""One picture by its key, in process: here, in DuckDB and in Lance, on the same pictures."""

import importlib
import importlib.util
import shutil
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from itertools import islice
from random import Random
from typing import Any

import duckdb
import pyarrow as pa
import pybase64

from app.catalog.image_source import ImageSource
from app.images.stored import Form, decode
from app.storage import WouldBlockError
from benchmarks.catalogs import find_catalog, index, open_catalog
from benchmarks.data import Data, ImageSet
from benchmarks.processes import warm
from benchmarks.report import Goal, Result
from benchmarks.writers import DATASET

_FASTER = 3000
_KINDS = {"pandas": "pandas' file", "dask": "Dask's parts", "compressible": "a compressible file"}
Get = Callable[[str], bytes]


class Here:
    """Key → place → stored bytes → picture, and how many reads were not in the page cache."""

    def __init__(self, source: ImageSource) -> None:
        self.cold = 0
        self._source = source

    def get(self, key: str) -> bytes:
        """The picture."""
        place = self._source.get_place(key)
        try:
            stored = self._source.read(place, wait=False)
        except WouldBlockError:
            self.cold += 1
            stored = self._source.read(place, wait=True)
        return decode(stored, Form(place.form))


def run(data: Data, quick: bool) -> Iterator[Result]:
    """Rounds of reads, the readers taking turns, so that all of them see the same machine."""
    result = Result(
        "One image by key",
        "From a key to the decoded picture, in process, one after the other, random keys, files "
        "in the page cache. The readers take turns in rounds. DuckDB: `WHERE key = ?` on the same "
        "files, with `disable_parquet_prefetching` and `parquet_metadata_cache`. Lance: a copy "
        "that holds the decoded pictures, with a B-tree index on the key.",
        ("files, reader", "reads", "median ms", "p99 ms", "DuckDB's median over it"),
    )
    for kind, called in _KINDS.items():
        images = data.image_set(kind)
        index(images.data_yaml, data.catalogs)
        with ExitStack() as stack:
            catalog = open_catalog(find_catalog(images.data_yaml, data.catalogs))
            stack.callback(catalog.close)
            source = catalog.get_dataset(DATASET).images
            assert source is not None
            here = Here(source)
            readers: dict[str, tuple[Get, int]] = {"mimicit": (here.get, 200 if quick else 2000)}
            if get := _lance(data, images):
                readers["Lance, copied"] = get, 20 if quick else 200
            key_column = source.facts.files[0].key_column or ""
            duck = stack.enter_context(_duckdb(images, key_column))
            readers["DuckDB, tuned"] = duck, 2 if quick else 5
            for path in images.files:
                warm(path)
            times = _take_turns(readers, images.keys(), rounds=2 if quick else 8)
            _report(result, called, times, here.cold, images.is_compressible)
    yield result


def _take_turns(
    readers: dict[str, tuple[Get, int]], keys: list[str], rounds: int
) -> dict[str, list[float]]:
    """Seconds of every read of every reader; raises ValueError if two of them read other bytes."""
    random = Random(1)
    for key in random.choices(keys, k=3):
        if len({get(key) for get, _ in readers.values()}) > 1:
            raise ValueError(f"the readers disagree about {key}")
    times: dict[str, list[float]] = {name: [] for name in readers}
    for _ in range(rounds):
        for name, (get, count) in readers.items():
            for key in random.choices(keys, k=count):
                start = time.perf_counter_ns()
                get(key)
                times[name].append((time.perf_counter_ns() - start) / 1e9)
    return times


def _report(
    result: Result, called: str, times: dict[str, list[float]], cold: int, is_compressible: bool
) -> None:
    medians = {name: statistics.median(found) for name, found in times.items()}
    theirs = medians["DuckDB, tuned"]
    for name, found in times.items():
        p99 = f"{sorted(found)[int(len(found) * 0.99)] * 1e3:,.3f}" if len(found) >= 100 else "-"
        median = f"{medians[name] * 1e3:,.3f}"
        ratio = f"{theirs / medians[name]:,.0f}"
        result.rows.append((f"{called}, {name}", f"{len(found):,}", median, p99, ratio))
    ours = medians["mimicit"]
    what = f"an image by key from {called}"
    if not is_compressible:
        faster = f"{theirs / ours:,.0f} times"
        what_faster = f"{what}, {_FASTER:,} times faster than DuckDB tuned"
        result.goals.append(Goal(what_faster, faster, theirs / ours >= _FASTER))
    limit_us = 80 if is_compressible else 40
    what_median = f"{what}, median under {limit_us} µs"
    result.goals.append(Goal(what_median, f"{ours * 1e6:.1f} µs", ours * 1e6 < limit_us))
    reads = len(times["mimicit"])
    result.notes.append(
        f"{called}: {cold:,} of mimicit's {reads:,} reads had to wait for the disk."
    )


@contextmanager
def _duckdb(images: ImageSet, key_column: str) -> Iterator[Get]:
    with duckdb.connect(":memory:") as connection:
        # GLOBAL: what is SET on a connection is not seen by its cursors.
        connection.execute("SET GLOBAL disable_parquet_prefetching=true")
        connection.execute("SET GLOBAL parquet_metadata_cache=true")
        files = [str(path) for path in images.files]
        sql = f'SELECT base64 FROM read_parquet(?) WHERE "{key_column}" = ?'

        def get(key: str) -> bytes:
            row = connection.execute(sql, [files, key]).fetchone()
            assert row is not None
            return pybase64.b64decode(row[0], validate=True)

        yield get


def _lance(data: Data, images: ImageSet) -> Get | None:
    """A reader of a Lance copy of the pictures, or None where Lance is not installed."""
    if importlib.util.find_spec("lance") is None:
        return None
    lance: Any = importlib.import_module("lance")
    path = data.folder / f"lance-{images.count}{'-compressible' * images.is_compressible}"
    if not (path / "complete").exists():
        shutil.rmtree(path, ignore_errors=True)
        schema = pa.schema([("key", pa.string()), ("picture", pa.large_binary())])
        batches = pa.RecordBatchReader.from_batches(schema, _batches(images, schema))
        lance.write_dataset(batches, str(path)).create_scalar_index("key", "BTREE")
        (path / "complete").touch()
    warm(path)
    dataset = lance.dataset(str(path))

    def get(key: str) -> bytes:
        found = dataset.to_table(columns=["picture"], filter=f"key = '{key}'")
        picture: bytes = found.column(0)[0].as_py()
        return picture

    return get


def _batches(images: ImageSet, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    rows = zip(images.keys(), images.pictures(), strict=True)
    while some := list(islice(rows, 500)):
        keys, found = zip(*some, strict=True)
        yield pa.record_batch([pa.array(keys), pa.array(found, pa.large_binary())], schema=schema)
