"""Fixtures of more than one module."""

from collections.abc import Iterator
from importlib.util import find_spec

import pytest
from ray_cluster import RayCluster


@pytest.fixture(scope="session")
def ray_cluster() -> Iterator[RayCluster]:
    """A Ray cluster of two machines: one, since all its tests are of the xdist group `ray`."""
    if find_spec("ray") is None:
        pytest.skip("the extra [ray] is not installed")
    cluster = RayCluster()
    yield cluster
    cluster.close()
