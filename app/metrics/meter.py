"""What a worker counts, and the same of all workers together."""

import os
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from threading import Lock

from app.metrics.cells import Cells

# A warm picture takes 0.1 ms, a batch 20; what takes longer than a minute waits for a slow client.
BOUNDS_SECONDS = (
    *(0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05),
    *(0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0),
)
STATUS_CLASSES = ("1xx", "2xx", "3xx", "4xx", "5xx")
OTHER_ROUTE = "other"
# Codes of problems that refuse what could have been answered at another time.
REFUSALS = ("unauthorized", "rate_limited", "overloaded", "source_changed", "source_unavailable")

_BOUNDS_NS = tuple(round(seconds * 1e9) for seconds in BOUNDS_SECONDS)
_BUCKETS = len(_BOUNDS_NS) + 1
_SERIES = _BUCKETS + 1  # and the sum, in nanoseconds
_ROUTE = 1 + len(STATUS_CLASSES) * _SERIES  # the bytes first


class Way(IntEnum):
    """How a value was read."""

    IN_PLACE = 0
    CACHED_PAGE = 1
    DECODED_PAGE = 2
    DUCKDB = 3


# Cells of a row.
_PID, _IN_FLIGHT, _SUBSTITUTED, _RANGE_HITS, _RANGE_MISSES = range(5)
_STORE_ANSWERS, _STORE_FAILURES, _STORE_BYTES = range(5, 8)
_WAYS = 8
_REFUSALS = _WAYS + len(Way)
_ROUTES = _REFUSALS + len(REFUSALS)


@dataclass(frozen=True, slots=True)
class Timing:
    """The requests of a route that ended with a class of status: how many within each bound, and
    beyond all, and what they took together."""

    route: str
    status: str
    counts: list[int]
    seconds: float


@dataclass(frozen=True, slots=True)
class Stock:
    """All workers' counts, and the process ids of those that are alive."""

    pids: list[int]
    in_flight: int
    substituted: int
    range_hits: int
    range_misses: int
    store_answers: int
    store_failures: int
    store_bytes: int
    reads: dict[Way, int]
    refused: dict[str, int]
    sent_bytes: dict[str, int]
    timings: list[Timing]


class Meter:
    """Counts for one worker; `close` it when done.

    The workers of a service have the same routes and the same folder. Only reads, and what is asked
    of stores, are counted on other threads than the event loop's.
    """

    def __init__(self, routes: Iterable[str] = (), folder: Path | None = None) -> None:
        self._routes = (*dict.fromkeys(routes), OTHER_ROUTE)
        self._at = {route: _ROUTES + n * _ROUTE for n, route in enumerate(self._routes)}
        self._other = self._at[OTHER_ROUTE]
        self._cells = Cells(_ROUTES + len(self._routes) * _ROUTE, folder)
        self._values = self._cells.values
        self._values[_PID] = os.getpid()
        self._values[_IN_FLIGHT] = 0  # what a dead worker had is over
        self._lock = Lock()

    def close(self) -> None:
        """Leave the counts to the next worker."""
        self._values[_PID] = 0
        self._cells.close()

    def begin(self) -> int:
        """A request has come; so many of this worker are in flight."""
        self._values[_IN_FLIGHT] = in_flight = self._values[_IN_FLIGHT] + 1
        return in_flight

    def end(self, route: str | None, status: int, took_ns: int, sent_bytes: int) -> None:
        """A request is over; its route is the template that it was answered by."""
        values = self._values
        values[_IN_FLIGHT] -= 1
        at = self._at.get(route, self._other)  # type: ignore[arg-type]
        values[at] += sent_bytes
        series = at + 1 + (status // 100 - 1) * _SERIES
        values[series + bisect_left(_BOUNDS_NS, took_ns)] += 1
        values[series + _BUCKETS] += took_ns

    def count_read(self, way: Way) -> None:
        """A value was read; threads may say so."""
        with self._lock:
            self._values[_WAYS + way] += 1

    def count_range(self, *, is_kept: bool) -> None:
        """A range of an object was looked for among those kept on disk; threads may say so."""
        with self._lock:
            self._values[_RANGE_HITS if is_kept else _RANGE_MISSES] += 1

    def count_asked(self, *, is_answered: bool, size_bytes: int) -> None:
        """An object store was asked once, for so many bytes; threads may say so."""
        with self._lock:
            self._values[_STORE_ANSWERS if is_answered else _STORE_FAILURES] += 1
            self._values[_STORE_BYTES] += size_bytes

    def count_substituted(self, samples: int) -> None:
        """So many samples of a batch took the place of others."""
        self._values[_SUBSTITUTED] += samples

    def count_refused(self, code: str) -> None:
        """A request was answered with a problem of that code, which counts if it is a refusal."""
        if code in REFUSALS:
            self._values[_REFUSALS + REFUSALS.index(code)] += 1

    def take_stock(self) -> Stock:
        """What all workers have counted."""
        rows = self._cells.list_rows()
        alive = [row for row in rows if _is_alive(int(row[_PID]))]
        totals: list[int] = sum(rows[1:], rows[0]).tolist()
        return Stock(
            pids=[int(row[_PID]) for row in alive],
            in_flight=sum(int(row[_IN_FLIGHT]) for row in alive),
            substituted=totals[_SUBSTITUTED],
            range_hits=totals[_RANGE_HITS],
            range_misses=totals[_RANGE_MISSES],
            store_answers=totals[_STORE_ANSWERS],
            store_failures=totals[_STORE_FAILURES],
            store_bytes=totals[_STORE_BYTES],
            reads={way: totals[_WAYS + way] for way in Way},
            refused=dict(zip(REFUSALS, totals[_REFUSALS:], strict=False)),
            sent_bytes={route: totals[self._at[route]] for route in self._routes},
            timings=[
                timing for route in self._routes for timing in _timings(route, totals, self._at)
            ],
        )


def _timings(route: str, totals: Sequence[int], at: dict[str, int]) -> Iterable[Timing]:
    for number, status in enumerate(STATUS_CLASSES):
        series = at[route] + 1 + number * _SERIES
        counts = list(totals[series : series + _BUCKETS])
        if any(counts):
            yield Timing(route, status, counts, totals[series + _BUCKETS] / 1e9)


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, PermissionError):  # or it is another user's by now
        return False
    return pid != 0
