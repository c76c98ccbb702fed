"""Items side by side, in processes of this machine."""

import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack
from typing import Any

from app.errors import WorkerDiedError
from app.processes import end_with_parent
from app.tasks.here import Here
from app.tasks.job import Advance, Item, Job, Result, Runner, Watch

# What there has to be beside the largest item, for processes side by side to save more than the
# 0.5 s or more that they take to start: 250 MB at 500 MB/s.
_PARALLEL_BYTES = 256 << 20
_POLL_SECONDS = 0.1


def choose_runner(processes: int, sizes_bytes: Sequence[int]) -> Runner:
    """At most that many processes for items of those sizes, or none where they would not pay."""
    beside_bytes = sum(sizes_bytes) - max(sizes_bytes, default=0)
    if processes > 1 and beside_bytes >= _PARALLEL_BYTES:
        return Processes(min(processes, len(sizes_bytes)))
    return Here()


class Processes:
    """Does a job in so many processes at a time, each of which opens it once."""

    def __init__(self, count: int) -> None:
        self._count = count

    def run(self, job: Job[Item, Result], items: Sequence[Item], watch: Watch) -> Iterator[Result]:
        """As `Runner.run`; raises WorkerDiedError if a process was killed."""
        context = multiprocessing.get_context("spawn")
        counter: Any = context.Value("Q", 0)
        with ProcessPoolExecutor(self._count, context, _start, (counter, job)) as pool:
            pending = {pool.submit(_work, item) for item in items}
            try:
                while pending:
                    done, pending = wait(pending, _POLL_SECONDS, FIRST_COMPLETED)
                    watch(len(items) - len(pending), counter.value)
                    for future in done:
                        yield future.result()
            except BrokenProcessPool as error:
                raise WorkerDiedError(
                    "a process that did part of the work was killed, perhaps for want of memory; "
                    "lower the setting task_processes and do it again"
                ) from error
            finally:
                pool.shutdown(cancel_futures=True)


_opened: tuple[ExitStack, Callable[[Any, Advance], Any], Advance] | None = None  # once a process


def _start(counter: Any, job: Job[Any, Any]) -> None:
    """Open the job in a process of the pool, which ends with its parent, also a killed one."""
    global _opened

    def advance(count: int) -> None:
        with counter.get_lock():
            counter.value += count

    stack = ExitStack()  # kept, for as long as the process lives
    _opened = stack, stack.enter_context(job.open()), advance
    end_with_parent()


def _work(item: Any) -> Any:
    if _opened is None:
        raise WorkerDiedError("this process was not started to work")
    _, work, advance = _opened
    return work(item, advance)
