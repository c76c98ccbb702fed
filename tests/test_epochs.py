"""An epoch through the client holds what json and pandas alone say that the data YAML asks for."""

import base64
import json
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml
from live_server import LiveServer, start_server
from mimicit_client import Batch, MimicITDataset
from mimicit_client.sample import Sample, Turn
from packs import find_pack

pytestmark = [
    pytest.mark.slow,
    # More workers than this machine has cores is what is tested.
    pytest.mark.filterwarnings("ignore:This DataLoader will create"),
]

HOW: dict[str, Any] = {"batch_size": 32, "seed": 5, "drop_last": False}
Names = list[tuple[str, str]]


@dataclass
class Truth:
    """A dataset as json and pandas read its files."""

    group: str
    num_samples: int | None
    records: dict[str, Any]
    contexts: dict[str, list[str]]
    usable: list[str]
    images: dict[str, bytes] = field(repr=False)

    @property
    def draws(self) -> int:
        return len(self.usable) if self.num_samples in (None, -1) else self.num_samples or 0

    def is_turn(self, turn: Turn) -> bool:
        """Whether the texts and the pictures are those of that id."""
        record = self.records[turn.id]
        keys = record.get("image_ids") or []
        return (
            turn.instruction == record["instruction"]
            and turn.answer == record["answer"]
            and list(turn.image_ids) == keys
            and [bytes(image) for image in turn.images] == [self.images[key] for key in keys]
        )

    def is_sample(self, sample: Sample) -> bool:
        """Whether it is that instruction, and what goes before it in its order."""
        record = self.records[sample.id]
        wanted = self.contexts[sample.id] if self.group == "IMAGE_TEXT_IN_CONTEXT" else []
        others = {"instruction", "answer", "image_ids", "rel_ins_ids"}
        return (
            self.is_turn(sample)
            and sample.substituted_for is None
            and list(sample.rel_ins_ids) == (record.get("rel_ins_ids") or [])
            and [turn.id for turn in sample.context] == wanted
            and all(map(self.is_turn, sample.context))
            and sample.extra == {name: record[name] for name in record.keys() - others}
        )


def read_images(path: Path) -> dict[str, bytes]:
    if path.suffix == ".json":
        texts = json.loads(path.read_text())
    else:
        texts = {str(key): text for key, text in pd.read_parquet(path)["base64"].items()}
    return {key: base64.b64decode(text) for key, text in texts.items()}


def list_truths(data_yaml: Path) -> dict[str, Truth]:
    """Every dataset by its name."""
    folder, loaded, truths = data_yaml.parent, {}, {}
    for group, datasets in yaml.safe_load(data_yaml.read_text()).items():
        for name, fields in datasets.items():
            records = json.loads((folder / fields["mimicit_path"]).read_text())["data"]
            images = fields.get("images_path")
            if images is not None and images not in loaded:
                loaded[images] = read_images(folder / images)
            contexts = {id: one.get("rel_ins_ids") or [] for id, one in records.items()}
            if config := fields.get("train_config_path"):
                contexts = json.loads((folder / config).read_text())
            truths[name] = Truth(
                group=group,
                num_samples=fields.get("num_samples"),
                records=records,
                contexts=contexts,
                usable=[id for id in records if id in contexts],
                images={} if images is None else loaded[images],
            )
    return truths


def write_variants(pack: Path, folder: Path) -> Path:
    """A data YAML of the pack's files with num_samples below, at and above each one's size."""
    truths = list_truths(pack)
    groups: dict[str, dict[str, Any]] = {}
    for group, datasets in yaml.safe_load(pack.read_text()).items():
        groups[group] = {}
        for name, fields in datasets.items():
            paths = {
                field: str((pack.parent / value).resolve())
                for field, value in fields.items()
                if field.endswith("_path")
            }
            size = len(truths[name].usable)
            for suffix, count in {
                "few": size // 3,
                "but_one": size - 1,
                "exactly": size,
                "one_more": size + 1,
                "more": 2 * size + size // 3,
            }.items():
                groups[group][f"{name}_{suffix}"] = {**paths, "num_samples": count}
    path = folder / "variants.yaml"
    path.write_text(yaml.safe_dump(groups, sort_keys=False))
    return path


