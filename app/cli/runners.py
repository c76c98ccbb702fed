"""Where a command's work is done: here, in processes of this machine, or on a cluster."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from app.settings import Settings
from app.tasks.cluster import connect
from app.tasks.job import ChooseRunner
from app.tasks.processes import choose_runner


@contextmanager
def open_runners(settings: Settings, cluster: str | None) -> Iterator[ChooseRunner]:
    """What chooses who does a job; raises ClusterError if there is to be a cluster and none is."""
    if cluster is None:
        yield partial(choose_runner, settings.task_processes)
    else:
        with connect(cluster) as runner:
            yield lambda _: runner
