"""The client's dataset: epochs, prefetching, resuming, and servers that come and go."""

import gc
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from live_server import LiveServer, command, environment, start_server, stop
from mimicit_client import (
    ConnectionFailedError,
    InvalidRequestError,
    MimicITDataset,
    Retries,
    RevisionChangedError,
    StateError,
)
from mimicit_client.ahead import Ahead, StoppedError, Wait
from packs import draw_jpeg, record, write_images, write_instructions
from test_client_faults import FaultyServer, answer, free_port

pytestmark = pytest.mark.slow

DRAWS = {"A": 61, "B": 30, "T": 50}


def write_pack(folder: Path, images: int = 61) -> Path:
    """Datasets drawn as they are, in part (B has 40), and more than once (T has 20)."""
    folder.mkdir(exist_ok=True)
    write_images(folder / "a.parquet", {f"K{n}": draw_jpeg(n) for n in range(images)})
    write_instructions(
        folder / "a.json", {f"A{n}": record(f"what is {n}?", f"K{n}") for n in range(images)}
    )
    write_instructions(
        folder / "b.json", {f"B{n}": record(f"and {n}?", f"K{n}") for n in range(40)}
    )
    write_instructions(folder / "t.json", {f"T{n}": record(f"say {n}") for n in range(20)})
    (folder / "data.yaml").write_text(
        "IMAGE_TEXT:\n"
        "  A: {mimicit_path: a.json, images_path: a.parquet}\n"
        "  B: {mimicit_path: b.json, images_path: a.parquet, num_samples: 30}\n"
        "TEXT_ONLY:\n"
        "  T: {mimicit_path: t.json, num_samples: 50}\n"
    )
    return folder / "data.yaml"


def url_of(server: LiveServer) -> str:
    return f"http://127.0.0.1:{server.port}"


@contextmanager
def start_at(port: int, data_yaml: Path, catalog: Path) -> Iterator[LiveServer]:
    """A server at that port."""
    log = catalog.parent / f"server-{time.monotonic_ns()}.log"
    words = ("serve", data_yaml, "--port", str(port), "--workers", "1", "--catalog-dir", catalog)
    with open(log, "w") as sink:
        process = subprocess.Popen(
            command(*words), stderr=sink, stdout=sink, text=True, env=environment()
        )
    try:
        server = LiveServer(port, process, log)
        server.wait_until_ready()
        yield server
    finally:
        stop(process)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    folder = tmp_path_factory.mktemp("dataset")
    with start_server(write_pack(folder), folder / "catalog") as running:
        yield running


@pytest.fixture
def url(server: LiveServer) -> Iterator[str]:
    yield url_of(server)
    gc.collect()
    assert_no_threads()


def assert_no_threads() -> None:
    deadline = time.monotonic() + 5
    while any(thread.name.startswith("mimicit-") for thread in threading.enumerate()):
        assert time.monotonic() < deadline, threading.enumerate()
        time.sleep(0.01)


def drawn(batches: Any) -> Counter[tuple[str, str]]:
    """How often each sample is in those batches."""
    return Counter((sample.dataset, sample.id) for batch in batches for sample in batch)


def expect_epoch(found: Counter[tuple[str, str]]) -> None:
    """That those are the draws of an epoch: what the data YAML asks for, as a set."""
    in_datasets: Counter[str] = Counter()
    for (dataset, _), count in found.items():
        in_datasets[dataset] += count
    assert in_datasets == DRAWS
    assert set(found) >= {("A", f"A{n}") for n in range(61)} | {("T", f"T{n}") for n in range(20)}
    assert all(1 <= count <= (3 if dataset == "T" else 1) for (dataset, _), count in found.items())


def test_an_epoch_is_what_the_data_yaml_asks_for(url: str) -> None:
    dataset = MimicITDataset(url, batch_size=4, drop_last=False, seed=5)
    batches = list(dataset)
    assert [batch.step for batch in batches] == list(range(len(dataset)))
    assert {batch.group for batch in batches} == {"IMAGE_TEXT", "TEXT_ONLY"}
    expect_epoch(drawn(batches))
    assert dataset.plan.samples == sum(map(len, batches)) == sum(DRAWS.values())
    assert {batch.revision for batch in batches} == {dataset.revision}


def test_each_epoch_has_an_order_of_its_own(url: str) -> None:
    dataset = MimicITDataset(url, "IMAGE_TEXT", batch_size=7, drop_last=False)
    first, again = list(dataset), list(dataset)
    dataset.set_epoch(1)
    second = list(dataset)
    ids = [[sample.id for batch in epoch for sample in batch] for epoch in (first, again, second)]
    assert ids[0] == ids[1] != ids[2]
    assert sorted(ids[0]) == sorted(ids[2])
    assert {batch.epoch for batch in second} == {1}


