"""Packs with planted problems, and what is wrong with them, found out in plain Python."""

import base64
import binascii
import json
from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from app.catalog.build import build_catalog
from app.catalog.catalog import Catalog
from app.catalog.limits import BuildLimits
from app.catalog.questions import Questions
from app.check.decode import DecodePictures
from app.check.report import Report
from app.check.run import Options, check_catalog
from app.data_yaml import load_data_yaml
from app.tasks.job import Runner
from app.tasks.processes import choose_runner

LIMITS = BuildLimits(
    max_value_bytes=200_000, max_page_bytes=1 << 26, duckdb_memory_bytes=256 << 20, processes=1
)
MAX_PIXELS = 4_000_000

Pairs = list[tuple[str, Any]]
Values = list[tuple[str | None, str | None]]


@dataclass
class Source:
    """An images file: keys and stored values, in order and with repetitions."""

    name: str
    values: Values

    @property
    def is_json(self) -> bool:
        return self.name.endswith(".json")

    def write(self, folder: Path) -> None:
        if self.is_json:
            (folder / self.name).write_text(write_pairs([(key or "", v) for key, v in self.values]))
        else:
            keys = pd.Index([key for key, _ in self.values], dtype=object)
            frame = pd.DataFrame({"base64": [value for _, value in self.values]}, index=keys)
            frame.to_parquet(folder / self.name)


@dataclass
class Dataset:
    """A dataset: its records and train config as they stand in their files."""

    name: str
    records: Pairs
    source: Source | None
    train: Pairs | None = None


@dataclass
class Pack:
    """Some datasets, which may share sources."""

    datasets: list[Dataset] = field(default_factory=list)

    def write(self, folder: Path) -> Path:
        groups: dict[str, dict[str, dict[str, str]]] = {}
        for one in self.datasets:
            path = f"{one.name}_instructions.json"
            (folder / path).write_text(f'{{"data": {write_pairs(one.records)}}}')
            fields = {"mimicit_path": path}
            if one.source is not None:
                one.source.write(folder)
                fields["images_path"] = one.source.name
            if one.train is not None:
                (folder / f"{one.name}_train.json").write_text(write_pairs(one.train))
                fields["train_config_path"] = f"{one.name}_train.json"
            groups.setdefault("IMAGE_TEXT" if one.source else "TEXT_ONLY", {})[one.name] = fields
        (folder / "data.yaml").write_text(json.dumps(groups))
        return folder / "data.yaml"


def write_pairs(pairs: Pairs) -> str:
    """A JSON object that may have a key twice."""
    return "{" + ",".join(f"{json.dumps(key)}:{json.dumps(value)}" for key, value in pairs) + "}"


def encode(data: bytes) -> str:
    return base64.b64encode(data).decode()


def run_check(
    data_yaml: Path,
    folder: Path,
    *,
    examples: int = 5,
    decode: bool = False,
    suggest: bool = False,
    runner: Runner | None = None,
) -> Report:
    """The report of a data YAML, its catalog built in `folder`."""
    loaded = load_data_yaml(data_yaml)
    build_catalog(loaded, folder, LIMITS, lambda _: None, wait_seconds=1)
    catalog = Catalog(
        folder, max_open_files=8, page_cache_bytes=1 << 26, duckdb_memory_bytes=256 << 20
    )
    options = Options(
        examples,
        DecodePictures(MAX_PIXELS, 1 << 26, 256 << 20) if decode else None,
        {one.name: one.key_rules for one in loaded.datasets} if suggest else None,
    )
    with closing(catalog), Questions(256 << 20, 1, folder / "spill") as questions:

        def choose(sizes_bytes: Sequence[int]) -> Runner:
            return runner or partial(choose_runner, 1)(sizes_bytes)

        return check_catalog(catalog, "data.yaml", questions, options, choose, lambda _: None)


def counts_of(report: Report) -> dict[str, int]:
    return {problem.kind: problem.count for problem in report.problems}


# What is wrong with a pack, without anything of the service.


