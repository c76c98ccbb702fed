"""The URLs of the service: requests go to them in turn, around those that are down."""

import random
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

# To ask a host that is gone costs a request the connect timeout of 5 s, so it is done rarely; one
# that is back gets its share after so long at most.
_LONGEST_DOWN_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class _Down:
    times: int
    until: float


class Endpoints:
    """One or more URLs that serve the same data; threads may share it."""

    def __init__(self, url: str | Sequence[str]) -> None:
        """Raises ValueError for what is no http or https URL, and for none."""
        self.urls = tuple(map(_check, [url] if isinstance(url, str) else url))
        if not self.urls:
            raise ValueError("a client needs the URL of a service")
        self._lock = threading.Lock()
        # Many clients start at the same time, and must not all begin with the same one.
        self._turn = random.randrange(len(self.urls))
        self._down: dict[str, _Down] = {}

    def pick(self, resting: Mapping[str, float], now: float) -> tuple[str, float]:
        """The next URL in turn that is free and up, else the first to be free; and when it is.

        `resting` are those that this request has to leave alone until a time.
        """
        with self._lock:
            turn, count = self._turn, len(self.urls)
            self._turn = (turn + 1) % count
            rotation = [self.urls[(turn + n) % count] for n in range(count)]
            for url in rotation:
                down = self._down.get(url)
                if resting.get(url, now) <= now and (down is None or down.until <= now):
                    return url, now
        # None is known to be good, so being down is no reason to leave one alone.
        url = min(rotation, key=lambda url: resting.get(url, now))
        return url, max(now, resting.get(url, now))

    def found_down(self, url: str, now: float) -> None:
        """That URL takes no connections: others are asked before it, each time for longer."""
        with self._lock:
            down = self._down.get(url)
            if down is None or down.until <= now:  # else a thread found the same before
                times = down.times + 1 if down else 0
                seconds = min(2.0**times, _LONGEST_DOWN_SECONDS)
                self._down[url] = _Down(times, now + seconds)

    def found_up(self, url: str) -> None:
        """That URL answers."""
        with self._lock:
            self._down.pop(url, None)


def _check(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
        raise ValueError(f"{url!r} is no URL of a service, such as http://127.0.0.1:8000")
    return url.rstrip("/")
