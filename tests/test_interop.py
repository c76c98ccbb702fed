"""The examples of docs/loaders that ask with curl, Arrow's readers, webdataset and datasets."""

import base64
import io
import json
import re
import shutil
import subprocess
import tarfile
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from live_server import LiveServer, image_path, start_server

from app.demo import write_demo

pytestmark = [
    pytest.mark.slow,
    # More workers than this machine has cores is what is tested.
    pytest.mark.filterwarnings("ignore:This DataLoader will create"),
]

PAGES = Path(__file__).parents[1] / "docs" / "loaders"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    """What `make serve` serves."""
    folder = tmp_path_factory.mktemp("loaders")
    with start_server(write_demo(folder / "demo"), folder / "catalog") as running:
        yield running


def list_blocks(page: str, language: str) -> list[str]:
    """The code blocks of that language on a page of docs/loaders."""
    text = (PAGES / page).read_text()
    return re.findall(rf"^```{language}\n((?s:.+?))^```", text, re.MULTILINE)


def run_python(block: str, server: LiveServer, **given: Any) -> dict[str, Any]:
    """The names that a block leaves behind which asks this server, and has those to begin with."""
    assert ":8000" in block
    names = {"__name__": "__main__", **given}
    exec(compile(block.replace(":8000", f":{server.port}"), "<docs>", "exec"), names)
    return names


def run_bash(block: str, server: LiveServer, folder: Path) -> str:
    """What a block prints that asks this server, in that folder."""
    assert ":8000" in block
    words = ["bash", "-euo", "pipefail", "-c", block.replace(":8000", f":{server.port}")]
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done
    return done.stdout


def list_rows(server: LiveServer, group: str, query: str) -> list[dict[str, Any]]:
    """Every sample of a group's epoch, as NDJSON has it, in order; as many as its plan says."""
    path = f"/v1/groups/{group}"
    plan = server.get_json(f"{path}/plan?batch_size=100&drop_last=false&{query}")
    rows = []
    for step in range(plan["steps"]):
        how = f"batch_size=100&drop_last=false&format=ndjson&{query}"
        answer = server.get(f"{path}/batches/{step}?{how}")
        rows += [json.loads(line) for line in answer.body.splitlines()]
    (facts,) = plan["groups"]
    drawn = Counter(row["dataset"] for row in rows)
    assert drawn == {one["name"]: one["draws"] for one in facts["datasets"]}
    return rows


def read_images(server: LiveServer, row: dict[str, Any]) -> list[bytes]:
    """The images of a sample, each asked for by its key."""
    answers = [server.get(image_path(row["dataset"], key)) for key in row["image_ids"]]
    assert {answer.status for answer in answers} <= {200}
    return [answer.body for answer in answers]


def name_of(row: dict[str, Any]) -> tuple[str, str, str]:
    return row["dataset"], row["id"], row["answer"]


def names_of(rows: Iterable[dict[str, Any]]) -> list[tuple[str, str, str]]:
    return [name_of(row) for row in rows]


def need_tools(*tools: str) -> None:
    missing = [tool for tool in tools if shutil.which(tool) is None]
    if missing:
        pytest.skip(f"{', '.join(missing)} is not installed")


def test_curl(server: LiveServer, tmp_path: Path) -> None:
    need_tools("curl", "jq")
    table, picture, same, shard, epoch = list_blocks("curl.md", "bash")
    rows = list_rows(server, "IMAGE_TEXT", "seed=1")

    lines = run_bash(table, server, tmp_path).splitlines()
    assert [tuple(line.split("\t")) for line in lines] == names_of(rows[:8])

    run_bash(picture, server, tmp_path)
    assert [(tmp_path / "picture").read_bytes()] == read_images(server, rows[0])
    run_bash(same, server, tmp_path)
    assert [(tmp_path / "same").read_bytes()] == read_images(server, rows[0])

    answers = run_bash(shard, server, tmp_path).splitlines()
    files = {path.name: path.read_bytes() for path in (tmp_path / "shard").iterdir()}
    assert sorted(answers) == sorted(row["answer"] for row in rows[:20])
    for row in rows[:20]:
        assert json.loads(files.pop(f"{row['id']}.json"))["instruction"] == row["instruction"]
    assert Counter(files.values()) == Counter(
        image for row in rows[:20] for image in read_images(server, row)
    )

    run_bash(epoch, server, tmp_path)
    texts = [json.loads(line) for line in (tmp_path / "epoch.ndjson").read_text().splitlines()]
    assert names_of(texts) == names_of(rows)
    assert not any(text.get("images") for text in texts)


def test_arrow_polars_and_duckdb(server: LiveServer) -> None:
    duckdb = pytest.importorskip("duckdb", reason="DuckDB is not installed")
    pytest.importorskip("polars", reason="Polars is not installed")
    arrow, pixels, polars, counts = list_blocks("arrow.md", "python")
    rows = list_rows(server, "IMAGE_TEXT", "seed=1")[:32]

    found = run_python(arrow, server)
    batch = found["batch"].to_pylist()
    assert names_of(batch) == names_of(rows)
    assert [row["images"] for row in batch] == [read_images(server, row) for row in rows]
    assert found["first"] == batch[0]

    array = run_python(pixels, server)["pixels"]
    assert (array.shape, array.dtype) == ((32, 64, 64, 3), "uint8")
    resized = server.get(
        f"{image_path(rows[0]['dataset'], rows[0]['image_ids'][0])}"
        "?width=64&height=64&fit=cover&format=png"
    )
    image = pytest.importorskip("PIL.Image", reason="Pillow is not installed")
    with image.open(io.BytesIO(resized.body)) as picture:
        assert picture.convert("RGB").tobytes() == array[0].tobytes()

    sizes = run_python(polars, server)["sizes"]
    assert sizes.rows() == [(row["id"], len(read_images(server, row)[0])) for row in rows]

    found = run_python(counts, server)
    assert isinstance(found["counts"], duckdb.DuckDBPyRelation)
    assert found["rows"] == sorted(Counter(row["dataset"] for row in rows).items())


