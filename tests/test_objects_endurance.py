"""A short version of `python -m benchmarks.endurance store`."""

import pytest
from test_endurance import list_missed

from benchmarks.endurance import store

pytestmark = pytest.mark.slow


def test_faults_of_a_store_under_load() -> None:
    assert list_missed(store.run(0.5, connections=8, pictures=30)) == []