def decode_value(value: str | None) -> bytes | str:
    """The picture, or the kind of problem that the value is."""
    if value is None:
        return "null_image"
    if not value:
        return "empty_image"
    if len(value) > LIMITS.max_value_bytes:
        return "large_image"
    text = value.replace("-", "+").replace("_", "/").replace("\n", "")
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except binascii.Error:
        return "undecodable_image"


def serve(source: Source) -> tuple[dict[str, bytes | str], Counter[str]]:
    """What a source has under each key, and what is wrong with it."""
    found: Counter[str] = Counter()
    held: dict[str, str | None] = {}
    for key, value in source.values:
        if not key:
            found["unnamed_image"] += 1
        elif len(key.encode()) > 1000:
            found["long_key"] += 1
        elif key in held:
            found["duplicate_image" if held[key] == value else "conflicting_image"] += 1
            if source.is_json:
                held[key] = value
        else:
            held[key] = value
    served = {key: decode_value(value) for key, value in held.items()}
    found.update(one for one in served.values() if isinstance(one, str))
    return served, found


def is_record(id: str, record: Any) -> bool:
    if not isinstance(record, dict) or not id or len(id.encode()) > 1000:
        return False
    texts = [record.get("instruction"), record.get("answer")]
    lists = [record.get("image_ids") or [], record.get("rel_ins_ids") or []]
    return all(isinstance(text, str) for text in texts) and all(
        isinstance(ids, list) and all(isinstance(one, str) for one in ids) for ids in lists
    )


def find_in_pack(pack: Pack) -> tuple[dict[str, int], dict[str, int]]:
    """How many problems of each kind there are, and how many usable instructions by dataset."""
    found: Counter[str] = Counter()
    usable = {}
    sources = {one.source.name: one.source for one in pack.datasets if one.source}
    served = {}
    for name, source in sources.items():
        served[name], problems = serve(source)
        found.update(problems)
    used: dict[str, set[str]] = {name: set() for name in sources}
    ids: Counter[str] = Counter()
    for one in pack.datasets:
        valid = [(id, record) for id, record in one.records if is_record(id, record)]
        kept = dict(valid)
        found["invalid_record"] += len(one.records) - len(valid)
        found["duplicate_instruction"] += len(valid) - len(kept)
        ids.update(kept.keys())
        for record in kept.values():
            found["empty_answer"] += not record["answer"].strip(" \t\n\r\v\f")
            found["empty_instruction"] += not record["instruction"].strip(" \t\n\r\v\f")
        contexts = {id: record.get("rel_ins_ids") or [] for id, record in kept.items()}
        listed = set(kept)
        if one.train is not None:
            entries = [(id, value) for id, value in one.train if isinstance(value or [], list)]
            found["invalid_train_config"] += len(one.train) - len(entries)
            found["duplicate_train_id"] += len(entries) - len(dict(entries))
            contexts = {id: value or [] for id, value in entries}
            found["unknown_train_id"] += len(contexts.keys() - kept.keys())
            listed &= contexts.keys()
        for id, related in contexts.items():
            found["dangling_context"] += sum(other not in kept for other in related)
            found["self_context"] += related.count(id)
        good = set(listed)
        if one.source is not None:
            images = served[one.source.name]
            for id, record in kept.items():
                for key in record.get("image_ids") or []:
                    used[one.source.name].add(key)
                    if not isinstance(images.get(key), bytes):
                        found["unreadable_image" if key in images else "missing_image"] += 1
                        good.discard(id)
        usable[one.name] = len(good)
    found["shared_instruction"] += sum(count > 1 for count in ids.values())
    for name, images in served.items():
        found["unused_image"] += len(images.keys() - used[name])
    keys = {key for images in served.values() for key in images}
    for key in keys:
        pictures = [images.get(key) for images in served.values()]
        readable = [picture for picture in pictures if isinstance(picture, bytes)]
        if len(readable) > 1:
            found["shared_image" if len(set(readable)) == 1 else "ambiguous_image"] += 1
    return {kind: count for kind, count in found.items() if count}, usable
