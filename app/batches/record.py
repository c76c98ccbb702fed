"""Samples as JSON objects, for the formats that are no columns."""

import json
from typing import Any

from app.batches.sample import Sample, Turn


def describe_sample(sample: Sample) -> dict[str, Any]:
    """All of the sample but its pictures, under the names of the Arrow columns."""
    row = sample.turn.record.to_pylist()[0]
    return {
        "dataset": sample.dataset.name,
        "id": row["id"],
        "instruction": row["instruction"],
        "answer": row["answer"],
        "image_ids": sample.turn.image_ids,
        "rel_ins_ids": row["rel_ins_ids"],
        "context": [_describe_turn(turn) for turn in sample.context],
        "extra": None if row["extra"] is None else json.loads(row["extra"]),
        "substituted_for": sample.substituted_for,
    }


def _describe_turn(turn: Turn) -> dict[str, Any]:
    row = turn.record.to_pylist()[0]
    return {
        "id": row["id"],
        "instruction": row["instruction"],
        "answer": row["answer"],
        "image_ids": turn.image_ids,
    }
