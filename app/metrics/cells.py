"""Counters that outlive the worker that made them: a file for each worker, mapped by it, and read
by whichever is asked.

A worker takes the first file that no living worker holds, so one that takes the place of a dead one
goes on where that stopped: nothing is lost, and there are no more files than workers were alive at
a time.
"""

import fcntl
import mmap
import os
from contextlib import suppress
from itertools import count
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

_CELL_BYTES = 8


class Cells:
    """A worker's row of numbers, all at 0 in a new file; `close` it when done.

    `values[n] += 1` is 0.06 µs; the system writes it down, also if the process is killed. Threads
    that add to the same cell need a lock. Without a folder nobody else sees them. Raises OSError if
    the file can not be made.
    """

    def __init__(self, cells: int, folder: Path | None) -> None:
        self._folder = folder
        self._fd = -1
        if folder is None:
            self.values = memoryview(bytearray(cells * _CELL_BYTES)).cast("Q")
        else:
            self._fd = _take_file(folder)
            self.values = memoryview(_map_file(self._fd, cells * _CELL_BYTES)).cast("Q")

    def close(self) -> None:
        """Leave the file, and what it says, to the next."""
        self.values.release()
        if self._fd >= 0:
            os.close(self._fd)

    def list_rows(self) -> list[NDArray[np.uint64]]:
        """The rows of all workers, also of those that are gone; this one's first."""
        rows = [np.array(self.values, np.uint64)]
        if self._folder is None:
            return rows
        own = os.fstat(self._fd).st_ino
        with suppress(FileNotFoundError):  # something may have taken the folder away
            for path in sorted(self._folder.iterdir()):
                if path.stat().st_ino != own:
                    rows.append(np.fromfile(path, np.uint64))
        return [row for row in rows if len(row) == len(self.values)]  # else it is only being made


def _take_file(folder: Path) -> int:
    """A descriptor that holds the first file which no other does."""
    folder.mkdir(parents=True, exist_ok=True)  # something may have taken it away
    for number in count():
        fd = os.open(folder / str(number), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(fd)
        else:
            return fd
    raise AssertionError("there is no end of numbers")


def _map_file(fd: int, size: int) -> mmap.mmap:
    # Written, since a disk that is full then says so: to write to the map would end the process
    # (SIGBUS), and so each one that takes its place.
    with open(fd, "ab", closefd=False) as file:
        file.write(bytes(max(0, size - file.tell())))
    return mmap.mmap(fd, size)
