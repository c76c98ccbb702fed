"""An object read from the front, once: blocks of some MB, the next ones on their way meanwhile."""

import io
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from app.errors import DamagedFileError, SourceChangedError
from app.storage.objects import Objects
from app.storage.stamp import FileStamp, changed_while_indexed

# Of the two columns that are read side by side, the blocks being read and the ones just left.
_KEPT_BLOCKS = 3


class Blocks:
    """Byte ranges of a stamped object, of which `read_ahead` and three blocks are held at most.

    One thread reads; others fetch. Raises DamagedFileError where the object ends or has changed.
    """

    def __init__(self, objects: Objects, stamp: FileStamp, advance: Callable[[int], None]) -> None:
        self.stamp = stamp
        self._objects = objects
        self._advance = advance
        self._block_bytes = objects.limits.read_bytes
        self._ahead = objects.limits.read_ahead
        self._count = -(-stamp.size_bytes // self._block_bytes)
        self._held: dict[int, Future[memoryview]] = {}  # the least recently used first
        self._threads = ThreadPoolExecutor(self._ahead + 1, thread_name_prefix="blocks")

    def close(self) -> None:
        """Fetch nothing more."""
        self._threads.shutdown(cancel_futures=True)

    def read(self, offset: int, length: int) -> bytes:
        """Those bytes, which count as progress."""
        data = self.get(offset, length)
        self._advance(length)
        return data

    def get(self, offset: int, length: int) -> bytes:
        """Those bytes."""
        if offset < 0 or offset + length > self.stamp.size_bytes:
            raise DamagedFileError(f"{self.stamp.path} ends too early")
        size = self._block_bytes
        parts = []
        while length > 0:
            number, at = divmod(offset, size)
            part = self._get_block(number)[at : at + length]
            parts.append(part)
            offset, length = offset + len(part), length - len(part)
        return b"".join(parts)

    def _get_block(self, number: int) -> memoryview:
        if number in self._held:
            self._held[number] = self._held.pop(number)
        # What is read on from the block before will be read further on.
        ahead = self._ahead if number - 1 in self._held else 0
        for wanted in range(number, min(number + ahead + 1, self._count)):
            if wanted not in self._held:
                self._held[wanted] = self._threads.submit(self._fetch, wanted)
        while len(self._held) > self._ahead + _KEPT_BLOCKS:
            self._held.pop(next(iter(self._held))).cancel()
        try:
            return self._held[number].result()
        except SourceChangedError as error:
            raise changed_while_indexed(self.stamp.path) from error

    def _fetch(self, number: int) -> memoryview:
        start = number * self._block_bytes
        length = min(self._block_bytes, self.stamp.size_bytes - start)
        (data,) = self._objects.read(self.stamp, start, length)
        return data


class BlockFile(io.RawIOBase):
    """Blocks as a file, for pyarrow; closing it leaves them open."""

    def __init__(self, blocks: Blocks) -> None:
        self._blocks = blocks
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        size = self._blocks.stamp.size_bytes
        self._at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: size}[whence]
        return self._at

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer).cast("B")
        count = max(0, min(len(view), self._blocks.stamp.size_bytes - self._at))
        view[:count] = self._blocks.get(self._at, count)
        self._at += count
        return count
