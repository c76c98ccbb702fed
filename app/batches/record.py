"""The texts of turns, out of the tables of their datasets."""

import json
from collections.abc import Iterable
from typing import Any

import pyarrow as pa

from app.batches.sample import Sample, Turn
from app.catalog.dataset import Dataset
from app.catalog.instructions import TABLE
from app.catalog.table import put_back

_COLUMNS = [name for name in TABLE.names if name not in ("row", "image_ids")]
_SCHEMA = pa.schema([TABLE.field(name) for name in _COLUMNS])


def take_records(turns: list[tuple[Dataset, Turn]]) -> pa.RecordBatch:
    """The rows of the turns, in their order: id, instruction, answer, rel_ins_ids and extra."""
    if not turns:
        return pa.RecordBatch.from_pylist([], schema=_SCHEMA)
    by_dataset: dict[Dataset, list[int]] = {}
    for at, (dataset, _) in enumerate(turns):
        by_dataset.setdefault(dataset, []).append(at)
    found = pa.concat_batches(
        dataset.instructions.take([turns[at][1].row for at in places], _COLUMNS)
        for dataset, places in by_dataset.items()
    )
    if len(by_dataset) == 1:
        return found
    return put_back(found, [at for places in by_dataset.values() for at in places])


def list_own(samples: Iterable[Sample]) -> list[tuple[Dataset, Turn]]:
    """The samples' own turns."""
    return [(sample.dataset, sample.turn) for sample in samples]


def list_context(samples: Iterable[Sample]) -> list[tuple[Dataset, Turn]]:
    """The turns of all contexts, one sample's behind the other's."""
    return [(sample.dataset, turn) for sample in samples for turn in sample.context]


def describe_samples(samples: list[Sample]) -> Iterable[dict[str, Any]]:
    """All of each sample but its pictures, under the names of the Arrow columns."""
    own = take_records(list_own(samples)).to_pylist()
    before = iter(take_records(list_context(samples)).to_pylist())
    for sample, row in zip(samples, own, strict=True):
        yield {
            "dataset": sample.dataset.name,
            "id": row["id"],
            "instruction": row["instruction"],
            "answer": row["answer"],
            "image_ids": sample.turn.image_ids,
            "rel_ins_ids": row["rel_ins_ids"],
            "context": [_describe_turn(turn, next(before)) for turn in sample.context],
            "extra": None if row["extra"] is None else json.loads(row["extra"]),
            "substituted_for": sample.substituted_for,
        }


def _describe_turn(turn: Turn, row: dict[str, Any]) -> dict[str, Any]:
    texts = {name: row[name] for name in ("id", "instruction", "answer")}
    return texts | {"image_ids": turn.image_ids}
