"""How often each may ask."""

import time
from collections.abc import Callable

# As many names are remembered, the others as if they came for the first time: 1 MB.
_MAX_NAMES = 10_000


class Rates:
    """At most `per_second` requests a second for each name, and a second's worth of them at once.

    0 is no bound. It is the generic cell rate algorithm: one time for each name.
    """

    def __init__(self, per_second: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.are_bounded = per_second > 0
        self._interval = 1 / per_second if per_second else 0.0
        self._clock = clock
        self._due: dict[str, float] = {}

    def take(self, name: str) -> float:
        """0.0 if it may ask now, else the seconds until it may."""
        now = self._clock()
        due = max(now, self._due.pop(name, now)) + self._interval
        wait = due - now - max(1.0, self._interval)
        if wait > 1e-9:
            self._due[name] = due - self._interval
            return wait
        if len(self._due) >= _MAX_NAMES:
            del self._due[next(iter(self._due))]
        self._due[name] = due
        return 0.0
