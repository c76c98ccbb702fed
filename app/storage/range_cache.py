"""Ranges of objects kept on this machine's disk: those used last, in so many bytes.

FOLDER/lock           held by the one process that adds; holds how many bytes there are, as uint64
FOLDER/ab/cdef…       a range: its bytes, then the xxh3 (64 bits) of its name and them, so that a
                      file that is not whole, as after a crash of the machine, is no range

A range is written under another name and renamed, so a killed process leaves it whole or not at
all. Bytes are counted before they are written: what is lost in between counts until the next sweep,
which counts anew. The time of a file is that of its last use, give or take a minute.
"""

import fcntl
import os
import struct
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Lock

from xxhash import xxh3_64, xxh3_128_hexdigest

from app.storage.stamp import FileStamp

# Linux reads what is in the page cache and refuses what is not.
_NO_WAIT: int = getattr(os, "RWF_NOWAIT", 0)
_TRAILER = struct.Struct("<Q")
_BLOCK_BYTES = 4096  # files take whole blocks of a disk
# A sweep takes 0.3 s for 100,000 ranges, and frees an eighth, so that it is rare.
_KEPT_OF_8 = 7
_LARGEST_OF_CACHE = 16  # a range over a 16th of all would push out too many others
_TOUCH_SECONDS = 60  # so that most hits write nothing
# A range that can not be added for so long, because another is or a sweep is made, is not.
_LOCK_SECONDS = 0.05
_LOCK_POLL_SECONDS = 0.005
_NAME_CHARACTERS = 33  # ab/cdef…
_MAX_BUFFERS = 1000  # of one preadv; the kernel takes 1,024


class RangeCache:
    """At most `max_bytes` of ranges in `folder`, which processes and threads share.

    Nothing that goes wrong with it is an error: what can not be kept is fetched again.
    """

    def __init__(self, folder: Path, max_bytes: int) -> None:
        self._folder = folder
        self._max_bytes = max_bytes
        self._lock = Lock()

    def read_into(
        self,
        stamp: FileStamp,
        offset: int,
        buffers: Sequence[bytearray | memoryview],
        *,
        wait: bool,
    ) -> bool:
        """Whether that range is kept, and without `wait` in memory; if so it is in the buffers."""
        length = sum(map(len, buffers))
        path = self._path(stamp, offset, length)
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return False
        try:
            trailer = bytearray(_TRAILER.size)
            got = _read_all(descriptor, [*buffers, trailer], wait=wait)
            if got != length + len(trailer) or bytes(trailer) != _hash(path, buffers):
                if wait:
                    os.unlink(path)
                return False
            if os.fstat(descriptor).st_mtime < time.time() - _TOUCH_SECONDS:
                os.utime(path)
        except OSError:
            return False
        finally:
            os.close(descriptor)
        return True

    def add(
        self,
        stamp: FileStamp,
        offset: int,
        buffers: Sequence[bytearray | memoryview],
        *,
        is_renewed: bool = False,
    ) -> None:
        """Keep the range, unless it is too large or the disk is full; one that is there already
        stays, unless this `is_renewed`."""
        length = sum(map(len, buffers))
        size = _on_disk(length + _TRAILER.size)
        if size * _LARGEST_OF_CACHE > self._max_bytes:
            return
        path = self._path(stamp, offset, length)
        with suppress(OSError), self._locked() as lock:
            if lock is None or (os.path.exists(path) and not is_renewed):
                return
            held = int.from_bytes(os.pread(lock, 8, 0), "little")
            if held + size > self._max_bytes or not held:
                held = self._sweep(self._max_bytes * _KEPT_OF_8 // 8 - size)
            os.pwrite(lock, (held + size).to_bytes(8, "little"), 0)
            os.makedirs(os.path.dirname(path), exist_ok=True)
            temporary = self._folder / "new"
            with open(temporary, "wb") as file:
                for buffer in (*buffers, _hash(path, buffers)):
                    file.write(buffer)
            os.replace(temporary, path)

    def _path(self, stamp: FileStamp, offset: int, length: int) -> str:
        parts = (stamp.path, stamp.size_bytes, stamp.mtime_ns, stamp.etag, stamp.version)
        name = xxh3_128_hexdigest(repr((*parts, offset, length)).encode())
        return f"{self._folder}/{name[:2]}/{name[2:]}"

    @contextmanager
    def _locked(self) -> Iterator[int | None]:
        """The descriptor of the lock, held; None if others hold it too long."""
        give_up = time.monotonic() + _LOCK_SECONDS
        if not self._lock.acquire(timeout=_LOCK_SECONDS):
            yield None
            return
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(self._folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC)
            try:
                yield descriptor if _try_lock(descriptor, give_up) else None
            finally:
                os.close(descriptor)
        finally:
            self._lock.release()

    def _sweep(self, kept_bytes: int) -> int:
        """Delete the least recently used until there are at most `kept_bytes`; says how many."""
        found = []
        for folder in self._folder.iterdir():
            if folder.is_dir():
                for entry in os.scandir(folder):
                    stat = entry.stat()
                    found.append((stat.st_mtime_ns, _on_disk(stat.st_size), entry.path))
        total = sum(size for _, size, _ in found)
        for _, size, path in sorted(found):
            if total <= kept_bytes:
                break
            os.unlink(path)
            total -= size
        return total


def _try_lock(descriptor: int, give_up: float) -> bool:
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > give_up:
                return False
            time.sleep(_LOCK_POLL_SECONDS)
        else:
            return True


def _read_all(descriptor: int, buffers: Sequence[bytearray | memoryview], *, wait: bool) -> int:
    """Fill the buffers, so many at a time as the kernel takes; says how many bytes there were.

    Raises BlockingIOError, or reads less, where they are not in memory and `wait` is false.
    """
    if not (wait or _NO_WAIT):
        raise BlockingIOError
    flags = 0 if wait else _NO_WAIT
    got = 0
    for first in range(0, len(buffers), _MAX_BUFFERS):
        part = buffers[first : first + _MAX_BUFFERS]
        count = os.preadv(descriptor, part, got, flags)
        got += count
        if count != sum(map(len, part)):
            break
    return got


def _hash(path: str, buffers: Sequence[bytearray | memoryview]) -> bytes:
    hashed = xxh3_64(path[-_NAME_CHARACTERS:].encode())
    for buffer in buffers:
        hashed.update(buffer)
    return _TRAILER.pack(hashed.intdigest())


def _on_disk(size_bytes: int) -> int:
    return -(-size_bytes // _BLOCK_BYTES) * _BLOCK_BYTES
