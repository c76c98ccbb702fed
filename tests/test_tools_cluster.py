"""`mimicit convert` and `mimicit check --decode` on a real Ray cluster, of which a machine dies."""

import json
import subprocess
import sys
import time
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from live_server import environment
from PIL import Image
from ray_cluster import RayCluster

from app.demo import write_demo

pytestmark = pytest.mark.slow
_PICTURES = 1_200
_PARTITION_BYTES = 10_000_000


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of noisy pictures, some 100 MB."""
    folder = tmp_path_factory.mktemp("pictures")
    random = np.random.default_rng(0)
    noise = random.integers(0, 256, (480, 640, 3), np.uint8)
    for number in range(_PICTURES):
        made = BytesIO()
        Image.fromarray(np.roll(noise[:200, :220], number, 1)).save(made, "jpeg", quality=95)
        (folder / f"IMG_{number:05}.jpg").write_bytes(made.getvalue() + random.bytes(40_000))
    return folder


def start(*command: object) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", "app", *map(str, command)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(),
    )


def finish(process: "subprocess.Popen[str]", status: int = 0) -> str:
    printed, said = process.communicate(timeout=240)
    assert process.returncode == status, said
    return printed


def list_parts(output: Path) -> dict[str, tuple[int, int]]:
    """The finished partitions, and what they would not keep if they were written again."""
    found = output.glob("**/part.*.parquet")
    return {part.name: (part.stat().st_ino, part.stat().st_mtime_ns) for part in found}


def test_a_machine_that_dies_while_it_converts_is_survived(
    ray_cluster: RayCluster, pictures: Path, tmp_path: Path
) -> None:
    other = ray_cluster.start_other()
    command = ("convert", "images", pictures)
    limit = ("--max-partition-bytes", _PARTITION_BYTES)
    finish(start(*command, tmp_path / "here", *limit))
    working = tmp_path / "there.converting"
    convert = start(*command, tmp_path / "there", *limit, "--cluster", ray_cluster.address)
    deadline = time.monotonic() + 120
    while len(list_parts(working)) < 3 and time.monotonic() < deadline:
        time.sleep(0.005)
    other.kill()
    done = list_parts(working)
    assert len(done) >= 3
    assert finish(convert) == ""
    after = list_parts(tmp_path / "there")
    assert len(done) < len(after) > 5
    assert done.items() <= after.items()  # none was written again
    here = {part.name: part.read_bytes() for part in (tmp_path / "here").iterdir()}
    assert {part.name: part.read_bytes() for part in (tmp_path / "there").iterdir()} == here
    assert not working.exists()


def test_checking_on_a_cluster_finds_the_same(ray_cluster: RayCluster, tmp_path: Path) -> None:
    ray_cluster.start_other()
    data_yaml = write_demo(tmp_path / "demo", images=60, seed=1)
    reports = []
    for number, more in enumerate(((), ("--cluster", ray_cluster.client_address))):
        catalogs = ("--catalog-dir", tmp_path / f"catalogs-{number}")
        printed = finish(start("check", data_yaml, "--decode", "--json", "-", *catalogs, *more))
        reports.append(json.loads(printed))
    for report in reports:
        for source in report["sources"]:
            for file in source["files"]:
                del file["lookup_us"]
    assert reports[0] == reports[1]
    assert reports[0]["decoded"] >= 60


def test_a_machine_that_dies_while_it_decodes_is_survived(
    ray_cluster: RayCluster, pictures: Path, tmp_path: Path
) -> None:
    other = ray_cluster.start_other()
    finish(
        start("convert", "images", pictures, tmp_path / "images", "--max-partition-bytes", 10**7)
    )
    (tmp_path / "set.json").write_text(json.dumps({"data": {}}))
    data_yaml = tmp_path / "data.yaml"
    data_yaml.write_text("IMAGE_TEXT: {SET: {mimicit_path: set.json, images_path: images}}")
    catalogs = ("--catalog-dir", tmp_path / "catalogs")
    finish(start("index", data_yaml, *catalogs))
    command = ("check", data_yaml, "--decode", "--json", "-", *catalogs)
    check = start(*command, "--cluster", ray_cluster.address)
    # There is nothing on disk that tells when it decodes; the cluster itself does.
    deadline = time.monotonic() + 60
    while not other.is_working() and time.monotonic() < deadline:
        time.sleep(0.05)
    other.kill()
    report = json.loads(finish(check))
    assert report["decoded"] == _PICTURES
    assert sum(one["count"] for one in report["problems"]) == _PICTURES  # that nobody uses
