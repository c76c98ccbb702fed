"""Byte ranges of objects: from the ranges kept on disk, else from the store, if it is unchanged."""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from copy import copy

from app.errors import DamagedFileError, SourceChangedError
from app.storage.held_range import HeldRange
from app.storage.objects import Objects, check_same
from app.storage.range_cache import RangeCache
from app.storage.stamp import FileStamp, Storage, WouldBlockError, is_changed


class ObjectStorage:
    """Objects, each read only while it has the ETag that was indexed.

    A range that is fetched is fetched with If-Match. One that is kept on disk is handed out if the
    store said so in the last `check_seconds`, else after asking it; it holds the bytes that were
    indexed in any case.
    """

    is_remote = True

    def __init__(
        self,
        objects: Objects,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._objects = objects
        limits = objects.limits
        self._cache: RangeCache | None = None
        if limits.cache_folder and limits.cache_bytes:
            self._cache = RangeCache(limits.cache_folder, limits.cache_bytes)
        self._clock = clock
        self._is_renewing = False
        self._seen: dict[FileStamp, float] = {}  # when the store last said that it is unchanged

    def close(self) -> None:
        """Tell who waits for a store that fails, and ask it no more."""
        self._objects.close()

    def let_go(self) -> None:
        """Forget when stores said that objects are unchanged: some are no longer served."""
        self._seen.clear()

    def renew(self) -> "ObjectStorage":
        """One that fetches what is kept as well, and keeps that in its place."""
        other = copy(self)
        other._is_renewing = True
        return other

    def check(self, stamp: FileStamp, *, wait: bool = True) -> None:
        """Raise SourceChangedError if the object is another, as of the last `check_seconds`."""
        if self._is_fresh(stamp):
            return
        if not wait:
            raise WouldBlockError
        with self._noting(stamp):
            try:
                found = self._objects.get_stamp(stamp.path)
            except DamagedFileError as error:
                raise is_changed(stamp, "it is gone") from error
            check_same(stamp, found)

    def read_into(
        self,
        stamp: FileStamp,
        offset: int,
        buffers: Sequence[bytearray | memoryview],
        *,
        wait: bool,
        is_checked: bool = False,
    ) -> None:
        is_fresh = is_checked or self._is_fresh(stamp)
        if not (wait or is_fresh):
            raise WouldBlockError
        if self._is_kept(stamp, offset, buffers, wait=wait):
            self._objects.counts.count_range(is_kept=True)
            if not is_fresh:
                self.check(stamp)
            return
        if not wait:
            raise WouldBlockError
        self._read(stamp, offset, buffers)
        self._keep(stamp, offset, buffers)

    def fetch(self, stamp: FileStamp, start: int, end: int) -> Storage:
        held = memoryview(bytearray(end - start))
        self._read(stamp, start, [held])
        return HeldRange(self, stamp, start, held, self._keep)

    def _is_kept(
        self,
        stamp: FileStamp,
        offset: int,
        buffers: Sequence[bytearray | memoryview],
        *,
        wait: bool,
    ) -> bool:
        """Whether the range is kept, and was read."""
        if self._cache is None or self._is_renewing:
            return False
        return self._cache.read_into(stamp, offset, buffers, wait=wait)

    def _read(
        self, stamp: FileStamp, offset: int, buffers: Sequence[bytearray | memoryview]
    ) -> None:
        with self._noting(stamp):
            _scatter(self._objects.read(stamp, offset, sum(map(len, buffers))), buffers)

    def _keep(
        self, stamp: FileStamp, offset: int, buffers: Sequence[bytearray | memoryview]
    ) -> None:
        if self._cache:
            if not self._is_renewing:
                self._objects.counts.count_range(is_kept=False)
            self._cache.add(stamp, offset, buffers, is_renewed=self._is_renewing)

    def _is_fresh(self, stamp: FileStamp) -> bool:
        seen = self._seen.get(stamp)
        return seen is not None and self._clock() - seen < self._objects.limits.check_seconds

    @contextmanager
    def _noting(self, stamp: FileStamp) -> Iterator[None]:
        """Note what the store says in it: that the object is unchanged, or that it is another."""
        asked = self._clock()
        try:
            yield
        except SourceChangedError:
            self._seen.pop(stamp, None)
            raise
        self._seen[stamp] = asked


def _scatter(pieces: Iterable[memoryview], buffers: Sequence[bytearray | memoryview]) -> None:
    """Copy the pieces, one after the other, over the buffers, one after the other."""
    views = iter([memoryview(buffer) for buffer in buffers])
    target = memoryview(b"")
    for piece in pieces:
        while len(piece):
            while not len(target):
                target = next(views)
            count = min(len(piece), len(target))
            target[:count] = piece[:count]
            piece, target = piece[count:], target[count:]
