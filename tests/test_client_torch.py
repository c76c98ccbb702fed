"""The client's dataset in torch's and torchdata's loaders, and samples as tensors."""

import json
import pickle
import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from live_server import LiveServer, start_server
from mimicit_client import Batch, Client, ConnectionFailedError, MimicITDataset, Retries, collate
from packs import draw_jpeg, record, write_images, write_instructions
from test_client_dataset import drawn, expect_epoch, url_of, write_pack

torch = pytest.importorskip("torch", reason="torch is an extra of the client")
DataLoader = torch.utils.data.DataLoader

pytestmark = [
    pytest.mark.slow,
    # More workers than this machine has cores is what is tested.
    pytest.mark.filterwarnings("ignore:This DataLoader will create"),
    # torchdata 0.11 calls what torch 2.13 deprecates.
    pytest.mark.filterwarnings("ignore:'set_vital' is deprecated"),
]

WORKERS = [0, 1, 4]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    folder = tmp_path_factory.mktemp("torch")
    with start_server(write_pack(folder), folder / "catalog") as running:
        yield running


@pytest.fixture(scope="module")
def url(server: LiveServer) -> str:
    return url_of(server)


@pytest.fixture(scope="module")
def frames_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Samples of one to four images of different sizes."""
    folder = tmp_path_factory.mktemp("frames")
    write_images(folder / "c.parquet", {f"F{n}": draw_jpeg(n, 20 + n, 30 + n) for n in range(4)})
    write_instructions(
        folder / "c.json",
        {
            f"C{n}": record(f"{n}?", *[f"F{m}" for m in range(n)], rel_ins_ids=["C1"])
            for n in range(1, 5)
        },
    )
    write_instructions(folder / "o.json", {f"O{n}": record(f"{n}?", f"F{n}") for n in range(4)})
    (folder / "data.yaml").write_text(
        "IMAGE_TEXT:\n"
        "  O: {mimicit_path: o.json, images_path: c.parquet}\n"
        "IMAGE_TEXT_IN_CONTEXT:\n"
        "  C: {mimicit_path: c.json, images_path: c.parquet}\n"
    )
    with start_server(folder / "data.yaml", folder / "catalog") as running:
        yield url_of(running)


def load(dataset: MimicITDataset, workers: int, **more: Any) -> Any:
    return DataLoader(dataset, batch_size=None, num_workers=workers, **more)


@pytest.mark.parametrize("workers", WORKERS)
def test_a_loader_yields_the_epoch_in_order(url: str, workers: int) -> None:
    dataset = MimicITDataset(url, batch_size=4, drop_last=False)
    loader = load(dataset, workers)
    assert isinstance(dataset, torch.utils.data.IterableDataset)
    assert len(loader) == len(dataset)
    batches = list(loader)
    assert all(isinstance(batch, Batch) for batch in batches)
    assert [batch.step for batch in batches] == list(range(len(dataset)))
    expect_epoch(drawn(batches))


@pytest.mark.parametrize("context", ["fork", "spawn"])
def test_workers_that_are_forked_or_spawned(url: str, context: str) -> None:
    dataset = MimicITDataset(url, batch_size=16, size=32, pixels=True, group="IMAGE_TEXT")
    next(iter(dataset))  # so that there is a connection to inherit
    loader = load(dataset, 2, multiprocessing_context=context, collate_fn=collate)
    columns = list(loader)
    assert [one["step"] for one in columns] == list(range(len(dataset)))
    assert {tuple(one["images"].shape) for one in columns} == {(16, 1, 32, 32, 3)}


@pytest.mark.parametrize("workers", WORKERS)
def test_more_workers_than_steps(url: str, workers: int) -> None:
    dataset = MimicITDataset(url, "TEXT_ONLY", batch_size=20)
    assert [batch.step for batch in load(dataset, workers)] == [0, 1]


def test_another_number_of_workers_in_the_middle(url: str) -> None:
    found: Counter[tuple[str, str]] = Counter()
    state = None
    steps = []
    for workers in (4, 0, 3, 1):
        dataset = MimicITDataset(url, batch_size=4, drop_last=False)
        if state is not None:
            dataset.load_state_dict(state)
        until = random.randrange(3, 8) if workers != 1 else 10**6
        for taken, columns in enumerate(load(dataset, workers, collate_fn=collate), 1):
            steps.append(columns["step"])
            found.update(zip(columns["dataset"], columns["id"], strict=True))
            state = dataset.state_dict(after=columns)
            if taken == until:
                break
    assert steps == list(range(len(dataset)))
    expect_epoch(found)


def test_another_world_size_and_other_workers_in_the_middle(url: str) -> None:
    found: Counter[tuple[str, str]] = Counter()
    for rank in range(2):
        dataset = MimicITDataset(url, batch_size=4, drop_last=False, rank=rank, world_size=2)
        for batch in load(dataset, 2):
            found += drawn([batch])
            if batch.step == 7:
                state = dataset.state_dict(after=batch)
                break
    dataset = MimicITDataset(url, batch_size=8, drop_last=False)
    dataset.load_state_dict(state)
    expect_epoch(found + drawn(load(dataset, 3)))


LOADER = """
import json, os, random, signal, sys
from mimicit_client import MimicITDataset
from torch.utils.data import DataLoader
url, state, log = sys.argv[1:]
dataset = MimicITDataset(url, batch_size=2, drop_last=False)
if state:
    dataset.load_state_dict(json.loads(state))
