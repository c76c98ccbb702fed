"""One builder at a time: an advisory lock on a file that names its holder, and dies with it."""

import fcntl
import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from app.errors import CatalogError

_POLL_SECONDS = 0.2


@contextmanager
def build_lock(folder: Path, on_wait: Callable[[str], None], wait_seconds: float) -> Iterator[None]:
    """Hold the folder's lock; `on_wait` hears who has it, once, if another process does.

    Raises CatalogError if it is still held after `wait_seconds`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        give_up = time.monotonic() + wait_seconds
        holder = ""
        while not _try_lock(descriptor):
            if not holder:
                holder = os.pread(descriptor, 200, 0).decode(errors="replace").strip()
                on_wait(holder or "another process")
            if time.monotonic() > give_up:
                waited = f", for longer than {wait_seconds:.0f} s" if wait_seconds else ""
                raise CatalogError(
                    f"{folder} is being built by {holder or 'another process'}{waited}; wait for "
                    "it or stop it"
                )
            time.sleep(_POLL_SECONDS)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"process {os.getpid()} on {socket.gethostname()}".encode(), 0)
        yield
    finally:
        os.close(descriptor)


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
