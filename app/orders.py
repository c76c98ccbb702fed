"""What the workers of a service are to serve: one file in a folder of the service's own.

The service's first process replaces the file; each worker looks at it, does what it says and writes
the number of the orders it follows into a file of its own. Files outlive any of them, so a worker
that comes later, and one that was killed, needs nothing else.
"""

import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Literal

import msgspec

from app.catalog.manifest import Manifest
from app.catalog.units import replace_file

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


class OrdersFolder:
    """The folder that a service's processes share."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._path = folder / _FILE_NAME

    def post(self, orders: Orders) -> None:
        """Put the orders in place of those before."""
        replace_file(self._path, msgspec.json.encode(orders))

    def look(self) -> tuple[int, int] | None:
        """What differs whenever the orders are others; None if there are none (2 µs)."""
        try:
            stat = os.stat(self._path)
        except FileNotFoundError:
            return None
        return stat.st_ino, stat.st_mtime_ns

    def read(self) -> Orders:
        """The orders that are there; raises FileNotFoundError if there are none."""
        return msgspec.json.decode(self._path.read_bytes(), type=Orders)

    def follow(self, number: int) -> None:
        """Note that this process follows the orders of that number."""
        replace_file(self._note(os.getpid()), str(number).encode())

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