def test_the_ranks_together_have_the_epoch(url: str) -> None:
    ranks = [
        MimicITDataset(url, batch_size=3, drop_last=False, rank=rank, world_size=3)
        for rank in range(3)
    ]
    epochs = [list(rank) for rank in ranks]
    assert {len(epoch) for epoch in epochs} == {len(ranks[0])}
    for together in zip(*epochs, strict=True):
        assert len({batch.group for batch in together}) == 1
    expect_epoch(drawn(batch for epoch in epochs for batch in epoch))


@pytest.mark.parametrize("prefetch", [1, 2, 5])
def test_no_more_than_prefetch_is_in_flight(prefetch: int) -> None:
    begun = taken = most = 0
    lock = threading.Lock()

    def do(item: int, wait: Wait) -> int:
        nonlocal begun, most
        with lock:
            begun += 1
            most = max(most, begun - taken)
        wait(random.random() / 100)
        return item

    seen = []
    for item in Ahead(do, range(60), prefetch, "mimicit-test"):
        taken += 1
        seen.append(item)
        time.sleep(0.005)
    assert seen == list(range(60))
    # The one that was handed out is counted as taken a moment after its place is free.
    assert prefetch <= most <= prefetch + 1
    assert_no_threads()


def test_an_error_comes_in_its_turn_and_ends_the_work() -> None:
    def do(item: int, wait: Wait) -> int:
        if item == 3:
            raise KeyError(item)
        return item

    ahead = Ahead(do, range(100), 4, "mimicit-test")
    assert [next(ahead), next(ahead), next(ahead)] == [0, 1, 2]
    with pytest.raises(KeyError):
        next(ahead)
    with pytest.raises(StopIteration):
        next(ahead)
    assert_no_threads()


def test_closing_wakes_what_waits() -> None:
    woken = threading.Event()

    def do(item: int, wait: Wait) -> int:
        try:
            wait(60 if item else 0)
        except StoppedError:
            woken.set()
            raise
        return item

    with closing(Ahead(do, range(9), 2, "mimicit-test")) as ahead:
        assert next(ahead) == 0
    assert woken.wait(5)
    assert_no_threads()


@pytest.mark.parametrize("how", ["exhausted", "closed", "dropped", "left"])
def test_threads_end_with_the_iterator(url: str, how: str) -> None:
    dataset = MimicITDataset(url, batch_size=2, prefetch=3)
    iterator = iter(dataset)
    next(iterator)
    assert sum(thread.name.startswith("mimicit-") for thread in threading.enumerate()) == 3
    if how == "exhausted":
        assert len(list(iterator)) == len(dataset) - 1
    elif how == "closed":
        iterator.close()
        assert list(iterator) == []
    elif how == "dropped":
        del iterator
    else:
        del iterator
        for _ in dataset:
            break
    assert_no_threads()


def test_a_slow_reader_gets_every_batch(url: str) -> None:
    dataset = MimicITDataset(url, "TEXT_ONLY", batch_size=10)
    steps = []
    for batch in dataset:
        time.sleep(0.2)
        steps.append(batch.step)
    assert steps == list(range(5))


def test_resuming_at_every_step(url: str) -> None:
    def make() -> MimicITDataset:
        return MimicITDataset(url, batch_size=16, drop_last=False, epoch=2)

    dataset = make()
    whole = [[sample.id for sample in batch] for batch in dataset]
    states = [make().state_dict()]
    after = []
    for batch in dataset:
        states.append(dataset.state_dict())
        after.append(dataset.state_dict(after=batch))
    assert states[1:] == after
    for done, state in enumerate(states):
        resumed = make()
        resumed.load_state_dict(json.loads(json.dumps(state)))
        assert resumed.epoch == 2
        resumed.set_epoch(2)  # as a training loop does
        assert resumed.state_dict() == state
        assert [[sample.id for sample in batch] for batch in resumed] == whole[done:]


def test_what_was_only_prefetched_is_not_in_the_state(url: str) -> None:
    dataset = MimicITDataset(url, batch_size=4, prefetch=5)
    iterator = iter(dataset)
    assert dataset.state_dict()["step"] == 0
    next(iterator)
    time.sleep(0.5)
    assert dataset.state_dict()["step"] == 1


