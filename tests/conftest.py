"""Fixtures of more than one module."""

import os
import subprocess
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from object_store import Folder, ObjectStore, Proxy, open_proxy, set_environment, start_store
from ray_cluster import RayCluster
from xdist.scheduler import LoadScopeScheduling


@pytest.fixture(scope="session")
def ray_cluster() -> Iterator[RayCluster]:
    """A Ray cluster of two machines; its tests, in test_*_cluster.py, are for one process."""
    if find_spec("ray") is None:
        pytest.skip("the extra [ray] is not installed")
    cluster = RayCluster()
    yield cluster
    cluster.close()


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ObjectStore]:
    """An S3 server: its tests, in test_objects*.py, are for one process."""
    with start_store(tmp_path_factory.mktemp("weed")) as store:
        yield store


@pytest.fixture
def proxy(store: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    """A proxy that the stores of this process, and those it starts, go through."""
    with open_proxy(store.port) as proxy:
        set_environment(monkeypatch, store.environment(proxy.port))
        yield proxy


@pytest.fixture
def folder(store: ObjectStore) -> Folder:
    """An empty folder of its bucket."""
    return store.make_folder()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 24 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(folder)]
    if os.getuid() or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("this user may not mount a file system")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


# What the tests of one process are called: those of a cluster, since `auto` has to find one, and
# those of the object store, which takes 100 MB.
_ONE_PROCESS = {"_cluster.py::": "cluster", "/test_objects": "objects"}


class _Schedule(LoadScopeScheduling):
    """Each test for itself, but those of one process together."""

    # xdist's own groups are names put behind node ids, which pytest 9.2 does not keep.
    def _split_scope(self, nodeid: str) -> str:
        groups = (group for part, group in _ONE_PROCESS.items() if part in nodeid)
        return next(groups, nodeid)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> _Schedule:
    """Have xdist share tests out so."""
    return _Schedule(config, log)
