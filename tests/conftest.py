"""Fixtures of more than one module."""

from collections.abc import Iterator
from importlib.util import find_spec
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


class _Schedule(LoadScopeScheduling):
    """Each test for itself, but those of the cluster together: `auto` has to find one."""

    # xdist's own groups are names put behind node ids, which pytest 9.2 does not keep.
    def _split_scope(self, nodeid: str) -> str:
        return "ray" if "_cluster.py::" in nodeid else nodeid


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> _Schedule:
    """Have xdist share tests out so."""
    return _Schedule(config, log)


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ObjectStore]:
    """An S3 server: one, since all its tests are of the xdist group `objects`."""
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