def test_the_state_after_an_epoch_is_the_next_one(url: str) -> None:
    dataset = MimicITDataset(url, batch_size=20, epoch=3)
    list(dataset)
    resumed = MimicITDataset(url, batch_size=20)
    resumed.load_state_dict(dataset.state_dict())
    assert resumed.epoch == 4
    assert [batch.step for batch in resumed] == list(range(len(resumed)))


def test_a_resumed_step_counts_for_one_pass(url: str) -> None:
    dataset = MimicITDataset(url, "TEXT_ONLY", batch_size=10)
    dataset.load_state_dict(dataset.state_dict() | {"step": 3})
    dataset.set_epoch(0)  # as a training loop does
    assert [[batch.step for batch in dataset] for _ in range(2)] == [[3, 4], [0, 1, 2, 3, 4]]


def test_set_epoch_under_an_iterator_stays(url: str) -> None:
    iterator = iter(dataset := MimicITDataset(url, "TEXT_ONLY", batch_size=10))
    next(iterator)
    dataset.set_epoch(1)
    assert {batch.epoch for batch in iterator} == {0}
    assert (dataset.state_dict()["epoch"], dataset.state_dict()["step"]) == (1, 0)


def test_another_world_size_in_the_middle(url: str) -> None:
    found: Counter[tuple[str, str]] = Counter()
    state: dict[str, Any] | None = None
    steps = [0, 3, 4, 9, 10**6]
    for world_size, until in zip((2, 3, 1, 6), steps[1:], strict=True):
        states = []
        for rank in range(world_size):
            dataset = MimicITDataset(
                url,
                batch_size=6 // world_size,
                drop_last=False,
                rank=rank,
                world_size=world_size,
            )
            if state is not None:
                dataset.load_state_dict(state)
            for batch in dataset:
                found += drawn([batch])
                if batch.step + 1 == until:
                    break
            states.append(dataset.state_dict())
        assert states == states[:1] * world_size
        state = states[0]
    expect_epoch(found)


@pytest.mark.parametrize(
    "other",
    [{"seed": 1}, {"batch_size": 8}, {"group": "TEXT_ONLY"}, {"drop_last": False}],
    ids=lambda other: next(iter(other)),
)
def test_a_state_of_another_order_is_refused(url: str, other: dict[str, Any]) -> None:
    state = MimicITDataset(url, batch_size=4).state_dict()
    dataset = MimicITDataset(url, **({"batch_size": 4} | other))
    with pytest.raises(StateError, match="another order"):
        dataset.load_state_dict(state)


def test_a_state_that_is_none_is_refused(url: str) -> None:
    dataset = MimicITDataset(url, batch_size=4)
    state = dataset.state_dict()
    with pytest.raises(StateError, match="revision"):
        dataset.load_state_dict(state | {"revision": "0" * 32})
    with pytest.raises(StateError, match="version"):
        dataset.load_state_dict({})
    with pytest.raises(StateError, match="without 'step'"):
        dataset.load_state_dict({name: state[name] for name in state if name != "step"})
    with pytest.raises(StateError, match="worker 1 of 2"):
        dataset.load_state_dict(state | {"worker": 1, "workers": 2})
    assert dataset.state_dict() == state


def test_what_can_not_be_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="prefetch"):
        MimicITDataset(url, batch_size=4, prefetch=0)
    with pytest.raises(ValueError, match="go together"):
        MimicITDataset(url, batch_size=4, rank=1)
    with pytest.raises(ValueError, match="rank 2"):
        MimicITDataset(url, batch_size=4, rank=2, world_size=2)
    with pytest.raises(InvalidRequestError):
        MimicITDataset(url, "NONE_SUCH", batch_size=4)
    with pytest.raises(RevisionChangedError):
        MimicITDataset(url, batch_size=4, revision="0" * 32)


WITHOUT_TORCH = """
import sys
sys.modules["torch"] = None  # as if it were not installed
from mimicit_client import MimicITDataset, collate
dataset = MimicITDataset(sys.argv[1], batch_size=4, drop_last=False)
steps = []
for batch in dataset:
    steps.append(batch.step)
    if batch.step == 3:
        break
resumed = MimicITDataset(sys.argv[1], batch_size=4, drop_last=False)
resumed.load_state_dict(dataset.state_dict())
steps += [collate(batch)["step"] for batch in resumed]
assert steps == list(range(len(dataset))), steps
"""


def test_without_torch_it_is_a_plain_iterable(url: str) -> None:
    subprocess.run([sys.executable, "-W", "error", "-c", WITHOUT_TORCH, url], check=True)


