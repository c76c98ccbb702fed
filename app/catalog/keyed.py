"""Keys in byte order, each with a record: an LMDB file, written once and mapped by readers."""

from collections.abc import Iterable, Iterator
from hashlib import blake2b
from pathlib import Path

import lmdb

from app.errors import CatalogError

# LMDB's own limit is 511 bytes. A longer key goes in as its first 495 and a hash of all of it,
# 511 bytes that no shorter key has, and stands whole behind its record.
_SHORT_BYTES = 494
_PREFIX_BYTES = 495
MAX_KEY_BYTES = 1000  # what the HTTP contract takes

# An entry takes its key, its record and 16 bytes or so; pages are half empty at the very worst.
_MAP_BYTES_PER_ENTRY = 4 * (511 + 1024)
_BATCH_ENTRIES = 20_000


def sort_key(key: bytes) -> bytes:
    """What stands for the key in the index: itself, unless it is long."""
    if len(key) <= _SHORT_BYTES:
        return key
    return key[:_PREFIX_BYTES] + blake2b(key, digest_size=16).digest()


def write_keyed(path: Path, entries: Iterable[tuple[bytes, bytes]], *, max_entries: int) -> None:
    """Write (key, record) pairs, which must come in the order of `sort_key` without repetition.

    Raises CatalogError if they can not be written.
    """
    try:
        _write(path, entries, max_entries)
    except lmdb.Error as error:
        raise CatalogError(f"{path} can not be written: {error}") from error


def _write(path: Path, entries: Iterable[tuple[bytes, bytes]], max_entries: int) -> None:
    environment = lmdb.open(
        str(path),
        subdir=False,
        lock=False,
        sync=False,  # the unit is synced whole before it is renamed
        writemap=False,
        map_size=(max_entries + 1000) * _MAP_BYTES_PER_ENTRY,
    )
    with environment:
        batch: list[tuple[bytes, bytes]] = []
        for key, record in entries:
            index_key = sort_key(key)
            batch.append((index_key, record if index_key == key else record + key))
            if len(batch) == _BATCH_ENTRIES:
                _append(environment, batch)
                batch = []
        _append(environment, batch)


def _append(environment: lmdb.Environment, batch: list[tuple[bytes, bytes]]) -> None:
    with environment.begin(write=True) as transaction:
        _, added = transaction.cursor().putmulti(batch, append=True, overwrite=False)
        if added != len(batch):
            raise CatalogError("keys came out of order; this is a bug, please report it")


class KeyedFile:
    """An index opened for reading; `record_bytes` is the size of every record."""

    def __init__(self, path: Path, record_bytes: int) -> None:
        self._record_bytes = record_bytes
        self._environment = lmdb.open(
            str(path), subdir=False, readonly=True, lock=False, max_readers=1024
        )

    def __len__(self) -> int:
        return int(self._environment.stat()["entries"])

    def close(self) -> None:
        """Unmap the file."""
        self._environment.close()

    def get(self, key: bytes) -> bytes | None:
        """The key's record, or None."""
        index_key = sort_key(key)
        if not index_key:
            return None
        with self._environment.begin() as transaction:
            found: bytes | None = transaction.get(index_key)
        if found is None or index_key is key:
            return found
        return found[: self._record_bytes] if found[self._record_bytes :] == key else None

    def list_after(
        self, after: bytes, limit: int, prefix: bytes = b""
    ) -> Iterator[tuple[bytes, bytes]]:
        """At most `limit` pairs of keys that begin with `prefix` and come after `after`."""
        short = prefix[:_SHORT_BYTES]
        with self._environment.begin() as transaction:
            cursor = transaction.cursor()
            start = sort_key(after)
            found = cursor.set_range(max(start, short)) if max(start, short) else cursor.first()
            if found and start and cursor.key() == start:
                found = cursor.next()
            while found and limit > 0:
                index_key, record = cursor.item()
                if not index_key.startswith(short):
                    return
                key = record[self._record_bytes :] or index_key
                if key.startswith(prefix):
                    limit -= 1
                    yield key, record[: self._record_bytes]
                found = cursor.next()
