"""How far work is, for whoever watches: a terminal, a log, /readyz."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Progress:
    """Bytes of the files read and to be read, and what is being done."""

    doing: str
    done_bytes: int = 0
    total_bytes: int = 0


Report = Callable[[Progress], None]
