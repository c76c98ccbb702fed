"""Which services of a catalog run: a file for each in the catalog's folder, locked while it runs.

A lock dies with its holder, so a file that is not locked is of a service that is no more, and the
process that a locked one names on this machine is that service.
"""

import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from app.catalog.holds import is_at


class Running(msgspec.Struct, frozen=True):
    """A service: its first process, and the folder it shares with its workers."""

    host: str
    pid: int
    orders: str


@contextmanager
def announce(folder: Path, orders: Path) -> Iterator[None]:
    """Have this process found as a service of the catalog in `folder`; where that can not be
    written, it can not be found."""
    host = socket.gethostname()
    services = folder / "services"
    path = services / f"{host}-{os.getpid()}"
    try:
        services.mkdir(exist_ok=True)
        descriptor = _lock(path)
    except OSError:
        yield
        return
    try:
        os.pwrite(descriptor, msgspec.json.encode(Running(host, os.getpid(), str(orders))), 0)
        yield
    finally:
        path.unlink(missing_ok=True)
        os.close(descriptor)


def _lock(path: Path) -> int:
    """A descriptor of the file, which it holds alone."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
        # Whoever asks whether it is locked has it for a moment, and removes it if it was not.
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        if is_at(descriptor, path):
            return descriptor
        os.close(descriptor)


def list_running(folder: Path) -> list[Running]:
    """The services of the catalog in `folder`, on whatever machine they are."""
    found = []
    services = folder / "services"
    for path in sorted(services.iterdir()) if services.is_dir() else []:
        try:
            with open(path, "rb") as file:
                try:
                    fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
                except BlockingIOError:
                    found.append(msgspec.json.decode(file.read(), type=Running))
                else:
                    path.unlink(missing_ok=True)
        except (OSError, msgspec.MsgspecError):
            continue  # it ends or starts this moment
    return found
