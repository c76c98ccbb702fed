"""Byte ranges of local files, refused once a file is no longer the one that was indexed."""

import errno
import os
from collections.abc import Callable, Sequence
from threading import Lock

from app.descriptors import first_beyond
from app.errors import DamagedFileError, OverloadedError, SourceChangedError
from app.storage.stamp import FileStamp, Read, WouldBlockError, changed_while_indexed, is_changed

# Of the process's descriptors. A worker of one dataset takes 31 of 64 for itself, and has 16 for
# files and the others for connections.
_FILES_SHARE = 0.25
_NONE_FREE = (errno.EMFILE, errno.ENFILE)
# Linux reads what is in the page cache and refuses what is not; elsewhere every read may block.
_NO_WAIT = getattr(os, "RWF_NOWAIT", None)


def stamp_file(path: str) -> FileStamp:
    """The stamp of a file as it is now; raises OSError."""
    stat = os.stat(path)
    return FileStamp(path, stat.st_size, stat.st_mtime_ns)


def check_still(stamp: FileStamp) -> None:
    """Raise DamagedFileError if the file is no longer what it was when its indexing began."""
    if stamp_file(stamp.path) != stamp:
        raise changed_while_indexed(stamp.path)


def read_exactly(descriptor: int, path: str, advance: Callable[[int], None]) -> Read:
    """A reader of byte ranges for building; it raises DamagedFileError where the file ends."""
    size_bytes = os.fstat(descriptor).st_size

    def read(offset: int, length: int) -> bytes:
        if offset + length > size_bytes:  # before a damaged length is allocated
            raise DamagedFileError(f"{path} ends too early")
        data = os.pread(descriptor, length, offset)
        while len(data) < length:
            more = os.pread(descriptor, length - len(data), offset + len(data))
            if not more:
                raise DamagedFileError(f"{path} ends too early")
            data += more
        advance(length)
        return data

    return read


class _OpenFile:
    """A descriptor that closes when its last user lets go, so none is closed under a read."""

    __slots__ = ("fd", "stamp")

    def __init__(self, stamp: FileStamp) -> None:
        self.stamp = stamp
        self.fd = os.open(stamp.path, os.O_RDONLY | os.O_CLOEXEC)

    def __del__(self) -> None:
        if hasattr(self, "fd"):
            os.close(self.fd)


class LocalStorage:
    """Local files, read with preadv through at most `max_open_files` descriptors.

    At most a quarter of those that the process may have. Files are never mapped: a mapped file that
    shrinks kills the process with SIGBUS.
    """

    is_remote = False

    def __init__(self, max_open_files: int) -> None:
        self._max_open_files = min(max_open_files, max(1, first_beyond(_FILES_SHARE)))
        self._open: dict[str, _OpenFile] = {}  # by path: a stamp takes 0.5 µs to hash
        self._lock = Lock()

    def check(self, stamp: FileStamp, *, wait: bool = True) -> None:
        """Raise SourceChangedError if the file's size or time is not the stamp's (1.8 µs)."""
        try:
            stat = os.stat(stamp.path)
        except OSError as error:
            raise is_changed(stamp, error.strerror or "can not be read") from error
        if stat.st_mtime_ns != stamp.mtime_ns or stat.st_size != stamp.size_bytes:
            raise is_changed(stamp, "its size or modification time is another")

    def let_go(self) -> None:
        """Close what no read is using: files that are no longer served keep their disk space."""
        with self._lock:
            self._open.clear()

    def read_into(
        self,
        stamp: FileStamp,
        offset: int,
        buffers: Sequence[bytearray | memoryview],
        *,
        wait: bool,
        is_checked: bool = False,
    ) -> None:
        try:
            if not is_checked:
                self.check(stamp)
        except SourceChangedError:
            with self._lock:
                self._open.pop(stamp.path, None)  # else a replaced file keeps its disk space
            raise
        opened = self._open.get(stamp.path)
        if opened is None or (opened.stamp is not stamp and opened.stamp != stamp):
            opened = self._add(stamp)
        wanted = sum(map(len, buffers))
        try:
            if wait:
                got = os.preadv(opened.fd, buffers, offset)
            elif _NO_WAIT is None:
                raise WouldBlockError
            else:
                got = os.preadv(opened.fd, buffers, offset, _NO_WAIT)
        except BlockingIOError as error:
            raise WouldBlockError from error
        except OSError as error:
            if not wait:  # a file system that does not know RWF_NOWAIT
                raise WouldBlockError from error
            raise is_changed(stamp, error.strerror or "can not be read") from error
        if got != wanted:
            if not wait:  # the cached part of a range ends where the cache does
                raise WouldBlockError
            self._read_rest(stamp, opened, offset, buffers, got)

    def renew(self) -> "LocalStorage":
        return self

    def fetch(self, stamp: FileStamp, start: int, end: int) -> "LocalStorage":
        return self

    def _read_rest(
        self,
        stamp: FileStamp,
        opened: _OpenFile,
        offset: int,
        buffers: Sequence[bytearray | memoryview],
        got: int,
    ) -> None:
        """Go on after a short read; every turn gets at least a byte or ends it."""
        for buffer in buffers:
            view = memoryview(buffer)
            skip = min(got, len(view))
            offset, got, view = offset + skip, got - skip, view[skip:]
            while len(view):
                try:
                    count = os.preadv(opened.fd, [view], offset)
                except OSError as error:
                    raise is_changed(stamp, error.strerror or "can not be read") from error
                if not count:
                    raise is_changed(stamp, "it ends too early")
                offset, view = offset + count, view[count:]

    def _add(self, stamp: FileStamp) -> _OpenFile:
        try:
            opened = self._open_file(stamp)
        except OSError as error:
            if error.errno in _NONE_FREE:
                raise OverloadedError(
                    f"no descriptor is free to open {stamp.path}; raise the limit of open files"
                ) from error
            raise is_changed(stamp, error.strerror or "can not be opened") from error
        with self._lock:
            while len(self._open) >= self._max_open_files:
                del self._open[next(iter(self._open))]
            self._open[stamp.path] = opened
        return opened

    def _open_file(self, stamp: FileStamp) -> _OpenFile:
        try:
            return _OpenFile(stamp)
        except OSError as error:
            if error.errno not in _NONE_FREE:
                raise
        self.let_go()
        return _OpenFile(stamp)