Trained = list[tuple[dict[str, Any], list[bytes]]]


def test_webdataset(server: LiveServer, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("webdataset", reason="webdataset is not installed")
    need_tools("curl")
    whole, planned, split = list_blocks("webdataset.md", "python")
    rows = list_rows(server, "IMAGE_TEXT", "seed=1")

    trained: Trained = []
    run_python(whole, server, train=lambda *sample: trained.append(sample))
    assert names_of(record for record, _ in trained) == names_of(rows)
    assert [images for _, images in trained] == [read_images(server, row) for row in rows]

    decoded: list[tuple[dict[str, Any], list[Any]]] = []
    run_python(planned, server, train=lambda *sample: decoded.append(sample))
    names = names_of(record for record, _ in decoded)
    assert names == names_of(rows) + names_of(list_rows(server, "IMAGE_TEXT", "seed=1&epoch=1"))
    assert {picture.size for _, pictures in decoded for picture in pictures} == {(64, 64)}

    pytest.importorskip("torch", reason="torch is not installed: there is no DataLoader")
    monkeypatch.setenv("WORLD_SIZE", "2")
    ranks: list[list[tuple[bytes, list[bytes]]]] = [[], []]
    for rank, taken in enumerate(ranks):
        monkeypatch.setenv("RANK", str(rank))
        run_python(split, server, train=lambda *sample, to=taken: to.append(sample))
    assert [len(taken) for taken in ranks] == [108, 108]
    samples = [(json.loads(text), images) for taken in ranks for text, images in taken]
    unseeded = list_rows(server, "IMAGE_TEXT", "seed=0")
    assert Counter(names_of(record for record, _ in samples)) == Counter(names_of(unseeded))
    assert all(images == read_images(server, record) for record, images in samples)


def test_webdataset_reads_a_context(server: LiveServer) -> None:
    webdataset = pytest.importorskip("webdataset", reason="webdataset is not installed")
    need_tools("curl")
    url = f"http://127.0.0.1:{server.port}/v1/groups/IMAGE_TEXT_IN_CONTEXT/shards/{{000..002}}.tar"
    rows = list_rows(server, "IMAGE_TEXT_IN_CONTEXT", "seed=0")
    found = list(webdataset.WebDataset(f"{url}?samples=50", shardshuffle=False))
    assert len(found) == len(rows)
    for sample, row in zip(found, rows, strict=True):
        assert name_of(json.loads(sample["json"])) == name_of(row)
        for prefix, turn in [
            ("", row),
            *((f"context{at}.", turn) for at, turn in enumerate(row["context"])),
        ]:
            names = [name for name in sample if re.fullmatch(rf"{prefix}\d+\.\w+", name)]
            expected = [base64.b64decode(text) for text in turn["images"]]
            assert [sample[name] for name in names] == expected


def test_webdataset_ends_with_an_error_past_the_last_shard(server: LiveServer) -> None:
    webdataset = pytest.importorskip("webdataset", reason="webdataset is not installed")
    need_tools("curl")
    url = f"http://127.0.0.1:{server.port}/v1/groups/TEXT_ONLY/shards/{{0..1}}.tar?samples=45"
    # The tar's end, or curl's status: whichever webdataset sees first.
    with pytest.raises((OSError, tarfile.ReadError), match=r"exit 22|empty file"):
        list(webdataset.WebDataset(url, shardshuffle=False))


def test_hugging_face_datasets(
    server: LiveServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("aiohttp", reason="aiohttp, which datasets reads URLs with, is missing")
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_DATASETS_OFFLINE", "1")
    monkeypatch.setenv("HF_DATASETS_DISABLE_PROGRESS_BARS", "1")
    pytest.importorskip("datasets", reason="datasets is not installed")
    shards, batches = list_blocks("huggingface.md", "python")
    rows = list_rows(server, "IMAGE_TEXT", "seed=1")

    opened: list[tuple[dict[str, Any], Any]] = []
    run_python(shards, server, train=lambda *sample: opened.append(sample))
    assert names_of(record for record, _ in opened) == names_of(rows)
    assert len({picture.format for _, picture in opened}) == 3
    encoded: list[tuple[dict[str, Any], dict[str, bytes]]] = []
    assert shards.count("Image()") == 3
    undecoded = shards.replace("Image()", "Image(decode=False)")
    run_python(undecoded, server, train=lambda *sample: encoded.append(sample))
    for (record, picture), row in zip(encoded, rows, strict=True):
        assert record["image_ids"] == row["image_ids"]
        assert [picture["bytes"]] == read_images(server, row)

    trained: Trained = []
    run_python(batches, server, train=lambda *sample: trained.append(sample))
    assert names_of(record for record, _ in trained) == names_of(rows)
    assert [images for _, images in trained] == [read_images(server, row) for row in rows]


def test_shards_are_known_by_their_number(server: LiveServer) -> None:
    path = "/v1/groups/IMAGE_TEXT/shards/{}.tar?samples=50"
    answers = [server.get(path.format(number)) for number in ("4", "04", "000004")]
    assert [answer.status for answer in answers] == [200] * 3
    assert len({answer.body for answer in answers}) == 1
    assert server.get(path.format("000005")).code == "step_out_of_range"
