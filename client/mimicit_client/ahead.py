"""Work done ahead of who takes its results, in order, on a bounded number of threads."""

import threading
import weakref
from collections.abc import Callable, Iterator, Sequence
from typing import Generic, TypeVar

T = TypeVar("T")
Wait = Callable[[float], object]


class StoppedError(Exception):
    """Nobody takes the results any more."""


class Ahead(Generic[T]):
    """Iterates over do(item, wait) of each item, in their order, with `limit` of them in flight.

    In flight is what is being done or done and not yet taken. `wait` sleeps, and raises
    StoppedError once the iterator is closed, exhausted, collected or has raised: its threads end
    then, each when the call that it is in comes back.
    """

    def __init__(
        self, do: Callable[[int, Wait], T], items: Sequence[int], limit: int, name: str
    ) -> None:
        """Starts no thread before the first result is asked for."""
        self._work = _Work(do, items, limit)
        self._threads = [
            # Daemons: one that waits for a dead host must not hold up the end of the process.
            threading.Thread(target=self._work.run, name=f"{name}-{n}", daemon=True)
            for n in range(min(limit, len(items)))
        ]
        self._is_started = False
        # Threads know the work and not this iterator, so that it can be collected under them.
        self.close = weakref.finalize(self, self._work.stop)

    def __iter__(self) -> Iterator[T]:
        return self

    def __next__(self) -> T:
        """The next result; raises what `do` raised for it, and ends then."""
        if not self._is_started:
            self._is_started = True
            for thread in self._threads:
                thread.start()
        try:
            return self._work.take()
        except BaseException:
            self.close()
            raise


class _Work(Generic[T]):
    """What the threads share."""

    def __init__(self, do: Callable[[int, Wait], T], items: Sequence[int], limit: int) -> None:
        self._do = do
        self._items = items
        self._limit = limit
        self._changed = threading.Condition()
        self._stopped = threading.Event()
        self._begun = 0
        self._taken = 0
        self._results: dict[int, T | BaseException] = {}

    def run(self) -> None:
        while (number := self._begin()) is not None:
            result: T | BaseException
            try:
                result = self._do(self._items[number], self._wait)
            except BaseException as error:
                result = error
            with self._changed:
                if self._stopped.is_set():
                    return
                self._results[number] = result
                self._changed.notify_all()
            del result  # else it lives as long as the next one takes

    def _begin(self) -> int | None:
        with self._changed:
            self._changed.wait_for(
                lambda: self._stopped.is_set() or self._begun < self._taken + self._limit
            )
            if self._stopped.is_set() or self._begun == len(self._items):
                return None
            self._begun += 1
            return self._begun - 1

    def _wait(self, seconds: float) -> None:
        if self._stopped.wait(seconds):
            raise StoppedError

    def take(self) -> T:
        with self._changed:
            if self._stopped.is_set() or self._taken == len(self._items):
                raise StopIteration
            self._changed.wait_for(lambda: self._stopped.is_set() or self._taken in self._results)
            if self._stopped.is_set():
                raise StopIteration
            result = self._results.pop(self._taken)
            self._taken += 1
            self._changed.notify_all()
        if isinstance(result, BaseException):
            raise result
        return result

    def stop(self) -> None:
        with self._changed:
            self._stopped.set()
            self._results.clear()
            self._changed.notify_all()
