"""Items side by side, as tasks on the machines of a Ray cluster that share a file system."""

import logging
import os
import signal
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any
from urllib.parse import urlsplit

from app.errors import ClusterError, MimicitError, WorkerDiedError
from app.tasks.board import Board
from app.tasks.job import Item, Job, Result, Watch

# Ray gives a task again to another machine when the one that it ran on dies: so many times, since
# an item that kills whatever it runs on would go round for ever.
_RETRIES = 3
_WAITING_PER_CPU = 2  # one that runs and one that is next
_POLL_SECONDS = 0.5
_REPORT_SECONDS = 0.5
_PROBE_SECONDS = 5.0  # Ray itself does not give up an address that nobody listens on


@contextmanager
def connect(address: str) -> Iterator["Cluster"]:
    """A connection to the cluster: host:port, ray://host:port or auto.

    Raises ClusterError if Ray is not installed or no cluster is there.
    """
    _probe(address)
    # Its messages of tasks that are tried again would otherwise stand between ours; read at import.
    os.environ.setdefault("RAY_DEDUP_LOGS_SKIP_REGEX", ".")
    try:
        import ray
    except ImportError as error:
        raise ClusterError(
            "a cluster needs Ray: python -m pip install 'mimicit[ray]', here and on its machines"
        ) from error
    on_term = signal.getsignal(signal.SIGTERM)
    try:
        ray.init(
            address=address,
            namespace="mimicit",
            log_to_driver=False,
            logging_level=logging.WARNING,
        )
        signal.signal(signal.SIGTERM, on_term)  # which init takes for itself
    except (OSError, RuntimeError, ValueError) as error:
        raise ClusterError(f"no Ray cluster answers at {address}: {error}") from error
    try:
        yield Cluster()
    finally:
        ray.shutdown()


def _probe(address: str) -> None:
    """Raise ClusterError if the address has a host and port, and nobody listens there."""
    parts = urlsplit(address if "://" in address else f"//{address}")
    try:
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port = None, None
    if address != "auto" and (host is None or port is None):
        raise ClusterError(f"{address!r} is no cluster: write host:port, ray://host:port or auto")
    if host is not None and port is not None:
        try:
            socket.create_connection((host, port), _PROBE_SECONDS).close()
        except OSError as error:
            raise ClusterError(f"no Ray cluster answers at {address}: {error}") from error


class Cluster:
    """Does a job in tasks of the cluster that this process is connected to."""

    def run(self, job: Job[Item, Result], items: Sequence[Item], watch: Watch) -> Iterator[Result]:
        """As `Runner.run`; raises WorkerDiedError if an item's machine or process died each time.

        A task whose machine dies is done again, so an item may be begun more than once.
        """
        import ray
        from ray.exceptions import RayError, RayTaskError

        board = Board()
        task: Any = ray.remote(_work).options(num_cpus=1, max_retries=_RETRIES)
        waiting = iter(enumerate(items))
        running: dict[Any, int] = {}
        done = 0
        try:
            while True:
                room = _WAITING_PER_CPU * _count_cpus()
                while len(running) < room and (numbered := next(waiting, None)) is not None:
                    number, item = numbered
                    running[task.remote(job, number, item, board.actor)] = number
                if not running:
                    break
                ready, _ = ray.wait(list(running), num_returns=1, timeout=_POLL_SECONDS)
                for one in ready:
                    number = running.pop(one)
                    try:
                        result, done_bytes = ray.get(one)
                    except RayTaskError as error:
                        raise _cause(error) from error
                    except RayError as error:
                        raise WorkerDiedError(
                            f"part of the work was lost {_RETRIES + 1} times, its machines or "
                            f"processes died under it: {error}"
                        ) from error
                    board.note(number, done_bytes)
                    done += 1
                    yield result
                watch(done, board.sum_bytes())
        finally:
            for one in running:
                with suppress(RayError):
                    ray.cancel(one)
            board.close()


def _count_cpus() -> int:
    """The processors that the cluster has now; it may grow."""
    import ray

    resources: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
    return max(1, int(resources.get("CPU", 1)))


def _cause(error: Any) -> BaseException:
    """What the job raised, if it is a fact of ours; else Ray's own error, which has its trace."""
    return error.cause if isinstance(error.cause, MimicitError) else error


def _work(job: Job[Item, Result], number: int, item: Item, board: Any) -> tuple[Result, int]:
    """Runs on a machine of the cluster: the result, and how many bytes it took."""
    done_bytes = 0
    told_seconds = time.monotonic()

    def advance(count: int) -> None:
        nonlocal done_bytes, told_seconds
        done_bytes += count
        if time.monotonic() - told_seconds >= _REPORT_SECONDS:
            told_seconds = time.monotonic()
            board.report.remote(number, done_bytes)

    with job.open() as work:
        return work(item, advance), done_bytes
