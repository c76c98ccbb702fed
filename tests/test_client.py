"""The client against a real server: every request, odd keys, problems, batches as samples."""

import asyncio
import inspect
import json
import pickle
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import mimicit_client
import pytest
from live_server import LiveServer, start_server
from mimicit_client import (
    AmbiguousKeyError,
    AnswerError,
    AsyncClient,
    Batch,
    Client,
    ImageUnreadableError,
    InvalidRequestError,
    ProblemError,
    RevisionChangedError,
    Sample,
    StepOutOfRangeError,
    TooLargeError,
    UnknownDatasetError,
    UnknownImageError,
    UnknownInstructionError,
    collate,
)
from mimicit_client.errors import make_problem
from packs import draw_jpeg, record, write_images, write_instructions

from app import errors as service_errors

pytestmark = pytest.mark.slow

ODD_KEYS = [
    "..", ".", "a/../b", "../../etc/passwd", "/a/", "a b", "ü/日本", "100%", "%2E", "?q#f;&=+",
    "a\nb", "\\'\"", "//x", "K" * 900, "a:b@c", "__init__", "'; DROP TABLE images; --",
]  # fmt: skip
IMAGES = {key: draw_jpeg(n) for n, key in enumerate(ODD_KEYS)}
FRAMES = {f"F{n}": draw_jpeg(n, 20 + n, 10 + n) for n in range(9)}


def write_pack(folder: Path) -> Path:
    """Images with odd keys, texts, samples with context and samples with many images."""
    write_images(folder / "a.parquet", IMAGES | {"null": None, "SAME": draw_jpeg(50)})
    write_images(folder / "c.parquet", FRAMES | {"SAME": draw_jpeg(51)})
    write_instructions(
        folder / "a.json",
        {f"A{n}": record(f"what is {n}?", key, score=n) for n, key in enumerate(ODD_KEYS)},
    )
    write_instructions(folder / "t.json", {f"T{n}": record(f"say {n}") for n in range(7)})
    write_instructions(
        folder / "c.json",
        {
            f"C{n}": record(f"and {n}?", *[f"F{m}" for m in range(n)], rel_ins_ids=["C3", "C1"])
            for n in range(1, 8)
        },
    )
    (folder / "data.yaml").write_text(
        "IMAGE_TEXT:\n"
        "  A: {mimicit_path: a.json, images_path: a.parquet, task_description: look}\n"
        "TEXT_ONLY:\n"
        "  T: {mimicit_path: t.json, num_samples: 5}\n"
        "IMAGE_TEXT_IN_CONTEXT:\n"
        "  C: {mimicit_path: c.json, images_path: c.parquet}\n"
    )
    return folder / "data.yaml"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    folder = tmp_path_factory.mktemp("client")
    with start_server(
        write_pack(folder), folder / "catalog", max_lookup_keys=5, max_answer_bytes=4000
    ) as running:
        yield running


@pytest.fixture(scope="module")
def url(server: LiveServer) -> str:
    return f"http://127.0.0.1:{server.port}"


@pytest.fixture(scope="module")
def client(url: str) -> Iterator[Client]:
    with Client(url) as opened:
        yield opened


@pytest.fixture(params=["blocking", "asyncio"])
def ask(request: pytest.FixtureRequest, url: str) -> Callable[..., Any]:
    """Calls a method of a client of its own, of either kind."""

    def call(method: str, *args: Any, **kwargs: Any) -> Any:
        if request.param == "blocking":
            with Client(url) as opened:
                return getattr(opened, method)(*args, **kwargs)

        async def call_async() -> Any:
            async with AsyncClient(url) as opened:
                return await getattr(opened, method)(*args, **kwargs)

        return asyncio.run(call_async())

    return call


def test_datasets(ask: Callable[..., Any]) -> None:
    found = ask("datasets")
    assert [(one.name, one.group) for one in found] == [
        ("A", "IMAGE_TEXT"),
        ("T", "TEXT_ONLY"),
        ("C", "IMAGE_TEXT_IN_CONTEXT"),
    ]
    assert found[0].task_description == "look"
    assert (found[1].usable, found[1].num_samples, found[1].draws) == (7, 5, 5)


def test_an_instruction(ask: Callable[..., Any]) -> None:
    one = ask("instruction", "A2", "A")
    assert (one.instruction, one.answer) == ("what is 2?", "answer to what is 2?")
    assert (one.image_ids, one.extra, one.context) == ((ODD_KEYS[2],), {"score": 2}, None)
    assert ask("instruction", "A2") == one


def test_an_instruction_with_its_context(ask: Callable[..., Any]) -> None:
    one = ask("instruction", "C2", related=True)
    assert [turn.id for turn in one.context] == ["C3", "C1"]
    assert one.missing_context_ids == ()


