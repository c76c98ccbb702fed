"""An object read from the front, once: blocks of some MB, the next ones on their way meanwhile."""

import io
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from app.errors import DamagedFileError, SourceChangedError
from app.storage.objects import Objects
from app.storage.stamp import FileStamp, changed_while_indexed

# The block that is read, the one before, and one of the other column that is read side by side.
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
        self._last = -1  # the block that the stream is in
        self._threads = ThreadPoolExecutor(self._ahead + 1, thread_name_prefix="blocks")

    def close(self) -> None:
        """Fetch nothing more."""
        self._threads.shutdown(cancel_futures=True)

    def read(self, offset: int, length: int) -> bytes:
        """Those bytes, which count as progress, and behind which it will be read on."""
        data = self._join(offset, length, is_stream=True)
        self._advance(length)
        return data

    def get(self, offset: int, length: int) -> bytes:
        """Those bytes."""
        return self._join(offset, length, is_stream=False)

    def _join(self, offset: int, length: int, *, is_stream: bool) -> bytes:
        if offset < 0 or offset + length > self.stamp.size_bytes:
            raise DamagedFileError(f"{self.stamp.path} ends too early")
        size = self._block_bytes
        parts = []
        while length > 0:
            number, at = divmod(offset, size)
            part = self._get_block(number, is_stream=is_stream)[at : at + length]
            parts.append(part)
            offset, length = offset + len(part), length - len(part)
        return b"".join(parts)

    def _get_block(self, number: int, *, is_stream: bool) -> memoryview:
        last = number
        if is_stream:
            if number in (self._last, self._last + 1):
                last = min(number + self._ahead, self._count - 1)
            self._last = number
        # All of them were used last: those that are on their way are not pushed out by those read.
        for wanted in range(number, last + 1):
            held = self._held.pop(wanted, None)
            self._held[wanted] = held or self._threads.submit(self._fetch, wanted)
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
