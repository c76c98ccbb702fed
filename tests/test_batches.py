"""Batches over HTTP: what they hold, in which format, and what becomes of what can not be read."""

import base64
import io
import json
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import yaml
from batch_answers import list_samples, read_arrow
from live_server import LiveServer, start_server
from packs import draw_jpeg, record, write_images, write_instructions
from PIL import Image

pytestmark = pytest.mark.slow

PICTURES = {f"P{n:02}": draw_jpeg(n, 90 + n, 60) for n in range(40)}
RECORDS = {f"I{n:02}": record(f"question {n}", f"P{n:02}") for n in range(40)} | {
    "MANY": record("many", "P01", "P02", "P03", "P04", "P05"),
    "a.b/c~%d": record("odd name", "P06", extra_field={"x": [1, None]}),
    "GONE": record("never drawn", "NOWHERE"),
}
CONTEXT = {
    "C0": record("first", "P00"),
    "C1": record("second", "P01", rel_ins_ids=["C0"]),
    "C2": record("third", "P02", "P03", rel_ins_ids=["C1", "NO SUCH", "C0", "LOST"]),
    "LOST": record("lost", "NOWHERE"),
}
DATA = """
IMAGE_TEXT:
  PART: {mimicit_path: part.json, images_path: part.parquet, num_samples: 25}
  TWICE: {mimicit_path: context.json, images_path: part.parquet, num_samples: 7}
TEXT_ONLY:
  TEXT: {mimicit_path: text.json}
IMAGE_TEXT_IN_CONTEXT:
  CONTEXT: {mimicit_path: context.json, images_path: part.parquet}
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    folder = tmp_path_factory.mktemp("batches")
    write_images(folder / "part.parquet", PICTURES)
    write_instructions(folder / "part.json", RECORDS)
    write_instructions(folder / "context.json", CONTEXT)
    write_instructions(folder / "text.json", {f"T{n}": record(f"text {n}") for n in range(10)})
    (folder / "data.yaml").write_text(DATA)
    with start_server(folder / "data.yaml", folder / "c", max_frames=50) as live:
        yield live


def batch(server: LiveServer, path: str, **more: Any) -> pa.Table:
    answer = server.get(path)
    assert answer.status == 200, answer
    return read_arrow(answer.body)


def test_the_plan_says_what_an_epoch_holds(server: LiveServer) -> None:
    plan = server.get_json("/v1/plan?batch_size=4&world_size=2&seed=3&epoch=1")
    assert {name: plan[name] for name in plan if name != "groups"} == {
        "seed": 3,
        "epoch": 1,
        "batch_size": 4,
        "world_size": 2,
        "drop_last": True,
        "steps": 4 + 1 + 0,
        "samples": 32 + 10 + 3,
        "left_over": 0 + 2 + 3,
    }
    groups = {one["group"]: one for one in plan["groups"]}
    assert list(groups) == ["IMAGE_TEXT", "TEXT_ONLY", "IMAGE_TEXT_IN_CONTEXT"]
    part, twice = groups["IMAGE_TEXT"]["datasets"]
    assert part == {
        "name": "PART",
        "usable": 42,
        "draws": 25,
        "share": 25 / 32,
        "unusable": 1,
        "not_drawn": 17,
        "problems": {"missing_image": 1},
    }
    assert (twice["usable"], twice["draws"], twice["not_drawn"]) == (3, 7, 0)
    assert server.get_json("/v1/groups/TEXT_ONLY/plan?batch_size=3&drop_last=false")["steps"] == 4
    assert server.get_json("/v1/groups/VIDEO_TEXT/plan") == {
        "seed": 0,
        "epoch": 0,
        "batch_size": 8,
        "world_size": 1,
        "drop_last": True,
        "steps": 0,
        "samples": 0,
        "left_over": 0,
        "groups": [],
    }


def test_an_epoch_holds_every_draw_once(server: LiveServer) -> None:
    path = "/v1/groups/IMAGE_TEXT/batches/{}?batch_size=5&drop_last=false&epoch=2"
    tables = [batch(server, path.format(step)) for step in range(7)]
    assert [table.num_rows for table in tables] == [5, 5, 5, 5, 5, 5, 2]
    rows = list_samples(tables)
    part = [row["id"] for row in rows if row["dataset"] == "PART"]
    twice = [row["id"] for row in rows if row["dataset"] == "TWICE"]
    assert len(part) == len(set(part)) == 25
    assert {twice.count(id) for id in ("C0", "C1", "C2")} == {2, 3}
    other = [batch(server, path.format(step) + "&epoch=3") for step in range(7)]
    assert {row["id"] for row in list_samples(other)} == {row["id"] for row in rows}


def test_every_column_is_as_the_files_have_it(server: LiveServer) -> None:
    rows = list_samples(
        [
            batch(server, "/v1/groups/IMAGE_TEXT/batches/0?batch_size=32&frames=2&context=false"),
            batch(server, "/v1/groups/TEXT_ONLY/batches/0?batch_size=10"),
        ]
    )
    texts = {f"T{n}": record(f"text {n}") for n in range(10)}
    for row in rows:
        source = {"PART": RECORDS, "TWICE": CONTEXT, "TEXT": texts}[row["dataset"]]
        found = source[row["id"]]
        ids = found["image_ids"]
        if ids:
            ids = [ids[at] for at in np.linspace(0, len(ids) - 1, 2, dtype=int)]
        assert row["instruction"] == found["instruction"]
        assert row["answer"] == found["answer"]
        assert row["rel_ins_ids"] == found["rel_ins_ids"]
        assert row["image_ids"] == ids
        assert row["images"] == [PICTURES[key] for key in ids]
        assert row["context"] == []
        assert row["substituted_for"] is None
        extra = found.get("extra_field")
        assert row["extra"] == (None if extra is None else json.dumps({"extra_field": extra}))


def test_context_goes_before_and_in_order(server: LiveServer) -> None:
    path = "/v1/groups/IMAGE_TEXT_IN_CONTEXT/batches/0?batch_size=3"
    rows = {row["id"]: row for row in list_samples([batch(server, path)])}
    expected: dict[str, list[str]] = {"C0": [], "C1": ["C0"], "C2": ["C1", "C0"]}
    assert {id: [one["id"] for one in row["context"]] for id, row in rows.items()} == expected
    turn = rows["C2"]["context"][0]
    assert turn == {
        "id": "C1",
        "instruction": "second",
        "answer": "answer to second",
        "image_ids": ["P01"],
        "images": [PICTURES["P01"]],
    }
    assert rows["C2"]["images"] == [PICTURES["P02"], PICTURES["P03"]]
    without = list_samples([batch(server, path + "&context=false")])
    assert [row["context"] for row in without] == [[], [], []]


def test_the_three_formats_say_the_same(server: LiveServer) -> None:
    path = "/v1/groups/{}/batches/0?batch_size={}&seed=5&context=true"
    for group, size in (("IMAGE_TEXT", 32), ("IMAGE_TEXT_IN_CONTEXT", 3), ("TEXT_ONLY", 10)):
        rows = list_samples([batch(server, path.format(group, size))])
        answer = server.get(path.format(group, size) + "&format=ndjson")
        assert answer.headers["content-type"] == "application/x-ndjson"
        lines = [json.loads(line) for line in answer.body.splitlines()]
        for line in lines:
            line["extra"] = None if line["extra"] is None else json.dumps(line["extra"])
            for turn in (line, *line["context"]):
                turn["images"] = [base64.b64decode(text, validate=True) for text in turn["images"]]
        assert lines == rows
        tar = server.get(path.format(group, size), accept="text/html, application/x-tar;q=0.9")
        assert tar.headers["content-type"] == "application/x-tar"
        assert tar.headers["x-batch-group"] == group
        files = read_tar(tar.body)
        names = [name for name in files if name.endswith(".json")]
        assert len(names) == len(rows)
        for name, row in zip(names, rows, strict=True):
            described = json.loads(files.pop(name))
            assert described["id"] == row["id"]
            stem = name.removesuffix(".json")
            assert "." not in stem
            assert "/" not in stem
            for prefix, turn in [
                (stem, row),
                *((f"{stem}.context{at}", one) for at, one in enumerate(row["context"])),
            ]:
                for at, image in enumerate(turn["images"]):
                    assert files.pop(f"{prefix}.{at}.jpg") == image
        assert files == {}


def read_tar(body: bytes) -> dict[str, bytes]:
    with tarfile.open(fileobj=io.BytesIO(body)) as tar:
        files = [(one.name, tar.extractfile(one)) for one in tar]
        assert len({name for name, _ in files}) == len(files)
        return {name: file.read() for name, file in files if file is not None}


def test_a_shard_is_a_run_of_the_epoch(server: LiveServer) -> None:
    one = "/v1/groups/IMAGE_TEXT/shards/{}.tar?samples=10&seed=4"
    found = []
    for shard in range(4):
        files = read_tar(server.get(one.format(shard)).body)
        found += [json.loads(data)["id"] for name, data in files.items() if name.endswith(".json")]
    rows = list_samples([batch(server, "/v1/groups/IMAGE_TEXT/batches/0?batch_size=32&seed=4")])
    assert found == [row["id"] for row in rows]
    assert server.get(one.format(4)).code == "step_out_of_range"


def test_pictures_come_in_the_size_that_is_asked_for(server: LiveServer) -> None:
    path = "/v1/groups/IMAGE_TEXT/batches/0?batch_size=8&size=40"
    for fit, sizes in (("cover", {(40, 40)}), ("contain", {(40, h) for h in range(18, 28)})):
        for row in list_samples([batch(server, f"{path}&fit={fit}")]):
            for image in row["images"]:
                assert Image.open(io.BytesIO(image)).size in sizes
    table = batch(server, f"{path}&pixels=true&fit=contain&frames=2")
    of_type = table.schema.field("images").type.value_type
    assert of_type == pa.fixed_shape_tensor(pa.uint8(), (40, 40, 3))
    values = table["images"].combine_chunks().flatten()
    pixels = values.to_numpy_ndarray()
    assert pixels.shape == (16, 40, 40, 3)
    key = table["image_ids"][0][0].as_py()
    with Image.open(io.BytesIO(PICTURES[key])) as picture:
        height = round(picture.height * 40 / picture.width)
        color = np.array(picture.convert("RGB"))[30, 30]
    top = (40 - height) // 2
    assert not pixels[0][:top].any()
    assert not pixels[0][top + height :].any()
    assert np.abs(pixels[0][20, 20].astype(int) - color).max() <= 3


def test_without_images_there_is_no_column(server: LiveServer) -> None:
    path = "/v1/groups/IMAGE_TEXT_IN_CONTEXT/batches/0?batch_size=3&images=none"
    lines = [json.loads(line) for line in server.get(f"{path}&format=ndjson").body.splitlines()]
    assert not any("images" in turn for line in lines for turn in (line, *line["context"]))
    table = batch(server, path)
    assert "images" not in table.column_names
    row = next(row for row in table.to_pylist() if row["id"] == "C2")
    assert row["image_ids"] == ["P02", "P03"]
    assert "images" not in row["context"][0]
    assert [turn["id"] for turn in row["context"]] == ["C1", "C0"]  # as with images


@pytest.mark.parametrize("group", [None, "IMAGE_TEXT"])
def test_a_step_depends_on_the_global_batch_only(server: LiveServer, group: str | None) -> None:
    prefix = f"/v1/groups/{group}" if group else "/v1"
    found = []
    for world in (1, 2, 3, 4):
        how = f"batch_size={12 // world}&world_size={world}&seed=9&images=none"
        steps = server.get_json(f"{prefix}/plan?{how.removesuffix('&images=none')}")["steps"]
        assert steps > 1
        contents = []
        for step in range(steps):
            groups, rows = set(), []
            for rank in range(world):
                answer = server.get(f"{prefix}/batches/{step}?{how}&rank={rank}")
                groups.add(answer.headers["x-batch-group"])
                rows += list_samples([read_arrow(answer.body)])
            assert len(groups) == 1
            contents.append([(row["dataset"], row["id"]) for row in rows])
        found.append(contents)
    assert all(one == found[0] for one in found)


def test_a_rank_may_get_nothing_of_a_short_last_step(server: LiveServer) -> None:
    path = "/v1/groups/TEXT_ONLY/batches/1?batch_size=4&world_size=2&drop_last=false"
    assert batch(server, f"{path}&rank=0").num_rows == 2
    empty = server.get(f"{path}&rank=1")
    assert read_arrow(empty.body).num_rows == 0
    assert read_arrow(empty.body).schema == batch(server, f"{path}&rank=0").schema
    assert server.get(f"{path}&rank=1&format=ndjson").body == b""
    assert read_tar(server.get(f"{path}&rank=1&format=tar").body) == {}


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("/v1/batches/999?batch_size=4", 404, "step_out_of_range"),
        ("/v1/groups/VIDEO_TEXT/batches/0", 404, "step_out_of_range"),
        ("/v1/groups/IMAGE_TEXT/batches/0?batch_size=33", 404, "step_out_of_range"),
        ("/v1/batches/-1", 422, "invalid_request"),
        ("/v1/batches/x", 422, "invalid_request"),
        ("/v1/groups/PICTURES/batches/0", 422, "invalid_request"),
        ("/v1/batches/0?batch_size=0", 422, "invalid_request"),
        ("/v1/batches/0?rank=1", 422, "invalid_request"),
        ("/v1/batches/0?seed=-1", 422, "invalid_request"),
        ("/v1/batches/0?pixels=true", 422, "invalid_request"),
        ("/v1/batches/0?pixels=true&size=9&format=tar", 422, "invalid_request"),
        ("/v1/batches/0?images=none&size=9", 422, "invalid_request"),
        ("/v1/batches/0?frames=51", 422, "invalid_request"),
        ("/v1/batches/0?size=4097", 422, "invalid_request"),
        ("/v1/batches/0?batch_size=10001&drop_last=false", 413, "too_large"),
        ("/v1/groups/IMAGE_TEXT/shards/0.tar?samples=10001", 413, "too_large"),
        ("/v1/batches/0?revision=other", 409, "revision_changed"),
        ("/v1/plan?revision=other", 409, "revision_changed"),
    ],
)
def test_what_can_not_be_answered_is_refused(
    server: LiveServer, path: str, status: int, code: str
) -> None:
    answer = server.get(path)
    assert (answer.status, answer.code) == (status, code)


def test_a_pinned_batch_may_be_kept(server: LiveServer) -> None:
    first = server.get("/v1/batches/0")
    assert first.headers["cache-control"] == "no-cache"
    assert first.headers["vary"] == "accept"
    revision = first.headers["x-catalog-revision"]
    pinned = server.get(f"/v1/batches/0?revision={revision}")
    assert pinned.headers["cache-control"].endswith("immutable")
    assert pinned.headers["x-batch-substituted"] == "0"
    assert pinned.body == first.body


def test_a_context_without_end_is_refused(tmp_path: Path) -> None:
    records = {f"T{n}": record("what?") for n in range(3)}
    records["T0"]["rel_ins_ids"] = ["T1", "T2"] * 10
    write_instructions(tmp_path / "i.json", records)
    data = tmp_path / "data.yaml"
    data.write_text("IMAGE_TEXT_IN_CONTEXT:\n  A: {mimicit_path: i.json, images_path: p.parquet}\n")
    write_images(tmp_path / "p.parquet", {"P": draw_jpeg(1)})
    with start_server(data, tmp_path / "c", max_batch_samples=19) as live:
        refused = live.get("/v1/batches/0?batch_size=3")
        assert (refused.status, refused.code) == (413, "too_large")
        assert "20 instructions go before 'T0'" in refused.json()["detail"]
        assert live.get("/v1/batches/0?batch_size=3&context=false").ok


def test_two_servers_give_the_same_bytes(server: LiveServer, tmp_path: Path) -> None:
    """Other folders, times and processes, and the parts of a folder made in other order."""
    rows = {name: list(PICTURES.items())[at::3] for at, name in enumerate(("p.0", "p.2", "p.10"))}
    for folder, order in (("one", 1), ("two", -1)):
        (tmp_path / folder / "images").mkdir(parents=True)
        for name, items in list(rows.items())[::order]:
            write_images(tmp_path / folder / "images" / f"{name}.parquet", dict(items))
        write_instructions(tmp_path / folder / "part.json", RECORDS)
        data = {"IMAGE_TEXT": {"PART": {"mimicit_path": "part.json", "images_path": "images"}}}
        (tmp_path / folder / "data.yaml").write_text(yaml.safe_dump(data))
    bodies = []
    for folder in ("one", "two"):
        with start_server(tmp_path / folder / "data.yaml", tmp_path / folder / "c") as live:
            answers = [
                live.get(f"/v1/batches/{step}?batch_size=7&format={format}&seed=2")
                for step in range(6)
                for format in ("arrow", "tar", "ndjson")
            ]
            assert {answer.status for answer in answers} == {200}
            bodies.append([(one.body, one.headers["x-catalog-revision"]) for one in answers])
    assert bodies[0] == bodies[1]