@pytest.mark.parametrize("key", ODD_KEYS, ids=lambda key: ascii(key)[:20])
def test_an_image_of_an_odd_key(client: Client, key: str) -> None:
    assert client.image(key) == IMAGES[key]
    assert client.image(key, "A") == IMAGES[key]


def test_an_image_without_waiting_for_the_others(url: str) -> None:
    async def get_all() -> list[bytes]:
        async with AsyncClient(url) as opened:
            return await asyncio.gather(*[opened.image(key, "A") for key in ODD_KEYS])

    assert asyncio.run(get_all()) == list(IMAGES.values())


def test_many_images_within_the_limits_of_the_service(ask: Callable[..., Any]) -> None:
    keys = [*ODD_KEYS, "null", "none such", *ODD_KEYS]
    found = ask("images", keys, "A")
    assert [one.key for one in found] == keys
    assert [one.data for one in found] == [IMAGES.get(key) for key in keys]
    assert {one.content_type for one in found if one.data} == {"image/jpeg"}
    assert [one.error.code for one in found if one.error] == ["image_unreadable", "unknown_image"]
    assert isinstance(found[len(ODD_KEYS) + 1].error, UnknownImageError)
    assert ask("images", [], "A") == ()


def test_one_image_over_the_limit(tmp_path: Path) -> None:
    with (
        start_server(write_pack(tmp_path), tmp_path / "catalog", max_answer_bytes=100) as small,
        Client(f"http://127.0.0.1:{small.port}") as opened,
        pytest.raises(TooLargeError, match="max_answer_bytes"),
    ):
        opened.images(["."], "A")


def test_problems_are_typed(ask: Callable[..., Any]) -> None:
    with pytest.raises(UnknownDatasetError):
        ask("image", "K", "no such")
    with pytest.raises(UnknownImageError) as unknown:
        ask("image", "K")
    assert (unknown.value.code, unknown.value.status) == ("unknown_image", 404)
    assert unknown.value.detail == str(unknown.value)
    with pytest.raises(UnknownInstructionError):
        ask("instruction", "none")
    with pytest.raises(AmbiguousKeyError) as ambiguous:
        ask("image", "SAME")
    assert set(ambiguous.value.candidates) == {
        f"/v1/datasets/{name}/images/SAME" for name in ("A", "C")
    }
    with pytest.raises(RevisionChangedError):
        ask("plan", batch_size=2, revision="0" * 32)
    with pytest.raises(RevisionChangedError):
        ask("batch", 0, batch_size=2, revision="0" * 32)
    with pytest.raises(StepOutOfRangeError):
        ask("batch", 10**6, batch_size=2)
    with pytest.raises(InvalidRequestError):
        ask("batch", 0, batch_size=-1)
    with pytest.raises(InvalidRequestError):
        ask("plan", batch_size=2, group="NO_GROUP")
    with pytest.raises(TypeError, match="no such option: colour"):
        ask("batch", 0, batch_size=1, colour=True)


def test_every_problem_of_the_service_has_a_class() -> None:
    not_answered = {"error", "data_yaml", "source", "catalog", "convert", "cluster", "worker_died"}
    codes = {
        kind.code
        for kind in vars(service_errors).values()
        if isinstance(kind, type) and issubclass(kind, service_errors.MimicitError)
    } - not_answered
    assert len(codes) > 8
    for code in codes:
        made = make_problem({"code": code, "detail": "d", "status": 400})
        assert type(made) is not ProblemError, code
        again = pickle.loads(pickle.dumps(made))
        assert (type(again), again.code, again.detail) == (type(made), code, "d")
        # DataLoader makes a worker's exception again from its text alone.
        assert type(made)("text").code == code


def test_a_plan(ask: Callable[..., Any], server: LiveServer) -> None:
    plan = ask("plan", batch_size=2, seed=3, epoch=4, world_size=2, drop_last=False)
    assert (plan.seed, plan.epoch, plan.batch_size, plan.world_size) == (3, 4, 2, 2)
    assert {group.group: group.steps for group in plan.groups} == {
        "IMAGE_TEXT": 5,
        "TEXT_ONLY": 2,
        "IMAGE_TEXT_IN_CONTEXT": 2,
    }
    assert (plan.steps, plan.drop_last) == (9, False)
    assert plan.revision == server.get("/v1/datasets").headers["x-catalog-revision"]
    texts = ask("plan", batch_size=2, group="TEXT_ONLY").groups
    assert [(one.group, one.datasets[0].name, one.datasets[0].draws) for one in texts] == [
        ("TEXT_ONLY", "T", 5)
    ]


