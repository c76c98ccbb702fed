"""The examples of docs/loaders that train with torch's loaders, and what takes Otter's place."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from live_server import LiveServer, start_server
from mimicit_client import Client
from test_interop import list_blocks, list_rows, run_python

from app.demo import write_demo

torch = pytest.importorskip("torch", reason="torch is not installed")

pytestmark = [
    pytest.mark.slow,
    # More workers than this machine has cores is what is tested.
    pytest.mark.filterwarnings("ignore:This DataLoader will create"),
    # torchdata 0.11 calls what torch 2.13 deprecates.
    pytest.mark.filterwarnings("ignore:'set_vital' is deprecated"),
]

GROUPS = ("IMAGE_TEXT", "TEXT_ONLY", "IMAGE_TEXT_IN_CONTEXT")
LOOP, RESUME, STATEFUL, RANKS = list_blocks("torch.md", "python")
OTTER = list_blocks("otter.md", "python")[0]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("torch_loaders")


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[LiveServer]:
    with start_server(write_demo(folder / "demo"), folder / "catalog") as running:
        yield running


def count_draws(server: LiveServer, batch_size: int = 1) -> Counter[tuple[str, str]]:
    """The draws of an epoch of all groups, but for those that do not fill a batch."""
    drawn: Counter[tuple[str, str]] = Counter()
    for group in GROUPS:
        rows = list_rows(server, group, "seed=1")
        full = len(rows) - len(rows) % batch_size
        drawn.update((row["dataset"], row["id"]) for row in rows[:full])
    return drawn


def count_samples(batches: list[Any]) -> Counter[tuple[str, str]]:
    return Counter((sample.dataset, sample.id) for batch in batches for sample in batch)


@pytest.mark.parametrize("workers", [0, 1, 4])
def test_the_loop(server: LiveServer, workers: int) -> None:
    assert LOOP.count("num_workers=2") == 1
    block = LOOP.replace("num_workers=2", f"num_workers={workers}")
    batches: list[dict[str, Any]] = []
    run_python(block, server, train=batches.append)
    steps = len(batches) // 2
    assert [(one["epoch"], one["step"]) for one in batches] == [
        (epoch, step) for epoch in range(2) for step in range(steps)
    ]
    found = Counter(
        name
        for batch in batches[:steps]
        for name in zip(batch["dataset"], batch["id"], strict=True)
    )
    assert found == count_draws(server, 8)
    for batch in batches:
        if batch["group"] == "IMAGE_TEXT":
            assert (batch["images"].shape, batch["images"].dtype) == (
                (8, 1, 64, 64, 3),
                torch.uint8,
            )
    with Client(f"http://127.0.0.1:{server.port}") as client:
        first = next(batch for batch in batches if batch["group"] == "IMAGE_TEXT")
        for row, (dataset, keys) in enumerate(
            zip(first["dataset"], first["image_ids"], strict=True)
        ):
            assert client.instruction(first["id"][row], dataset).answer == first["answer"][row]
            assert client.instruction(first["id"][row], dataset).image_ids == tuple(keys)


@pytest.mark.parametrize("name", ["resume", "stateful"])
def test_resuming(server: LiveServer, name: str) -> None:
    if name == "stateful":
        pytest.importorskip("torchdata.stateful_dataloader", reason="torchdata is not installed")
    batches: list[Any] = []
    run_python(
        RESUME if name == "resume" else STATEFUL,
        server,
        train=batches.append,
        is_over=lambda: len(batches) == 7,
    )
    assert [batch.step for batch in batches] == list(range(len(batches)))
    assert len(batches) > 40
    assert count_samples(batches) == count_draws(server)


def test_ranks(server: LiveServer) -> None:
    ranks: list[list[Any]] = []
    for rank in range(2):
        batches: list[Any] = []
        run_python(
            RANKS.replace("localhost:8000", f"localhost:{server.port}"),
            server,
            train=batches.append,
            rank=rank,
        )
        ranks.append(batches)
    assert [batch.group for batch in ranks[0]] == [batch.group for batch in ranks[1]]
    assert [batch.step for batch in ranks[0]] == [batch.step for batch in ranks[1]]
    assert count_samples(ranks[0]) + count_samples(ranks[1]) == count_draws(server, 8)


class Tokenizer:
    """Characters for tokens: what the example asks of a real one."""

    bos_token, eos_token = "<s>", "</s>"

    def __call__(self, texts: list[str], *, padding: bool, **how: Any) -> dict[str, Any]:
        assert padding
        assert how == {"add_special_tokens": False, "return_tensors": "pt"}
        longest = max(map(len, texts))
        ids = [[ord(letter) for letter in text.ljust(longest, "\0")] for text in texts]
        tokens = torch.tensor(ids)
        return {"input_ids": tokens, "attention_mask": (tokens > 0).long()}


def test_what_takes_the_place_of_otters_loader(server: LiveServer) -> None:
    batches: list[dict[str, Any]] = []
    run_python(OTTER, server, train=batches.append, tokenizer=Tokenizer())
    steps = len(batches) // 2
    found = Counter((batch["task_group"][0], id) for batch in batches[:steps] for id in batch["id"])
    expected: Counter[tuple[str, str]] = Counter()
    rows: dict[tuple[str, str], dict[str, Any]] = {}
    for group in GROUPS:
        drawn = list_rows(server, group, "seed=1&images=none")
        rows |= {(group, row["id"]): row for row in drawn}
        expected.update((group, row["id"]) for row in drawn[: len(drawn) // 8 * 8])
    assert found == expected
    assert Counter(batch["task_group"][0] for batch in batches[:steps]) == Counter(
        batch["task_group"][0] for batch in batches[steps:]
    )
    with Client(f"http://127.0.0.1:{server.port}") as client:
        for step, batch in enumerate(batches[:steps]):
            (group,) = set(batch["task_group"])
            for id, text in zip(batch["id"], batch["full_text"], strict=True):
                assert text == write_prompt(rows[group, id], group)
            inputs = batch["net_input"]
            assert inputs["input_ids"].shape == inputs["attention_masks"].shape
            images = inputs["patch_images"]
            if group == "TEXT_ONLY":
                assert images.shape == (8, 1, 1, 3, 64, 64)
                assert not images.any()
                continue
            raw = client.batch(step, batch_size=8, seed=1, size=64, pixels=True, frames=3)
            assert raw.group == group
            for sample in raw:
                keys = rows[group, sample.id]["image_ids"]
                spread = np.linspace(0, len(keys) - 1, 3, dtype=int)
                assert sample.image_ids == tuple(keys[at] for at in spread)
            shown = np.stack([[np.asarray(one) for one in sample.images] for sample in raw])
            mean, std = np.array([0.481, 0.458, 0.408]), np.array([0.269, 0.261, 0.276])
            wanted = ((shown / 255 - mean) / std).transpose(0, 1, 4, 2, 3)
            assert images.shape == (8, 1, 3, 3, 64, 64)
            assert np.abs(images[:, 0].numpy() - wanted).max() < 1e-5


def write_prompt(row: dict[str, Any], group: str) -> str:
    text = ""
    for turn in [*row["context"], row]:
        first = not text
        shows = group == "IMAGE_TEXT_IN_CONTEXT" or (group == "IMAGE_TEXT" and first)
        text += "<image>" if shows else ""
        text += f"User:{turn['instruction']} GPT:<answer>{turn['answer']}<|endofchunk|>"
    return f"<s>{text}</s>"
