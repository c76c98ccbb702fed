"""Readers of the same samples from local files, without HTTP and without decoding pictures."""

import importlib
import importlib.util
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from random import Random
from typing import Any

from benchmarks.copies import BATCH_SIZE
from benchmarks.data import Data

_SHUFFLE_SAMPLES = 1000

Sample = tuple[bytes, str]  # a picture, and its instruction and answer in one
Samples = list[Any]  # what the reader hands out at a time


@dataclass(frozen=True, slots=True)
class Reader:
    """A reader: its epochs without end, as what it hands out and how many samples that is."""

    name: str
    folder: Path
    epochs: Callable[[], Iterator[tuple[Any, int]]]
    take_apart: Callable[[Any], list[Sample]]  # for the check


def open_readers(data: Data, pictures: int) -> tuple[list[Reader], list[str]]:
    """The readers that are installed, and the names of packages that are not."""
    kinds = {"webdataset": _webdataset, "datasets": _hugging_face, "lance": _lance}
    missing = [name for name in kinds if importlib.util.find_spec(name) is None]
    found = [
        reader
        for name, make in kinds.items()
        if name not in missing
        for reader in make(data, pictures)
    ]
    return found, missing


def _webdataset(data: Data, pictures: int) -> Iterator[Reader]:
    webdataset: Any = importlib.import_module("webdataset")
    folder = data.copy("webdataset", pictures)
    shards = [str(path) for path in sorted(folder.glob("*.tar"))]

    def epochs() -> Iterator[tuple[Any, int]]:
        for epoch in count():
            read = webdataset.WebDataset(shards, shardshuffle=len(shards), seed=epoch)
            for sample in read.shuffle(_SHUFFLE_SAMPLES):
                yield sample, 1

    def take_apart(sample: Any) -> list[Sample]:
        record = importlib.import_module("json").loads(sample["json"])
        return [(sample["jpg"], record["instruction"] + record["answer"])]

    name = f"webdataset, tar shards, shuffled {_SHUFFLE_SAMPLES:,} at a time"
    yield Reader(name, folder, epochs, take_apart)


def _hugging_face(data: Data, pictures: int) -> Iterator[Reader]:
    datasets: Any = importlib.import_module("datasets")
    folder = data.copy("hugging-face", pictures) / "dataset"
    opened = datasets.load_from_disk(str(folder))

    def epochs() -> Iterator[tuple[Any, int]]:
        for rows in _random_rows(pictures):
            yield opened[rows], len(rows)

    def take_apart(batch: Any) -> list[Sample]:
        found = zip(batch["image"], batch["instruction"], batch["answer"], strict=True)
        return [(image["bytes"], instruction + answer) for image, instruction, answer in found]

    yield Reader("Hugging Face datasets, random rows", folder, epochs, take_apart)


def _lance(data: Data, pictures: int) -> Iterator[Reader]:
    lance: Any = importlib.import_module("lance")
    folder = data.copy("lance", pictures) / "dataset"
    opened = lance.dataset(str(folder))

    def random() -> Iterator[tuple[Any, int]]:
        for rows in _random_rows(pictures):
            yield opened.take(rows), len(rows)

    def in_order() -> Iterator[tuple[Any, int]]:
        while True:
            for batch in opened.to_batches(batch_size=BATCH_SIZE):
                yield batch, len(batch)

    def take_apart(batch: Any) -> list[Sample]:
        columns = (batch.column(name).to_pylist() for name in ("picture", "instruction", "answer"))
        return [(p, instruction + answer) for p, instruction, answer in zip(*columns, strict=True)]

    yield Reader("Lance, random rows, left as Arrow", folder, random, take_apart)
    yield Reader("Lance, in order, left as Arrow", folder, in_order, take_apart)


def _random_rows(pictures: int) -> Iterator[list[int]]:
    for epoch in count():
        rows = Random(epoch).sample(range(pictures), pictures)
        yield from (rows[at:][:BATCH_SIZE] for at in range(0, pictures, BATCH_SIZE))