@pytest.fixture(scope="module", params=["generated", "shared"])
def pack(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return find_pack(request.param, tmp_path_factory.mktemp("pack"), images=90, seed=4)


@pytest.fixture(scope="module", params=["as it is", "variants"])
def data_yaml(
    request: pytest.FixtureRequest, pack: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    if request.param == "as it is":
        return pack
    return write_variants(pack, tmp_path_factory.mktemp("variants"))


@pytest.fixture(scope="module")
def truths(data_yaml: Path) -> dict[str, Truth]:
    return list_truths(data_yaml)


@pytest.fixture(scope="module")
def server(data_yaml: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    with start_server(data_yaml, tmp_path_factory.mktemp("catalog") / "c") as running:
        yield running


def iterate(dataset: MimicITDataset, workers: int) -> Iterable[Batch]:
    """Its batches, through torch's DataLoader with workers or as they come."""
    if not workers:
        return dataset
    torch = pytest.importorskip("torch", reason="torch is not installed: the plain iterator runs")
    loader: Any = torch.utils.data.DataLoader
    batches: Iterable[Batch] = loader(dataset, batch_size=None, num_workers=workers)
    return batches


def read_epoch(
    server: LiveServer, truths: dict[str, Truth], workers: int = 0, **how: Any
) -> list[Names]:
    """The datasets and ids of each batch; with images, each sample is as the files have it."""
    url = f"http://127.0.0.1:{server.port}"
    dataset = MimicITDataset(url, **{**HOW, **how})
    steps: list[Names] = []
    for batch in iterate(dataset, workers):
        assert batch.step == len(steps)
        for sample in batch:
            truth = truths[sample.dataset]
            assert truth.group == batch.group
            if how.get("images") != "none":
                assert truth.is_sample(sample), (sample.dataset, sample.id)
        steps.append([(sample.dataset, sample.id) for sample in batch])
    assert len(steps) == len(dataset)
    return steps


def count(steps: Iterable[Names]) -> Counter[tuple[str, str]]:
    return Counter(name for step in steps for name in step)


def expect_what_is_asked_for(drawn: Counter[tuple[str, str]], truths: dict[str, Truth]) -> None:
    for name, truth in truths.items():
        times = {id: drawn[name, id] for id in truth.usable}
        least, over = divmod(truth.draws, len(truth.usable))
        assert Counter(times.values()) == Counter(
            {least: len(truth.usable) - over} | ({least + 1: over} if over else {})
        ), name
    assert drawn.total() == sum(truth.draws for truth in truths.values())


@pytest.mark.parametrize("workers", [0, 2])
def test_an_epoch_holds_what_the_data_yaml_asks_for(
    server: LiveServer, truths: dict[str, Truth], workers: int
) -> None:
    first = read_epoch(server, truths, workers)
    expect_what_is_asked_for(count(first), truths)
    second = read_epoch(server, truths, workers, epoch=1)
    assert count(second) == count(first)
    assert second != first
    for group in {truth.group for truth in truths.values()}:
        orders = [
            [name for step in steps for name in step if truths[name[0]].group == group]
            for steps in (first, second)
        ]
        assert orders[0] != orders[1]


def test_the_same_through_a_process_without_torch(
    server: LiveServer, truths: dict[str, Truth]
) -> None:
    lines = subprocess.run(
        [sys.executable, "-c", WITHOUT_TORCH, f"http://127.0.0.1:{server.port}", json.dumps(HOW)],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    ).stdout
    names = [json.loads(line) for line in lines.splitlines()]
    expect_what_is_asked_for(Counter((dataset, id) for dataset, id in names), truths)


WITHOUT_TORCH = """
import json, sys
sys.modules["torch"] = None
from mimicit_client import MimicITDataset
for batch in MimicITDataset(sys.argv[1], **json.loads(sys.argv[2]), images="none"):
    for sample in batch:
        print(json.dumps([sample.dataset, sample.id]))
"""


def test_ranks_share_an_epoch(server: LiveServer, truths: dict[str, Truth]) -> None:
    how: dict[str, Any] = {"epoch": 2, "images": "none"}
    ranks = [
        read_epoch(server, truths, rank=rank, world_size=3, batch_size=11, **how)
        for rank in range(3)
    ]
    expect_what_is_asked_for(count(step for steps in ranks for step in steps), truths)
    assert len({len(steps) for steps in ranks}) == 1
    alone = read_epoch(server, truths, batch_size=33, **how)
    assert [[*one, *two, *three] for one, two, three in zip(*ranks, strict=True)] == alone


@pytest.mark.parametrize("group", ["IMAGE_TEXT", "TEXT_ONLY", "IMAGE_TEXT_IN_CONTEXT"])
def test_a_group_alone(server: LiveServer, truths: dict[str, Truth], group: str) -> None:
    asked = {name: truth for name, truth in truths.items() if truth.group == group}
    expect_what_is_asked_for(count(read_epoch(server, asked, group=group)), asked)
