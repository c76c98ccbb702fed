"""Who is let in: tokens and cookies, how many at a time, and how often."""

import math
import secrets
from urllib.parse import quote

from starlette.types import Scope

from app.access.rates import Rates
from app.access.sessions import Sessions, read_cookie
from app.access.tokens import Tokens
from app.errors import OverloadedError, RateLimitedError, UnauthorizedError
from app.settings import Settings

SIGN_IN = "/sign-in"

# What load balancers and Prometheus ask is answered however much is in flight.
_PROBES = frozenset({"/healthz", "/readyz", "/metrics"})
_OPEN = frozenset({"/healthz", "/readyz", SIGN_IN})


class Guard:
    """Lets requests in, or says why not."""

    def __init__(self, settings: Settings) -> None:
        """Raises TokensError."""
        given, key = settings.tokens, settings.session_key
        self.tokens = Tokens(settings.tokens_file, given.get_secret_value() if given else None)
        secret = key.get_secret_value().encode() if key else secrets.token_bytes(32)
        self.sessions = Sessions(self.tokens, secret, settings.session_seconds)
        self._rates = Rates(settings.requests_per_second)
        self._max_in_flight = settings.max_in_flight
        self._open = _OPEN if settings.metrics_need_token else _OPEN | {"/metrics"}

    def admit(self, scope: Scope, in_flight: int, token: bytes | None, cookie: bytes | None) -> str:
        """The name of who asks, "" if nobody has to say.

        `token` is the value of Authorization. Raises OverloadedError, RateLimitedError and
        UnauthorizedError.
        """
        path = scope["path"]
        is_probe = path in _PROBES
        if in_flight > self._max_in_flight and not is_probe:
            raise OverloadedError(
                f"{self._max_in_flight:,} requests are in flight (setting max_in_flight); "
                "try again in a second"
            )
        name = ""
        if self.tokens.are_needed:
            name = self._find(token, cookie)
        if self._rates.are_bounded and not is_probe:
            client = scope["client"]
            wait = self._rates.take(name or f"@{client[0] if client else ''}")
            if wait:
                raise RateLimitedError(
                    "too many requests a second (setting requests_per_second); slow down",
                    math.ceil(wait),
                )
        if self.tokens.are_needed and not name and path not in self._open:
            raise UnauthorizedError(
                "the token is not one of this service's"
                if token
                else "this service wants a token: send `Authorization: Bearer TOKEN`, or sign in "
                f"at {SIGN_IN}"
            )
        return name

    def _find(self, token: bytes | None, cookie: bytes | None) -> str:
        holder = None
        scheme, _, value = (token or b"").partition(b" ")
        if scheme.lower() == b"bearer":
            if len(value) <= 512:
                holder = self.tokens.find(value.strip().decode("latin-1"))
        elif cookie is not None and (session := read_cookie(cookie.decode("latin-1"))):
            holder = self.sessions.find(session)
        return holder.name if holder else ""


def find_sign_in(scope: Scope) -> str | None:
    """Where a person's browser is sent that may not see the page; None for a program."""
    accept = next((value for name, value in scope["headers"] if name == b"accept"), b"")
    if scope["method"] not in ("GET", "HEAD") or b"text/html" not in accept:
        return None
    target = scope["raw_path"].decode("latin-1")
    if scope["query_string"]:
        target += "?" + scope["query_string"].decode("latin-1")
    return f"{SIGN_IN}?next={quote(target[:2000], safe='')}"
