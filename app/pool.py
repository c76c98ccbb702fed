"""Threads for work that an event loop should not do, and a bound on what waits for them."""

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from app.errors import OverloadedError

S = TypeVar("S")
T = TypeVar("T")


class Pool:
    """At most `threads` calls at a time, and at most `max_waiting` more that wait."""

    def __init__(self, name: str, threads: int, max_waiting: int) -> None:
        self._name = name
        self._threads = threads
        self._room = threads + max_waiting
        self._in_flight = 0
        self._executor = ThreadPoolExecutor(threads, thread_name_prefix=name)

    async def run(self, call: Callable[[], T]) -> T:
        """What `call` returns, called on a thread; raises OverloadedError at once if all wait."""
        if self._in_flight >= self._room:
            raise OverloadedError(f"too many {self._name} are in flight; try again in a second")
        self._in_flight += 1
        future = asyncio.get_running_loop().run_in_executor(self._executor, call)
        # Counted until the call ends, also when whoever asked has gone.
        future.add_done_callback(self._ended)
        return await asyncio.shield(future)

    def map(self, call: Callable[[S], T], items: Iterable[S]) -> Iterator[T]:
        """What `call` returns for each item, in order, for a thread of another pool.

        There is one item more in flight than there are threads, so that others need not wait for
        all of them. They are not refused: what asks for them is bounded, and has begun.
        """
        waiting: deque[Future[T]] = deque()
        for item in items:
            waiting.append(self._executor.submit(call, item))
            if len(waiting) > self._threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()

    def _ended(self, future: "asyncio.Future[T]") -> None:
        self._in_flight -= 1
        if not future.cancelled():
            future.exception()  # taken, so that one nobody waits for is no warning

    def close(self) -> None:
        """Finish what runs and drop what waits."""
        self._executor.shutdown(cancel_futures=True)
