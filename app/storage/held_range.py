"""A range of an object that was fetched for more than one value, held in memory."""

from collections.abc import Callable, Sequence

from app.storage.stamp import FileStamp, Storage

Keep = Callable[[FileStamp, int, Sequence[bytearray | memoryview]], None]


class HeldRange:
    """A storage that has one range in memory, and leaves all other bytes to the one behind it.

    `keep` is handed each part that is read.
    """

    is_remote = False

    def __init__(
        self, behind: Storage, stamp: FileStamp, start: int, held: memoryview, keep: Keep
    ) -> None:
        self._behind = behind
        self._stamp = stamp
        self._start = start
        self._held = held
        self._keep = keep

    def read_into(
        self,
        stamp: FileStamp,
        offset: int,
        buffers: Sequence[bytearray | memoryview],
        *,
        wait: bool,
        is_checked: bool = False,
    ) -> None:
        at = offset - self._start
        if stamp != self._stamp or at < 0 or at + sum(map(len, buffers)) > len(self._held):
            self._behind.read_into(stamp, offset, buffers, wait=wait, is_checked=is_checked)
            return
        for buffer in buffers:
            memoryview(buffer)[:] = self._held[at : at + len(buffer)]
            at += len(buffer)
        self._keep(stamp, offset, buffers)

    def renew(self) -> Storage:
        return self._behind.renew()

    def check(self, stamp: FileStamp, *, wait: bool = True) -> None:
        self._behind.check(stamp, wait=wait)

    def fetch(self, stamp: FileStamp, start: int, end: int) -> Storage:
        return self._behind.fetch(stamp, start, end)
