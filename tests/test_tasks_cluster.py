"""Work on a real Ray cluster of two machines on loopback, one of which dies in the middle."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from live_server import environment
from ray_cluster import RayCluster

from app.errors import ClusterError, DamagedFileError
from app.tasks.cluster import connect
from app.tasks.job import Advance

pytestmark = pytest.mark.slow


class Notes:
    """Writes down where each number was done, each time; a number takes some seconds."""

    def __init__(self, folder: Path, seconds: float = 0.0) -> None:
        self.folder = folder
        self.seconds = seconds

    @contextmanager
    def open(self) -> Iterator[Callable[[int, Advance], int]]:
        yield self.note

    def note(self, number: int, advance: Advance) -> int:
        import ray

        if number < 0:
            raise DamagedFileError(f"{number} is below zero")
        if number == 13:
            os._exit(1)
        node = ray.util.get_node_ip_address()  # type: ignore[no-untyped-call]
        (self.folder / f"{number}-on-{node}-{os.getpid()}").touch()
        for _ in range(10):
            time.sleep(self.seconds / 10)
            advance(10)
        (self.folder / f"{number}-done").touch()
        return number * number


# What a driver process prints: the results, then what was done at last.
_DRIVER = """
import sys
from pathlib import Path
from app.tasks.cluster import connect
from test_tasks_cluster import Notes
with connect(sys.argv[1]) as cluster:
    seen = []
    job = Notes(Path(sys.argv[2]), float(sys.argv[3]))
    for result in cluster.run(job, range(int(sys.argv[4])), lambda *done: seen.append(done)):
        print(result, flush=True)
    print(*seen[-1], seen == sorted(seen), flush=True)
"""


def start_driver(address: str, folder: Path, seconds: float, items: int) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-c", _DRIVER, address, str(folder), str(seconds), str(items)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(PYTHONPATH=str(Path(__file__).parent)),
    )


@pytest.mark.parametrize("way", ["host:port", "ray://", "auto"])
def test_every_item_is_done_on_both_machines(
    ray_cluster: RayCluster, tmp_path: Path, way: str
) -> None:
    ray_cluster.start_other()
    ways = {"host:port": ray_cluster.address, "ray://": ray_cluster.client_address, "auto": "auto"}
    driver = start_driver(ways[way], tmp_path, 0.3, 12)
    printed, said = driver.communicate(timeout=120)
    assert driver.returncode == 0, said
    *results, last = printed.splitlines()
    assert sorted(map(int, results)) == [number * number for number in range(12)]
    assert last == "12 1200 True"
    assert len(list(tmp_path.glob("*-done"))) == 12
    assert {path.name.split("-")[2] for path in tmp_path.glob("*-on-*")} == {
        "127.0.0.2",
        "127.0.0.3",
    }


def test_a_machine_that_dies_is_survived(ray_cluster: RayCluster, tmp_path: Path) -> None:
    other = ray_cluster.start_other()
    driver = start_driver(ray_cluster.address, tmp_path, 1.0, 12)
    assert driver.stdout is not None
    deadline = time.monotonic() + 60
    while len(list(tmp_path.glob("*-on-127.0.0.3-*"))) < 2 and time.monotonic() < deadline:
        time.sleep(0.05)
    other.kill()
    finished = {path.name.removesuffix("-done") for path in tmp_path.glob("*-done")}
    printed, said = driver.communicate(timeout=120)
    assert driver.returncode == 0, said
    *results, last = printed.splitlines()
    assert sorted(map(int, results)) == [number * number for number in range(12)]
    assert last == "12 1200 True"
    begun = [path.name.split("-")[0] for path in tmp_path.glob("*-on-*")]
    assert len(begun) > 12  # one was begun on the machine that died
    assert all(begun.count(number) == 1 for number in finished)  # none that was done


def test_what_a_job_raises_ends_it(ray_cluster: RayCluster, tmp_path: Path) -> None:
    ray_cluster.start_other()
    code = _DRIVER.replace("range(int(sys.argv[4]))", "[1, -2, 3]")
    done = subprocess.run(
        [sys.executable, "-c", code, ray_cluster.address, str(tmp_path), "0", "0"],
        capture_output=True,
        text=True,
        timeout=120,
        env=environment(PYTHONPATH=str(Path(__file__).parent)),
    )
    assert done.returncode == 1
    assert "app.errors.DamagedFileError: -2 is below zero" in done.stderr


def test_an_item_that_kills_its_process_ends_it(ray_cluster: RayCluster, tmp_path: Path) -> None:
    ray_cluster.start_other()
    code = _DRIVER.replace("range(int(sys.argv[4]))", "[1, 13, 3]")
    done = subprocess.run(
        [sys.executable, "-c", code, ray_cluster.address, str(tmp_path), "0", "0"],
        capture_output=True,
        text=True,
        timeout=120,
        env=environment(PYTHONPATH=str(Path(__file__).parent)),
    )
    assert done.returncode == 1
    assert "WorkerDiedError" in done.stderr
    assert "lost 4 times" in done.stderr


@pytest.mark.parametrize(
    "address", ["127.0.0.2:9", "ray://127.0.0.2:9", "nonsense", "ray://", "host:port", ""]
)
def test_no_cluster_is_said_at_once(address: str) -> None:
    began = time.monotonic()
    with pytest.raises(ClusterError), connect(address):
        raise AssertionError("connected")
    assert time.monotonic() - began < 10
