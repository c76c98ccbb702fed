"""Building a catalog: only what is missing, one builder at a time, whole or not at all."""

import json
import os
import random
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest
from live_server import command, environment, image_path, start_server
from packs import draw_jpeg, record, write_images, write_instructions

from app.catalog import sources
from app.catalog.build import build_catalog, is_fresh
from app.catalog.catalog import Catalog
from app.catalog.instructions import build_instructions
from app.catalog.limits import BuildLimits
from app.catalog.lock import build_lock
from app.catalog.manifest import Manifest, load_manifest
from app.data_yaml import load_data_yaml
from app.demo import write_demo
from app.errors import CatalogError
from app.images.stored import Form, decode
from app.progress import Progress

pytestmark = pytest.mark.slow

LIMITS = BuildLimits(
    max_value_bytes=1 << 20, max_page_bytes=1 << 26, duckdb_memory_bytes=256 << 20, processes=1
)


def build(data_yaml: Path, folder: Path, wait_seconds: float = 0) -> Manifest:
    loaded = load_data_yaml(data_yaml)
    return build_catalog(loaded, folder, LIMITS, lambda _: None, wait_seconds=wait_seconds)


def fresh(data_yaml: Path, folder: Path) -> bool:
    return is_fresh(load_data_yaml(data_yaml), folder, LIMITS)


def open_catalog(folder: Path) -> Catalog:
    return Catalog(
        folder, max_open_files=8, page_cache_bytes=1 << 20, duckdb_memory_bytes=256 << 20
    )


def units(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_ino for path in (folder / "units").iterdir()}


def write_pack(folder: Path, *names: str) -> Path:
    lines = ["IMAGE_TEXT:"]
    for number, name in enumerate(names):
        write_images(
            folder / f"{name}.parquet", {f"{name}{n}": draw_jpeg(n + number * 50) for n in range(5)}
        )
        write_instructions(
            folder / f"{name}.json", {f"I{name}{n}": record("q", f"{name}{n}") for n in range(5)}
        )
        lines.append(f"  {name}: {{mimicit_path: {name}.json, images_path: {name}.parquet}}")
    (folder / "data.yaml").write_text("\n".join(lines))
    return folder / "data.yaml"


def test_an_unchanged_source_is_not_read_again(tmp_path: Path) -> None:
    data = write_pack(tmp_path, "A", "B")
    first = build(data, tmp_path / "c")
    before = units(tmp_path / "c")
    assert fresh(data, tmp_path / "c")
    assert build(data, tmp_path / "c") == first
    assert units(tmp_path / "c") == before


def test_adding_a_dataset_indexes_that_dataset(tmp_path: Path) -> None:
    build(write_pack(tmp_path, "A"), tmp_path / "c")
    before = units(tmp_path / "c")
    times = {p: p.stat().st_mtime_ns for p in tmp_path.glob("A.*")}
    data = write_pack(tmp_path, "A", "B")
    for path, mtime in times.items():
        os.utime(path, ns=(mtime, mtime))
    assert not fresh(data, tmp_path / "c")
    build(data, tmp_path / "c")
    after = units(tmp_path / "c")
    assert before.items() <= after.items()
    assert len(after) == 2 * len(before)


def test_a_changed_part_indexes_that_part(tmp_path: Path) -> None:
    parts = tmp_path / "parts"
    parts.mkdir()
    for n in range(12):
        write_images(parts / f"part.{n}.parquet", {f"K{n}": draw_jpeg(n)})
    write_instructions(tmp_path / "i.json", {"I": record("q", "K3")})
    data = tmp_path / "data.yaml"
    data.write_text("IMAGE_TEXT:\n  A: {mimicit_path: i.json, images_path: parts}\n")
    build(data, tmp_path / "c")
    before = {name for name in units(tmp_path / "c") if name.startswith("file-")}
    write_images(parts / "part.3.parquet", {"K3": draw_jpeg(99)})
    build(data, tmp_path / "c")
    after = {name for name in units(tmp_path / "c") if name.startswith("file-")}
    assert len(before) == 12
    assert len(after - before) == 1
    catalog = open_catalog(tmp_path / "c")
    images = catalog.get_dataset("A").images
    assert images is not None
    place = images.get_place("K3")
    assert decode(images.read(place, wait=True), Form(place.form)) == draw_jpeg(99)
    catalog.close()


