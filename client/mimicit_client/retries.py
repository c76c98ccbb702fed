"""When and where a request is sent again: a generator that decides and never waits itself.

Every request of the API is a pure read, POST /v1/images:lookup too, so each may be repeated.
"""

import random
import time
from collections.abc import Generator
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any, TypeVar

from mimicit_client.endpoints import Endpoints
from mimicit_client.errors import ConnectionFailedError, MimicitError, read_problem
from mimicit_client.request import Answer, Request

T = TypeVar("T")

# 429 and 503 say "later"; 502 and 504 are a proxy's words for a service that restarts.
_RETRIED = frozenset({429, 502, 503, 504})
_DAY_SECONDS = 86_400


@dataclass(frozen=True, slots=True)
class Retries:
    """How long a request is tried; times are seconds."""

    total_seconds: float = 120.0
    """A restarted service is back in 6 s, a container in a minute: twice that."""
    attempts: int = 50
    """Bounds what a service that fails at once is asked: some 25 attempts fill the time."""
    first_pause_seconds: float = 0.1
    """Doubles with each round of attempts; the pause is drawn from 0 to that (full jitter)."""
    max_pause_seconds: float = 10.0
    """A service that is back is found after so long at most."""
    max_retry_after_seconds: float = 30.0
    """What a Retry-After can ask for: the most that the service itself does."""


DEFAULT_RETRIES = Retries()


@dataclass(frozen=True, slots=True)
class Send:
    """Send the request to that URL; answer with an Answer, or throw a Fault."""

    url: str
    request: Request


@dataclass(frozen=True, slots=True)
class Pause:
    """Wait for so long."""

    seconds: float


class Fault(Exception):
    """No whole answer came; `is_down` if there was not even a connection."""

    def __init__(self, message: str, is_down: bool) -> None:
        super().__init__(message)
        self.is_down = is_down


Flow = Generator[Send | Pause, Any, T]
"""Work that asks for requests and pauses, and leaves how they are done to who runs it."""


def exchange(request: Request, endpoints: Endpoints, retries: Retries) -> Flow[Answer]:
    """The answer of status 2xx to that request.

    Raises ProblemError for any other, ConnectionFailedError if there is none; both after retries
    where they may help.
    """
    started = time.monotonic()
    resting: dict[str, float] = {}
    failure: MimicitError | None = None
    for attempt in range(retries.attempts):
        now = time.monotonic()
        url, free_at = endpoints.pick(resting, now)
        if failure and free_at - started > retries.total_seconds:
            break
        if free_at > now:
            yield Pause(free_at - now)
        asked_for = 0.0
        try:
            answer: Answer = yield Send(url, request)
        except Fault as fault:
            tried = f"attempt {attempt + 1}, after {time.monotonic() - started:.1f} s"
            failure = ConnectionFailedError(f"{url}{request.target[:200]}: {fault}; {tried}")
            if fault.is_down:
                endpoints.found_down(url, time.monotonic())
        else:
            endpoints.found_up(url)
            if 200 <= answer.status < 300:
                return answer
            failure = read_problem(answer.status, answer.body.to_pybytes())
            if answer.status not in _RETRIED and not _is_of_a_proxy(answer):
                raise failure
            asked_for = min(
                read_retry_after(answer.headers.get("retry-after")),
                retries.max_retry_after_seconds,
            )
        limit = retries.first_pause_seconds * 2.0 ** min(attempt // len(endpoints.urls), 30)
        jitter = random.uniform(0, min(limit, retries.max_pause_seconds))
        resting[url] = time.monotonic() + asked_for + jitter
    assert failure is not None
    raise failure


def _is_of_a_proxy(answer: Answer) -> bool:
    """Whether it is the failure of a proxy whose replica died, as Ray Serve's: what is wrong in the
    service itself comes as a problem, and would again."""
    kind = answer.headers.get("content-type", "")
    return answer.status == 500 and not kind.startswith("application/problem+json")


def read_retry_after(value: str | None) -> float:
    """The seconds that a Retry-After header asks for, as a number or a date; 0 if it is neither."""
    if value is None:
        return 0.0
    try:
        return float(min(max(0, int(value)), _DAY_SECONDS))
    except ValueError:
        pass
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    except (ValueError, OverflowError):
        return 0.0
