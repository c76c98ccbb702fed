"""The bounds of reading objects."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class ObjectLimits:
    """What reading objects may take; `app.settings` says why each is what it is."""

    timeout_seconds: float = 10
    retries: int = 5
    read_bytes: int = 8 << 20
    read_ahead: int = 4
    compare_bytes: int = 512 << 20
    check_seconds: float = 10
    cache_folder: Path | None = None  # None: nothing is kept on disk
    cache_bytes: int = 0
