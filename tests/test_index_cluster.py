"""`mimicit index --cluster` on a real Ray cluster of two machines, one of which dies."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pybase64
import pytest
from live_server import environment
from ray_cluster import RayCluster

from app.catalog.manifest import load_manifest

pytestmark = pytest.mark.slow
_PARTS = 24
_ROWS = 60
_PICTURE_BYTES = 75_000


@pytest.fixture(scope="module")
def data_yaml(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    (folder / "images").mkdir()
    random = np.random.default_rng(0)
    for part in range(_PARTS):
        values = [pybase64.b64encode(random.bytes(_PICTURE_BYTES)) for _ in range(_ROWS)]
        keys = [f"IMG_{part:03}_{row:03}" for row in range(_ROWS)]
        table = pa.table({"base64": pa.array(values).cast(pa.string()), "key": keys})
        pq.write_table(table, folder / "images" / f"part.{part}.parquet")
    (folder / "set.json").write_text(
        '{"data": {"INS": {"instruction": "?", "answer": "!", "image_ids": ["IMG_000_000"]}}}'
    )
    path = folder / "data.yaml"
    path.write_text("IMAGE_TEXT: {SET: {mimicit_path: set.json, images_path: images}}")
    return path


def start_index(data_yaml: Path, catalogs: Path, *more: str) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "app", "index", str(data_yaml)]
    return subprocess.Popen(
        [*command, "--catalog-dir", str(catalogs), *more],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(),
    )


def revision_of(catalogs: Path) -> str:
    (folder,) = catalogs.iterdir()
    manifest = load_manifest(folder)
    assert manifest is not None
    return manifest.revision


def list_units(catalogs: Path) -> dict[str, tuple[int, int]]:
    """The units of image files, and what they would not keep if they were written again."""
    units = list(catalogs.glob("*/units/file-*"))
    return {unit.name: (unit.stat().st_ino, unit.stat().st_mtime_ns) for unit in units}


@pytest.fixture(scope="module")
def revision(data_yaml: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """What this machine alone makes of it."""
    catalogs = tmp_path_factory.mktemp("local")
    index = start_index(data_yaml, catalogs)
    assert index.wait(timeout=120) == 0
    index.communicate()
    return revision_of(catalogs)


def test_a_cluster_builds_the_same_catalog(
    ray_cluster: RayCluster, data_yaml: Path, revision: str, tmp_path: Path
) -> None:
    ray_cluster.start_other()
    index = start_index(data_yaml, tmp_path, "--cluster", ray_cluster.client_address)
    printed, said = index.communicate(timeout=180)
    assert index.returncode == 0, said
    assert printed == ""
    assert f"is built: revision {revision}" in said
    assert revision_of(tmp_path) == revision


def test_a_machine_that_dies_while_it_indexes_is_survived(
    ray_cluster: RayCluster, data_yaml: Path, revision: str, tmp_path: Path
) -> None:
    other = ray_cluster.start_other()
    index = start_index(data_yaml, tmp_path, "--cluster", ray_cluster.address)
    deadline = time.monotonic() + 120
    while len(list_units(tmp_path)) < 4 and time.monotonic() < deadline:
        time.sleep(0.01)
    other.kill()
    done = list_units(tmp_path)
    assert 4 <= len(done) < _PARTS
    printed, said = index.communicate(timeout=180)
    assert index.returncode == 0, said
    assert printed == ""
    assert revision_of(tmp_path) == revision
    after = list_units(tmp_path)
    assert len(after) == _PARTS
    assert done.items() <= after.items()  # none was written again
    assert not list(tmp_path.glob("*/units/.tmp-*"))  # nor left half done


def test_a_driver_that_dies_leaves_what_was_done(
    ray_cluster: RayCluster, data_yaml: Path, revision: str, tmp_path: Path
) -> None:
    ray_cluster.start_other()
    index = start_index(data_yaml, tmp_path, "--cluster", ray_cluster.address)
    deadline = time.monotonic() + 120
    while len(list_units(tmp_path)) < 4 and time.monotonic() < deadline:
        time.sleep(0.01)
    index.send_signal(signal.SIGKILL)
    index.communicate()
    time.sleep(1)  # its tasks end with it, in half a second
    done = list_units(tmp_path)
    assert 4 <= len(done) < _PARTS
    again = start_index(data_yaml, tmp_path, "--cluster", ray_cluster.address)
    _, said = again.communicate(timeout=180)
    assert again.returncode == 0, said
    assert revision_of(tmp_path) == revision
    assert done.items() <= list_units(tmp_path).items()


def test_no_cluster_is_one_message(data_yaml: Path, tmp_path: Path) -> None:
    index = start_index(data_yaml, tmp_path, "--cluster", "127.0.0.2:9")
    printed, said = index.communicate(timeout=60)
    assert index.returncode == 1
    assert printed == ""
    assert said.startswith("mimicit: no Ray cluster answers at 127.0.0.2:9")
    assert len(said.splitlines()) == 1
