"""How many connections each worker of a service has: a row of numbers that all of them map."""

import fcntl
import mmap
import os
import sys
from pathlib import Path

_SLOTS = 256  # looked through in 4 µs; a worker beyond them is not looked at, and does not look
_SLOT_BYTES = 8


class Shares:
    """A worker's number in the file of all; others see it at once.

    A worker holds a slot by a lock, which dies with it, so the one in its place takes it over.
    Raises OSError if the file can not be made.
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)  # something may have taken it away
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        os.ftruncate(self._fd, _SLOTS * _SLOT_BYTES)
        self._slot = self._take_slot()
        self._map = mmap.mmap(self._fd, _SLOTS * _SLOT_BYTES)
        self._values = memoryview(self._map).cast("Q")  # 0 where nobody is, else one more

    def add(self) -> None:
        """This worker has one connection more."""
        if self._slot is not None:
            self._values[self._slot] += 1

    def remove(self) -> None:
        """This worker has one connection less."""
        if self._slot is not None:
            self._values[self._slot] -= 1

    def leave(self) -> None:
        """Have the others not wait for this worker: it takes no more connections."""
        if self._slot is not None:
            self._values[self._slot] = 0
            self._slot = None

    def is_another_due(self) -> bool:
        """Whether the next one is for another worker, which has less than 4/5 of this one's, and
        not only one less: what comes and goes would wait more often than it were shared better."""
        if self._slot is None:
            return False
        few = (4 * self._values[self._slot] - 4) / 5
        return min(filter(None, self._values)) < few

    def _take_slot(self) -> int | None:
        for slot in range(_SLOTS):
            at = slot * _SLOT_BYTES
            try:
                fcntl.lockf(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB, _SLOT_BYTES, at)
            except OSError:  # another's
                continue
            # Written, since a disk that is full then says so: to write to the map would end the
            # process (SIGBUS). All of the slots lie in one page.
            os.pwrite(self._fd, (1).to_bytes(_SLOT_BYTES, sys.byteorder), at)
            return slot
        return None
