"""A source as indexing reads it: a local file or an object, from the front, once."""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from app.errors import DamagedFileError, SourceChangedError
from app.storage.address import is_address
from app.storage.blocks import BlockFile, Blocks
from app.storage.local import check_still, read_exactly, stamp_file
from app.storage.objects import Objects, check_same
from app.storage.stamp import FileStamp, Storage, changed_while_indexed

_COPY_BYTES = 1 << 20

Advance = Callable[[int], None]  # hears of the bytes read


class Ranges(Protocol):
    """A source of which ranges can be read."""

    @property
    def stamp(self) -> FileStamp:
        """What it was when it was opened."""

    def read(self, offset: int, length: int) -> bytes:
        """Exactly those bytes; raises DamagedFileError where it ends."""


class Source(Ranges, Protocol):
    """A source that is open to be read from the front."""

    def open(self) -> Any:
        """What pyarrow reads it from: a path, or a file."""

    def check_still(self) -> None:
        """Raise DamagedFileError if it is no longer what it was when it was opened."""


class IndexedSource:
    """A source that was indexed, read as its values are: by ranges, if it is still the same."""

    def __init__(self, stamp: FileStamp, storage: Storage) -> None:
        self.stamp = stamp
        self._storage = storage

    def read(self, offset: int, length: int) -> bytes:
        """Exactly those bytes; raises what `Storage.read_into` does."""
        if offset < 0 or length < 0 or offset + length > self.stamp.size_bytes:
            raise DamagedFileError(f"{self.stamp.path} has no {length:,} bytes at {offset:,}")
        buffer = bytearray(length)
        self._storage.read_into(self.stamp, offset, [buffer], wait=True)
        return bytes(buffer)


class _LocalSource:
    def __init__(self, path: str, descriptor: int, stamp: FileStamp, advance: Advance) -> None:
        self.stamp = stamp
        self.read = read_exactly(descriptor, path, advance)

    def open(self) -> str:
        return self.stamp.path

    def check_still(self) -> None:
        check_still(self.stamp)


class _ObjectSource:
    def __init__(self, objects: Objects, blocks: Blocks) -> None:
        self.stamp = blocks.stamp
        self.read = blocks.read
        self._objects = objects
        self._blocks = blocks

    def open(self) -> BlockFile:
        return BlockFile(self._blocks)

    def check_still(self) -> None:
        try:
            check_same(self.stamp, self._objects.get_stamp(self.stamp.path))
        except SourceChangedError as error:
            raise changed_while_indexed(self.stamp.path) from error


@contextmanager
def open_source(path: str, objects: Objects, advance: Advance) -> Iterator[Source]:
    """The local file or the object, until the context ends.

    Raises OSError if the file can not be opened, and SourceError if the object can not.
    """
    if is_address(path):
        blocks = Blocks(objects, objects.get_stamp(path), advance)
        try:
            yield _ObjectSource(objects, blocks)
        finally:
            blocks.close()
    else:
        stamp = stamp_file(path)
        with open(path, "rb", buffering=0) as file:
            yield _LocalSource(path, file.fileno(), stamp, advance)


@contextmanager
def copy_ranges(source: Source, ranges: Sequence[tuple[int, int]], folder: Path) -> Iterator[str]:
    """The path of a file in the folder of the source's size that has those bytes of it, from start
    to end, and holes elsewhere, until the context ends."""
    path = folder / "part.parquet"
    try:
        with open(path, "wb") as file:
            os.truncate(file.fileno(), source.stamp.size_bytes)
            for start, end in ranges:
                file.seek(start)
                for at in range(start, end, _COPY_BYTES):
                    file.write(source.read(at, min(_COPY_BYTES, end - at)))
        yield str(path)
    finally:
        path.unlink(missing_ok=True)