def test_a_batch(ask: Callable[..., Any]) -> None:
    batch = ask("batch", 0, batch_size=17, group="IMAGE_TEXT")
    assert (len(batch), batch.group, batch.epoch, batch.step) == (17, "IMAGE_TEXT", 0, 0)
    assert batch.substituted == 0
    assert {sample.id for sample in batch} == {f"A{n}" for n in range(17)}
    for sample in batch:
        assert isinstance(sample, Sample)
        assert [bytes(image) for image in sample.images] == [IMAGES[sample.image_ids[0]]]
        assert sample.extra == {"score": int(sample.id[1:])}
        assert (sample.dataset, sample.context, sample.substituted_for) == ("A", (), None)
        assert sample.instruction == f"what is {sample.id[1:]}?"
        assert [picture.size for picture in sample.pil()] == [(48, 32)]
    assert batch[-1] is batch[16]
    assert batch[2:4] == (batch[2], batch[3])
    assert not isinstance(batch, list | tuple)


def test_images_are_views_of_the_body(client: Client) -> None:
    batch = client.batch(0, batch_size=17, group="IMAGE_TEXT")
    body = memoryview(batch.body).cast("B")
    assert not body.readonly
    image = batch[0].images[0]
    before = bytes(image)
    at = bytes(body).index(before)
    body[at] ^= 0xFF
    assert bytes(image) != before


def test_a_batch_with_context(client: Client) -> None:
    batch = client.batch(0, batch_size=7, group="IMAGE_TEXT_IN_CONTEXT")
    for sample in batch:
        assert len(sample.images) == int(sample.id[1:])
        assert [turn.id for turn in sample.context] == ["C3", "C1"]
        assert [[bytes(image) for image in turn.images] for turn in sample.context] == [
            [FRAMES["F0"], FRAMES["F1"], FRAMES["F2"]],
            [FRAMES["F0"]],
        ]
    plain = client.batch(0, batch_size=7, group="IMAGE_TEXT_IN_CONTEXT", context=False)
    assert [sample.context for sample in plain] == [()] * 7
    assert [sample.id for sample in plain] == [sample.id for sample in batch]


def test_a_batch_without_images(client: Client) -> None:
    batch = client.batch(0, batch_size=7, group="IMAGE_TEXT_IN_CONTEXT", images="none")
    assert [sample.images for sample in batch] == [()] * 7
    assert [len(sample.context) for sample in batch] == [2] * 7
    assert not batch.has_pixels
    texts = client.batch(0, batch_size=5, group="TEXT_ONLY")
    assert [sample.images for sample in texts] == [()] * 5


def test_the_last_step_may_be_short_or_empty_for_a_rank(client: Client) -> None:
    asked: dict[str, Any] = {"batch_size": 4, "group": "TEXT_ONLY", "world_size": 3}
    ranks = [client.batch(0, rank=rank, drop_last=False, **asked) for rank in range(3)]
    assert [len(batch) for batch in ranks] == [4, 1, 0]
    assert list(ranks[2]) == []
    assert collate(ranks[2])["id"] == []
    assert len({sample.id for batch in ranks for sample in batch}) == 5


def test_a_batch_that_is_streamed_in_parts(tmp_path: Path) -> None:
    with (
        start_server(write_pack(tmp_path), tmp_path / "catalog", batch_part_bytes=1500) as parts,
        Client(f"http://127.0.0.1:{parts.port}") as opened,
        start_server(tmp_path / "data.yaml", tmp_path / "catalog") as whole,
        Client(f"http://127.0.0.1:{whole.port}") as other,
    ):
        for group in ("IMAGE_TEXT", "IMAGE_TEXT_IN_CONTEXT"):
            batch = opened.batch(0, batch_size=7, group=group)
            assert len(batch.table.to_batches()) > 1
            assert collate(batch) == collate(other.batch(0, batch_size=7, group=group))
            assert collate(pickle.loads(pickle.dumps(batch))) == collate(batch)
            pixels = opened.batch(0, batch_size=7, group=group, size=8, pixels=True)
            assert len(pixels.table.to_batches()) > 1
            same = other.batch(0, batch_size=7, group=group, size=8, pixels=True)
            for sample, expected in zip(pixels, same, strict=True):
                assert sample.images == expected.images
                assert {image.shape for image in sample.images} == {(8, 8, 3)}


