"""Units: the folders a catalog is made of, each written once, whole, and never changed.

A unit's name says what it was made from, so a unit that exists is a unit that need not be built.
It is written under a temporary name, synced and renamed: a crash leaves it whole or not at all.
"""

import os
import shutil
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import msgspec
from xxhash import xxh3_128_hexdigest

from app.storage import FileStamp, Objects, is_address

# Part of every unit's name: raise it when what a unit holds changes.
FORMAT_VERSION = 3

_TEMPORARY = ".tmp-"
_TAIL_BYTES = 65536  # holds the footer of a Parquet file of some hundred row groups


def fingerprint(*parts: object) -> str:
    """A name of 32 hexadecimal digits for what `parts` say, under this format version."""
    return xxh3_128_hexdigest(msgspec.json.encode([FORMAT_VERSION, *parts]))


def fingerprint_file(path: str, objects: Objects) -> str:
    """A name for a local file or an object as it is now; raises OSError, or SourceError."""
    if is_address(path):
        return fingerprint_object(objects.get_stamp(path))
    return fingerprint_local(path)


def fingerprint_local(path: str) -> str:
    """A name for a file as it is: its path, size, modification time and last 64 KiB.

    Raises OSError.
    """
    with open(path, "rb") as file:
        stat = os.fstat(file.fileno())
        file.seek(max(0, stat.st_size - _TAIL_BYTES))
        tail = xxh3_128_hexdigest(file.read(_TAIL_BYTES))
    return fingerprint(path, stat.st_size, stat.st_mtime_ns, tail)


def fingerprint_object(stamp: FileStamp) -> str:
    """A name for an object: its address, size, modification time and ETag."""
    etag = stamp.etag and stamp.etag.strip('"')
    return fingerprint(stamp.path, stamp.size_bytes, stamp.mtime_ns, etag)


class UnitStore:
    """The folder in which a catalog's units are."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @property
    def spill_folder(self) -> Path:
        """A new folder for what does not fit DuckDB's memory; it removes it again."""
        return self.folder / f"{_TEMPORARY}spill-{uuid4().hex}"

    def path(self, name: str) -> Path:
        """Where the unit of that name is, or would be."""
        return self.folder / name

    def has(self, name: str) -> bool:
        """Whether the unit is there; if so it is whole."""
        return self.path(name).is_dir()

    @contextmanager
    def create(self, name: str) -> Iterator[Path]:
        """A temporary folder that becomes the unit when the block ends without an error."""
        temporary = self.folder / f"{_TEMPORARY}{uuid4().hex}"
        temporary.mkdir(parents=True)  # as the umask says: others may be to serve it
        try:
            yield temporary
            for file in temporary.iterdir():
                sync(file)
            sync(temporary)
            if not self.has(name):
                temporary.rename(self.path(name))
                sync(self.folder)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)

    def remove_all_but(self, names: Collection[str]) -> None:
        """Delete every other unit, and what crashed builders left; for the one builder only.

        A unit is renamed first: half of one must never be taken for it.
        """
        if self.folder.is_dir():
            for path in list(self.folder.iterdir()):
                if path.name in names:
                    continue
                if not path.name.startswith(_TEMPORARY):
                    path = path.rename(self.folder / f"{_TEMPORARY}{uuid4().hex}")
                shutil.rmtree(path, ignore_errors=True)


def sync(path: Path) -> None:
    """Have the file or folder on disk before going on."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def replace_file(path: Path, data: bytes) -> None:
    """Put `data` in place of the file at once: a reader sees the old or the new, whole."""
    temporary = path.with_name(f"{_TEMPORARY}{path.name}")
    try:
        temporary.write_bytes(data)
        sync(temporary)
        temporary.replace(path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
    sync(path.parent)