batches = iter(DataLoader(dataset, batch_size=None, num_workers=2))
with open(log, "a") as out:
    for batch in batches:
        ids = [[sample.dataset, sample.id] for sample in batch]
        out.write(json.dumps({"ids": ids, "state": dataset.state_dict(after=batch)}) + "\\n")
        out.flush()
        if not state and batch.step == 3:
            os.kill(batches._workers[random.randrange(2)].pid, signal.SIGKILL)
"""


def test_a_killed_worker_is_no_loss(url: str, tmp_path: Path) -> None:
    # In a process of its own: torch raises in whatever the main thread is at, and one error or
    # another, as the worker had handed its batches over or not.
    log = tmp_path / "log"
    words = [sys.executable, "-c", LOADER, url]
    killed = subprocess.run([*words, "", log], capture_output=True, timeout=60, check=False)
    assert killed.returncode
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert 4 <= len(lines) < 71
    subprocess.run([*words, json.dumps(lines[-1]["state"]), log], check=True)
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    expect_epoch(Counter((dataset, id) for line in lines for dataset, id in line["ids"]))


@pytest.mark.parametrize("persistent", [False, True])
def test_set_epoch_reaches_the_workers(url: str, persistent: bool) -> None:
    dataset = MimicITDataset(url, batch_size=20)
    loader = load(dataset, 2, persistent_workers=persistent)
    orders = []
    for epoch in range(3):
        dataset.set_epoch(epoch)
        batches = list(loader)
        assert {batch.epoch for batch in batches} == {epoch}
        assert [batch.step for batch in batches] == list(range(len(dataset)))
        orders.append([sample.id for batch in batches for sample in batch])
    assert orders[0] != orders[1] != orders[2]


def test_a_worker_says_what_is_wrong(tmp_path: Path) -> None:
    with start_server(write_pack(tmp_path), tmp_path / "catalog") as running:
        retries = Retries(total_seconds=0.5, max_pause_seconds=0.2)
        dataset = MimicITDataset(url_of(running), batch_size=4, retries=retries)
    with pytest.raises(ConnectionFailedError, match="no connection"):
        list(load(dataset, 2))


def stateful(dataset: MimicITDataset, workers: int, **more: Any) -> Any:
    torchdata = pytest.importorskip(
        "torchdata.stateful_dataloader", reason="torchdata is not a dependency"
    )
    return torchdata.StatefulDataLoader(
        dataset, batch_size=None, num_workers=workers, collate_fn=collate, **more
    )


@pytest.mark.parametrize("every", [1, 3])
@pytest.mark.parametrize("workers", WORKERS)
def test_the_stateful_loader_resumes(url: str, workers: int, every: int) -> None:
    steps: list[int] = []
    found: Counter[tuple[str, str]] = Counter()
    state = None
    for until in (1, random.randrange(2, 9), 7, 10**6):
        dataset = MimicITDataset(url, batch_size=4, drop_last=False, epoch=1)
        loader = stateful(dataset, workers, snapshot_every_n_steps=every)
        if state is not None:
            loader.load_state_dict(state)
        for taken, columns in enumerate(loader, 1):
            steps.append(columns["step"])
            found.update(zip(columns["dataset"], columns["id"], strict=True))
            if taken == until:
                state = pickle.loads(pickle.dumps(loader.state_dict()))
                break
    assert steps == list(range(len(dataset)))
    expect_epoch(found)


@pytest.mark.parametrize("workers", WORKERS)
def test_the_stateful_loader_at_the_ends_of_epochs(url: str, workers: int) -> None:
    def make() -> tuple[MimicITDataset, Any]:
        dataset = MimicITDataset(url, batch_size=20)
        return dataset, stateful(dataset, workers)

    dataset, loader = make()
    untouched = loader.state_dict()
    whole = [(0, step) for step in range(len(dataset))]
    seen = [(columns["epoch"], columns["step"]) for columns in loader]
    finished = loader.state_dict()
    assert seen == whole

    dataset, loader = make()
    loader.load_state_dict(untouched)
    assert [(columns["epoch"], columns["step"]) for columns in loader] == whole

    dataset, loader = make()
    dataset.set_epoch(1)
    loader.load_state_dict(finished)
    assert [columns["epoch"] for columns in loader] == [1] * len(whole)
    dataset.set_epoch(2)
    assert [columns["epoch"] for columns in loader] == [2] * len(whole)


def steps_of(loader: Any) -> list[tuple[int, int]]:
    """The epoch and the step of each batch of a pass."""
    return [(columns["epoch"], columns["step"]) for columns in loader]


@pytest.mark.parametrize(("workers", "persistent"), [(0, 0), (1, 0), (1, 1), (4, 0), (4, 1)])
def test_a_resumed_step_counts_for_one_pass(url: str, workers: int, persistent: int) -> None:
    dataset = MimicITDataset(url, batch_size=20)
    whole = [[(epoch, step) for step in range(len(dataset))] for epoch in range(4)]
    loader = load(dataset, workers, persistent_workers=bool(persistent), collate_fn=collate)
    state = dataset.state_dict() | {"epoch": 2, "step": 3}
    for _ in range(2):
        dataset.load_state_dict(state)
        dataset.set_epoch(2)
        assert dataset.state_dict() == state
        assert steps_of(loader) == whole[2][3:]
        assert steps_of(loader) == steps_of(loader) == whole[2]
        dataset.set_epoch(2)
        assert steps_of(loader) == whole[2]
        dataset.set_epoch(3)
        assert steps_of(loader) == whole[3]
    dataset.load_state_dict(state)
    for columns in loader:
        assert columns["step"] == 3
        break  # before every worker has begun
    assert steps_of(loader) == whole[2]


@pytest.mark.parametrize("late", [0, 1])
def test_a_worker_that_begins_late_resumes_too(url: str, late: int) -> None:
    dataset = MimicITDataset(url, batch_size=20)
    dataset.load_state_dict(dataset.state_dict() | {"step": len(dataset) - 1})

    def wait(worker: int) -> None:
        time.sleep(0.5 * (worker == late))

    loader = load(dataset, 2, worker_init_fn=wait, collate_fn=collate)
    assert steps_of(loader) == [(0, len(dataset) - 1)]
    assert steps_of(loader) == [(0, step) for step in range(len(dataset))]


@pytest.mark.parametrize(("workers", "persistent"), [(0, 0), (2, 0), (2, 1)])
def test_passes_of_the_stateful_loader(url: str, workers: int, persistent: int) -> None:
    def make(**more: Any) -> tuple[MimicITDataset, Any]:
        dataset = MimicITDataset(url, batch_size=20, **more)
        return dataset, stateful(dataset, workers, persistent_workers=bool(persistent))

    dataset, loader = make(epoch=1)
    whole = [[(epoch, step) for step in range(len(dataset))] for epoch in range(4)]
    states = [loader.state_dict() for _ in loader]

    dataset, loader = make()
    loader.load_state_dict(states[2])
    assert steps_of(loader) == whole[1][3:]
    assert steps_of(loader) == whole[1]
    dataset.set_epoch(1)
    assert steps_of(loader) == whole[1]

    # The loader loads only as a pass begins: a later epoch, set before that, is what is wanted.
    dataset, loader = make()
    loader.load_state_dict(states[-1])
    dataset.set_epoch(2)
    assert steps_of(loader) == whole[2]
    dataset.set_epoch(3)
    assert steps_of(loader) == whole[3]

    # But where that epoch has begun the state is loaded to go back to.
    loader.load_state_dict(states[2])
    assert steps_of(loader) == whole[1][3:]
    loader.load_state_dict(states[1])
    dataset.set_epoch(1)
    assert steps_of(loader) == whole[1][2:]


def test_a_state_to_go_back_to(url: str) -> None:
    dataset = MimicITDataset(url, batch_size=20, epoch=5)
    state = dataset.state_dict() | {"epoch": 1, "step": 3}
    for workers in WORKERS:
        dataset.load_state_dict(state)
        assert steps_of(load(dataset, workers, collate_fn=collate))[0] == (1, 3)
        dataset.set_epoch(4)
        assert steps_of(load(dataset, workers, collate_fn=collate))[0] == (4, 0)


RANK = """
import sys
import torch.distributed as dist
from mimicit_client import MimicITDataset
url, rank, file = sys.argv[1:]
dist.init_process_group("gloo", init_method=f"file://{file}", rank=int(rank), world_size=2)
dataset = MimicITDataset(url, "TEXT_ONLY", batch_size=5)
print(dataset.rank, dataset.world_size, len(dataset))
dist.barrier()
dist.destroy_process_group()
"""


def test_rank_and_world_size_are_those_of_torch_distributed(url: str, tmp_path: Path) -> None:
    ranks = [
        subprocess.Popen(
            [sys.executable, "-c", RANK, url, str(rank), str(tmp_path / "meet")],
            stdout=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    assert [rank.communicate(timeout=60)[0].split() for rank in ranks] == [
        ["0", "2", "5"],
        ["1", "2", "5"],
    ]


def test_pixels_are_tensors_in_the_batch_memory(frames_url: str) -> None:
    with Client(frames_url) as client:
        batch = client.batch(0, batch_size=4, group="IMAGE_TEXT", size=16, pixels=True)
        files = client.batch(0, batch_size=4, group="IMAGE_TEXT", size=16)
    images = collate(batch)["images"]
    assert (images.shape, images.dtype) == ((4, 1, 16, 16, 3), torch.uint8)
    first = batch.body.address
    assert first <= images.data_ptr() < first + batch.body.size
    for row, sample in enumerate(batch):
        tensor = sample.tensor()
        assert first <= tensor.data_ptr() < first + batch.body.size
        assert torch.equal(tensor, images[row])
        (picture,) = sample.pil()
        assert (picture.mode, picture.size) == ("RGB", (16, 16))
        assert picture.tobytes() == bytes(sample.images[0])
        # JPEG is not exact, but it is the same picture.
        error = files[row].tensor().float() - tensor.float()
        assert error.abs().mean() < 12
    again = collate(pickle.loads(pickle.dumps(batch)))["images"]
    assert torch.equal(again, images)
    copied = pickle.loads(pickle.dumps(batch[0]))
    assert torch.equal(copied.tensor(), images[0])


def test_different_numbers_of_images(frames_url: str) -> None:
    asked: dict[str, Any] = {"batch_size": 4, "group": "IMAGE_TEXT_IN_CONTEXT", "size": 16}
    with Client(frames_url) as client:
        batch = client.batch(0, pixels=True, **asked)
        even = client.batch(0, pixels=True, frames=2, context=False, **asked)
        plain = client.batch(0, batch_size=4, group="IMAGE_TEXT_IN_CONTEXT")
    columns = collate(batch)
    counts = [len(ids) for ids in columns["image_ids"]]
    assert sorted(counts) == [1, 2, 3, 4]
    assert [tuple(one.shape) for one in columns["images"]] == [(n, 16, 16, 3) for n in counts]
    for sample, tensor in zip(batch, columns["images"], strict=True):
        assert torch.equal(sample.tensor(), tensor)
        assert [tuple(turn.tensor().shape) for turn in sample.context] == [(1, 16, 16, 3)]
    assert columns["context"][0][0]["images"].shape == (1, 16, 16, 3)
    assert {len(sample.images) for sample in even} <= {1, 2}
    one, two = (next(s for s in plain if len(s.images) == n) for n in (1, 2))
    assert one.tensor().shape == (1, 30, 20, 3)
    with pytest.raises(ValueError, match="20 x 30, 21 x 31"):
        two.tensor()


def test_samples_without_images(url: str) -> None:
    with Client(url) as client:
        batch = client.batch(0, batch_size=3, group="TEXT_ONLY", size=8, pixels=True)
    assert batch[0].tensor().shape == (0, 0, 0, 3)
    assert collate(batch)["images"].shape[:2] == (3, 0)
