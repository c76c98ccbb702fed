"""What the workers of a service are to serve: one file in a folder of the service's own.

The service's first process replaces the file; each worker looks at it, does what it says and writes
the number of the orders it follows into a file of its own. Files outlive any of them, so a worker
that comes later, and one that was killed, needs nothing else.
"""

import os
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Literal, Protocol

import msgspec

from app.catalog.manifest import FILE_NAME as MANIFEST_NAME
from app.catalog.manifest import Manifest, get_manifest

_FILE_NAME = "orders.json"

Outcome = Literal["none", "running", "swapped", "unchanged", "failed"]


class Reload(msgspec.Struct, frozen=True):
    """The last time that the service was to look at its data again, and what came of it.

    `none` there was no such time, `running` it is under way, `swapped` another catalog is served
    since, `unchanged` the data are those that are served, `failed` the catalog before is served
    still.
    """

    number: int = 0
    outcome: Outcome = "none"
    since: float = 0.0
    """When that became so, in Unix time."""
    message: str = ""


class Orders(msgspec.Struct, frozen=True):
    """The manifest to serve, and the reload it is of; `number` grows with each change."""

    number: int
    manifest: Manifest
    reload: Reload = Reload()


class OrdersSource(Protocol):
    """Where orders come from."""

    def look(self) -> tuple[int, int] | None:
        """What differs whenever the orders are others; None if there are none (2 µs)."""

    def read(self) -> Orders:
        """The orders that are there."""

    def follow(self, number: int) -> None:
        """Note that this process follows the orders of that number."""


class CatalogFolder:
    """Orders to serve whatever catalog is in a folder, of nobody in particular: for replicas that
    have no first process, and are to agree with those that start later."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def look(self) -> tuple[int, int] | None:
        return _look(self._folder / MANIFEST_NAME)

    def read(self) -> Orders:
        """Raises CatalogError if there is no catalog."""
        return Orders(0, get_manifest(self._folder))

    def follow(self, number: int) -> None:
        pass


class OrdersFolder:
    """The folder that a service's processes share."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._path = folder / _FILE_NAME

    def post(self, orders: Orders) -> None:
        """Put the orders in place of those before; raises OSError."""
        self.folder.mkdir(parents=True, exist_ok=True)
        _replace(self._path, msgspec.json.encode(orders))

    def look(self) -> tuple[int, int] | None:
        return _look(self._path)

    def read(self) -> Orders:
        """Raises FileNotFoundError if there are none."""
        return msgspec.json.decode(self._path.read_bytes(), type=Orders)

    def follow(self, number: int) -> None:
        _replace(self._note(os.getpid()), str(number).encode())

    def list_followers(self) -> list[int]:
        """The processes that have followed orders, and still run."""
        pids = (int(path.name.removeprefix("worker-")) for path in self.folder.glob("worker-*"))
        return [pid for pid in pids if _runs(pid)]

    def are_followed(self, number: int, pids: Iterable[int]) -> bool:
        """Whether all of those processes follow the orders of that number, or later ones."""
        for pid in pids:
            followed = -1
            with suppress(FileNotFoundError):
                followed = int(self._note(pid).read_bytes())
            if followed < number:
                return False
        return True

    def _note(self, pid: int) -> Path:
        return self.folder / f"worker-{pid}"


def _replace(path: Path, data: bytes) -> None:
    """As the catalog does it, but not synced: a worker would wait for the disk on its event loop,
    and none of this is there after a crash of the machine anyway."""
    temporary = path.with_name(f".new-{path.name}")
    temporary.write_bytes(data)
    # ext4 gives a freed inode to the next file and ticks each 4 ms: by its own clock, two orders of
    # one tick could look the same, and a worker would stay with the first of them.
    now = time.time_ns()
    os.utime(temporary, ns=(now, now))
    temporary.replace(path)


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, PermissionError):  # of another user: a number that was given again
        return False
    return True


def _look(path: Path) -> tuple[int, int] | None:
    try:
        stat = os.stat(path)
    except FileNotFoundError:
        return None
    return stat.st_ino, stat.st_mtime_ns
