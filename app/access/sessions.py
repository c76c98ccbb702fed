"""Sessions of browsers: a cookie that says who signed in, and until when, under a keyed hash."""

import hashlib
import hmac
import time
from collections.abc import Callable

from app.access.tokens import Holder, Tokens

COOKIE = "mimicit_session"


class Sessions:
    """Makes and checks cookies. One ends when its time is over, and with its holder's token: the
    token's hash is in the key. It holds nothing that a token could be found out by."""

    def __init__(
        self,
        tokens: Tokens,
        key: bytes,
        seconds: int,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._tokens = tokens
        self._key = hashlib.blake2b(key).digest()
        self._clock = clock
        self.seconds = seconds

    def make(self, holder: Holder) -> str:
        """The value of a cookie for the holder."""
        expires = int(self._clock()) + self.seconds
        return f"{holder.name}:{expires}:{self._sign(holder, expires)}"

    def find(self, value: str) -> Holder | None:
        """Who signed in, if the cookie is whole and its time is not over."""
        name, _, rest = value.partition(":")
        expires, _, signature = rest.partition(":")
        if not (expires.isascii() and expires.isdigit() and len(expires) < 16):
            return None
        holder = self._tokens.get(name)
        if holder is None or int(expires) < self._clock():
            return None
        expected = self._sign(holder, int(expires)).encode()
        is_right = hmac.compare_digest(expected, signature.encode(errors="replace"))
        return holder if is_right else None

    def _sign(self, holder: Holder, expires: int) -> str:
        said = f"{holder.name}:{expires}".encode() + holder.digest
        return hashlib.blake2b(said, key=self._key, digest_size=32).hexdigest()


def read_cookie(header: str) -> str | None:
    """The session's value in a Cookie header."""
    for part in header.split(";"):
        name, _, value = part.strip().partition("=")
        if name == COOKIE:
            return value
    return None