READER = """
import json, sys
from mimicit_client import MimicITDataset
url, state, log = sys.argv[1:]
dataset = MimicITDataset(url, batch_size=4, drop_last=False)
if state:
    dataset.load_state_dict(json.loads(state))
with open(log, "a") as out:
    for batch in dataset:
        ids = [[sample.dataset, sample.id] for sample in batch]
        out.write(json.dumps({"ids": ids, "state": dataset.state_dict()}) + "\\n")
        out.flush()
"""


def test_a_killed_reader_goes_on_where_it_was(url: str, tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.touch()
    kills, state = 0, ""
    while True:
        process = subprocess.Popen([sys.executable, "-c", READER, url, state, str(log)])
        lines = len(log.read_text().splitlines())
        stop_at = lines + random.randrange(1, 9)
        while process.poll() is None and kills < 4:
            if len(log.read_text().splitlines()) >= stop_at:
                os.kill(process.pid, signal.SIGKILL)
                kills += 1
                break
            time.sleep(0.001)
        code = process.wait()
        whole = [line for line in log.read_text().splitlines(keepends=True) if line[-1] == "\n"]
        log.write_text("".join(whole))
        state = json.dumps(json.loads(whole[-1])["state"])
        if code == 0:
            break
    assert kills
    found = Counter(tuple(pair) for line in whole for pair in json.loads(line)["ids"])
    expect_epoch(found)


def test_a_server_killed_and_restarted_under_a_running_client(tmp_path: Path) -> None:
    data, catalog, port = write_pack(tmp_path / "data"), tmp_path / "catalog", free_port()
    with start_at(port, data, catalog) as first:
        dataset = MimicITDataset(url_of(first), batch_size=3, drop_last=False)
        iterator = iter(dataset)
        batches = [next(iterator) for _ in range(5)]
        first.process.kill()
        first.process.wait()
    done = threading.Event()

    def read() -> None:
        batches.extend(iterator)
        done.set()

    reader = threading.Thread(target=read)
    reader.start()
    assert not done.wait(1)
    with start_at(port, data, catalog):
        reader.join(60)
        assert done.is_set()
    assert [batch.step for batch in batches] == list(range(len(dataset)))
    expect_epoch(drawn(batches))


def test_a_replica_that_dies_is_not_missed(url: str, tmp_path: Path) -> None:
    folder = tmp_path / "data"
    with start_server(write_pack(folder), tmp_path / "catalog") as other:
        dataset = MimicITDataset([url, url_of(other)], batch_size=3, drop_last=False)
        iterator = iter(dataset)
        batches = [next(iterator) for _ in range(5)]
        other.process.kill()
        other.process.wait()
        started = time.monotonic()
        batches += iterator
        assert time.monotonic() - started < 10
    expect_epoch(drawn(batches))
    assert dataset.revision == MimicITDataset(url, batch_size=1).revision


def test_other_data_under_a_running_client_end_it(tmp_path: Path) -> None:
    port = free_port()
    with start_at(port, write_pack(tmp_path / "one"), tmp_path / "catalog") as first:
        dataset = MimicITDataset(url_of(first), batch_size=3)
        iterator = iter(dataset)
        next(iterator)
    with (
        start_at(port, write_pack(tmp_path / "other", images=62), tmp_path / "catalog"),
        pytest.raises(RevisionChangedError),
    ):
        list(iterator)
    assert_no_threads()


def test_a_server_that_is_gone_ends_it_in_time(tmp_path: Path) -> None:
    with start_server(write_pack(tmp_path), tmp_path / "catalog") as running:
        dataset = MimicITDataset(
            url_of(running), batch_size=3, retries=Retries(total_seconds=1, max_pause_seconds=0.2)
        )
        iterator = iter(dataset)
        next(iterator)
    started = time.monotonic()
    with pytest.raises(ConnectionFailedError, match="no connection"):
        list(iterator)
    assert time.monotonic() - started < 5
    assert_no_threads()


def test_a_client_that_leaves_does_not_wait_for_retries() -> None:
    plan = {
        "seed": 0, "epoch": 0, "batch_size": 1, "world_size": 1, "drop_last": True, "steps": 9,
        "samples": 9, "left_over": 0, "groups": [],
    }  # fmt: skip
    busy = answer(503, retry_after="30")
    with FaultyServer(answer(200, json.dumps(plan).encode()), busy) as faulty:
        iterator = iter(MimicITDataset(faulty.url, batch_size=1))
        reader = threading.Thread(target=lambda: list(iterator))
        reader.start()
        while len(faulty.heads) < 3:
            time.sleep(0.01)
        iterator.close()
        reader.join(5)
        assert not reader.is_alive()
        assert_no_threads()