def test_the_revision_says_what_is_held_and_not_where(tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    revisions = {
        build(write_pack(tmp_path / name, "A", "B"), tmp_path / name / "c").revision
        for name in ("one", "two")
    }
    assert len(revisions) == 1
    two = tmp_path / "two"
    write_images(two / "B.parquet", {f"B{n}": draw_jpeg(n + 51) for n in range(5)})
    assert build(two / "data.yaml", two / "c").revision not in revisions


@pytest.mark.parametrize(
    "more", ["num_samples: 3", "task_description: other", "train_config_path: t.json"]
)
def test_the_revision_changes_with_the_data_yaml(tmp_path: Path, more: str) -> None:
    data = write_pack(tmp_path, "A")
    (tmp_path / "t.json").write_text(json.dumps({"IA1": ["IA2"]}))
    before = build(data, tmp_path / "c").revision
    data.write_text(data.read_text().replace("}", f", {more}}}"))
    assert not fresh(data, tmp_path / "c")
    assert build(data, tmp_path / "c").revision != before


def test_every_source_that_can_not_be_read_is_named_and_the_old_catalog_stays(
    tmp_path: Path,
) -> None:
    data = write_pack(tmp_path, "A", "B", "C")
    before = build(data, tmp_path / "c")
    (tmp_path / "A.parquet").write_bytes(b"PAR1 no parquet")
    (tmp_path / "C.json").write_text('{"data": {"I": ')
    with pytest.raises(CatalogError) as caught:
        build(data, tmp_path / "c")
    assert str(tmp_path / "A.parquet") in str(caught.value)
    assert str(tmp_path / "C.json") in str(caught.value)
    assert "B." not in str(caught.value)
    assert load_manifest(tmp_path / "c") == before
    open_catalog(tmp_path / "c").close()


def test_a_source_that_changes_between_planning_and_reading_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = write_pack(tmp_path, "A")
    read = build_instructions

    def replace_and_read(path: str, *rest: object) -> None:
        Path(path).write_text(Path(path).read_text().replace("answer to q", "another"))
        read(path, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(sources, "build_instructions", replace_and_read)
    with pytest.raises(CatalogError, match=r"A\.json changed while it was indexed"):
        build(data, tmp_path / "c")
    monkeypatch.undo()
    build(data, tmp_path / "c")
    catalog = open_catalog(tmp_path / "c")
    assert catalog.get_dataset("A").instructions.get("IA0").answer == "another"
    catalog.close()


def test_a_second_builder_says_who_has_the_lock(tmp_path: Path) -> None:
    data = write_pack(tmp_path, "A")
    heard: list[Progress] = []
    with (
        build_lock(tmp_path / "c", lambda _: None, 0),
        pytest.raises(CatalogError, match=f"process {os.getpid()}"),
    ):
        build_catalog(load_data_yaml(data), tmp_path / "c", LIMITS, heard.append, wait_seconds=0.3)
    assert [f"process {os.getpid()}" in progress.doing for progress in heard] == [True]


def test_two_builders_at_once_give_one_catalog(tmp_path: Path) -> None:
    data = write_demo(tmp_path / "demo", images=60)
    words = command("index", data, "--catalog-dir", tmp_path / "cats")
    builders = [
        subprocess.Popen(
            words, env=environment(), stderr=subprocess.PIPE, text=True, stdin=subprocess.DEVNULL
        )
        for _ in range(3)
    ]
    said = [builder.communicate(timeout=60)[1] for builder in builders]
    assert [builder.returncode for builder in builders] == [0, 0, 0], said
    assert len(list((tmp_path / "cats").iterdir())) == 1


def test_a_folder_that_can_not_be_written_is_said(tmp_path: Path) -> None:
    data = write_pack(tmp_path, "A")
    (tmp_path / "c").write_text("a file is in the way")
    with pytest.raises(CatalogError, match="can not be built"):
        build(data, tmp_path / "c")


def test_killed_at_any_moment_it_serves_right_answers_afterwards(tmp_path: Path) -> None:
    data = write_demo(tmp_path / "demo", images=150)
    words = command("index", data, "--catalog-dir", tmp_path / "cats")
    started = time.monotonic()
    subprocess.run(words, env=environment(), check=True, capture_output=True)
    whole_seconds = time.monotonic() - started
    shutil.rmtree(tmp_path / "cats")
    chance = random.Random(7)
    killed = 0
    for _ in range(5):
        builder = subprocess.Popen(
            words,
            env=environment(MIMICIT_INDEX_PROCESSES="2"),
            stderr=subprocess.DEVNULL,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
        time.sleep(whole_seconds * chance.uniform(0.3, 0.95))
        if builder.poll() is None:
            os.kill(builder.pid, signal.SIGKILL)
            killed += 1
        builder.wait()
    assert killed >= 2
    with start_server(data, tmp_path / "cats") as server:
        folder = next((tmp_path / "cats").iterdir())
        assert not list((folder / "units").glob(".tmp*"))
        records = json.loads((data.parent / "json" / "SHAPES_instructions.json").read_text())
        for id, expected in list(records["data"].items())[:50]:
            found = server.get_json(f"/v1/datasets/SHAPES/instructions/{id}")
            assert found["answer"] == expected["answer"]
        for item in server.get_json("/v1/datasets/SCENES/images?limit=100")["items"]:
            assert server.get(image_path("SCENES", item["key"])).status == 200
