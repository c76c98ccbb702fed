"""Request ids: what X-Request-ID says if it is an id, else one of our own."""

import re
import secrets
from itertools import count

# What other systems make (UUIDs, ULIDs, trace ids), and nothing that means something to a log.
_ID = re.compile(rb"[A-Za-z0-9._:/+=@-]{1,128}\Z")


class RequestIds:
    """Makes ids that no other worker makes."""

    def __init__(self) -> None:
        self._prefix = secrets.token_hex(6)
        self._numbers = count()

    def take(self, given: bytes | None) -> str:
        """The id that was given, or a new one where that is none."""
        if given is not None and _ID.match(given):
            return given.decode()
        return f"{self._prefix}-{next(self._numbers):x}"
