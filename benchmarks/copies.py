"""Copies of `writers.write_samples`' random pictures, as other readers and nginx want them."""

import importlib
import json
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa

from benchmarks.writers import Record, key_of, pictures, records

BATCH_SIZE = 256
_SHARD_SAMPLES = 500
_LANCE_ROWS = 500


def _samples(count: int) -> Iterator[tuple[str, bytes, Record]]:
    keys = [key_of(number) for number in range(count)]
    return zip(keys, pictures(count, False), records(count, keys), strict=True)


def _write_files(folder: Path, count: int) -> None:
    """A file a picture."""
    for key, picture, _ in _samples(count):
        (folder / key).write_bytes(picture)


def _write_whole_batches(folder: Path, count: int) -> None:
    """A file with all pictures of a batch, one behind the other."""
    found = list(pictures(count, False))
    for number in range(count // BATCH_SIZE):
        some = found[number * BATCH_SIZE :][:BATCH_SIZE]
        (folder / str(number)).write_bytes(b"".join(some))


def _write_webdataset(folder: Path, count: int) -> None:
    webdataset: Any = importlib.import_module("webdataset")
    pattern = str(folder / "%06d.tar")
    with webdataset.ShardWriter(pattern, maxcount=_SHARD_SAMPLES, verbose=0) as sink:
        for key, picture, record in _samples(count):
            text = json.dumps(record).encode()
            sink.write({"__key__": key, "jpg": picture, "json": text})


def _write_hugging_face(folder: Path, count: int) -> None:
    datasets: Any = importlib.import_module("datasets")
    text = datasets.Value("string")
    features = {
        "id": text,
        "instruction": text,
        "answer": text,
        "image": datasets.Image(decode=False),
    }

    def rows() -> Iterator[Record]:
        for key, picture, record in _samples(count):
            texts = {"instruction": record["instruction"], "answer": record["answer"]}
            yield {"id": key, "image": {"bytes": picture, "path": None}} | texts

    cache = folder / "cache"
    made = datasets.Dataset.from_generator(
        rows, features=datasets.Features(features), cache_dir=str(cache)
    )
    made.save_to_disk(str(folder / "dataset"))


def _write_lance(folder: Path, count: int) -> None:
    lance: Any = importlib.import_module("lance")
    schema = pa.schema(
        [
            ("id", pa.string()),
            ("instruction", pa.string()),
            ("answer", pa.string()),
            ("picture", pa.large_binary()),
        ]
    )

    def rows() -> Iterator[pa.RecordBatch]:
        samples = _samples(count)
        while some := list(islice(samples, _LANCE_ROWS)):
            columns = [
                [key for key, _, _ in some],
                [record["instruction"] for _, _, record in some],
                [record["answer"] for _, _, record in some],
                [picture for _, picture, _ in some],
            ]
            yield pa.record_batch(list(map(pa.array, columns, schema.types)), schema=schema)

    reader = pa.RecordBatchReader.from_batches(schema, rows())
    lance.write_dataset(reader, str(folder / "dataset"))


WRITERS: dict[str, Callable[[Path, int], None]] = {
    "files": _write_files,
    "whole-batches": _write_whole_batches,
    "webdataset": _write_webdataset,
    "hugging-face": _write_hugging_face,
    "lance": _write_lance,
}