def test_what_can_not_be_read_is_substituted_or_an_error(tmp_path: Path) -> None:
    pictures = {f"K{n}": draw_jpeg(n) for n in range(19)}
    write_images(tmp_path / "a.parquet", pictures | {"bad": b"no picture"})
    write_instructions(
        tmp_path / "a.json",
        {f"A{n}": record("?", key) for n, key in enumerate([*pictures, "bad"])},
    )
    (tmp_path / "data.yaml").write_text(
        "IMAGE_TEXT:\n  A: {mimicit_path: a.json, images_path: a.parquet}\n"
    )
    asked: dict[str, Any] = {"batch_size": 20, "group": "IMAGE_TEXT", "size": 8}
    with (
        start_server(tmp_path / "data.yaml", tmp_path / "catalog") as rotten,
        Client(f"http://127.0.0.1:{rotten.port}") as opened,
    ):
        batch = opened.batch(0, **asked)
        assert (len(batch), batch.substituted) == (20, 1)
        assert [one.substituted_for for one in batch if one.substituted_for] == ["A19"]
        assert "A19" not in {sample.id for sample in batch}
        with pytest.raises(ImageUnreadableError):
            opened.batch(0, on_error="fail", **asked)


def test_pictures_without_pillow(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    sample = client.batch(0, batch_size=1, group="IMAGE_TEXT")[0]
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(ImportError, match="pip install pillow"):
        sample.pil()


def test_a_batch_is_pickled_as_its_bytes(client: Client) -> None:
    batch = client.batch(0, batch_size=7, group="IMAGE_TEXT_IN_CONTEXT")
    for protocol in range(4, pickle.HIGHEST_PROTOCOL + 1):
        data = pickle.dumps(batch, protocol)
        assert len(data) < batch.body.size + 1000
        again = pickle.loads(data)
        assert (again.group, again.step, again.epoch) == (batch.group, batch.step, batch.epoch)
        assert again.revision == batch.revision
        assert collate(again) == collate(batch)
    sample = pickle.loads(pickle.dumps(batch[0]))
    assert list(map(bytes, sample.images)) == list(map(bytes, batch[0].images))
    assert [turn.id for turn in sample.context] == ["C3", "C1"]


def test_collate_without_pixels(client: Client) -> None:
    batch = client.batch(2, batch_size=3, group="IMAGE_TEXT", seed=9)
    columns = collate(batch)
    assert columns["images"] == [[IMAGES[ids[0]]] for ids in columns["image_ids"]]
    assert (columns["group"], columns["epoch"], columns["step"]) == ("IMAGE_TEXT", 0, 2)
    assert columns["id"] == [sample.id for sample in batch]
    assert columns["extra"] == [{"score": int(id[1:])} for id in columns["id"]]
    turn = collate(client.batch(0, batch_size=1, group="IMAGE_TEXT_IN_CONTEXT"))["context"][0][1]
    assert turn["images"] == [FRAMES["F0"]]
    with pytest.raises(AnswerError, match="pixels"):
        _ = batch.pixels


def test_what_is_no_batch_is_said(client: Client) -> None:
    batch = client.batch(0, batch_size=1)
    make: dict[str, Any] = {"group": "", "epoch": 0, "step": 0, "revision": ""}
    with pytest.raises(AnswerError, match="no Arrow stream"):
        Batch(batch.body[:100], **make)


def test_everything_public_is_documented() -> None:
    for name in mimicit_client.__all__:
        thing = getattr(mimicit_client, name)
        assert inspect.getdoc(thing), name
        for member, value in vars(thing).items() if inspect.isclass(thing) else ():
            if callable(value) and not member.startswith("_"):
                assert inspect.getdoc(value), f"{name}.{member}"
    for name in ("datasets", "instruction", "image", "images", "plan", "batch"):
        blocking, awaited = getattr(Client, name), getattr(AsyncClient, name)
        assert inspect.signature(blocking) == inspect.signature(awaited)
    assert str(inspect.signature(Client("http://h").image)).startswith("(key: str, dataset:")
    with pytest.raises(AttributeError, match="nothing"):
        _ = mimicit_client.nothing


def test_the_package_needs_neither_torch_nor_the_service() -> None:
    program = (
        "import sys, mimicit_client; mimicit_client.Client('http://h').close();"
        "print(sorted({'torch', 'PIL', 'app'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    assert json.loads(done.stdout.replace(b"'", b'"')) == []


def test_bench_says_how_fast_it_is(url: str) -> None:
    words = [sys.executable, "-m", "mimicit_client", "bench", url, "--seconds", "0.5"]
    done = subprocess.run([*words, "--batch-size", "2"], capture_output=True, text=True, check=True)
    assert " samples/s, " in done.stdout
    assert "MB/s" in done.stdout
    assert done.stderr == ""
    failed = subprocess.run(words, capture_output=True, text=True, check=False)
    assert failed.returncode == 1
    assert "lower --batch-size" in failed.stderr
