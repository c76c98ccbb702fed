"""Objects in the stores that addresses name: asked for with timeouts, and again after failures.

Credentials and endpoints come from the environment, by the conventions of obstore: its stores read
it themselves. A read is asked again by us and not by obstore, so that one count bounds whatever
fails: no connection, an answer that stalls or is cut off, status 500 or 503.
"""

import re
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from threading import Event, Lock
from typing import Any, TypeVar

import obstore
from obstore.exceptions import (
    BaseError,
    InvalidPathError,
    PermissionDeniedError,
    PreconditionError,
    UnauthenticatedError,
)
from obstore.store import AzureStore, GCSStore, HTTPStore, S3Store

from app.errors import DamagedFileError, SourceError, SourceUnavailableError, UnsupportedError
from app.storage.address import (
    Address,
    fixed_prefix,
    is_match,
    is_pattern,
    is_skipped,
    part_order,
    split_address,
)
from app.storage.counts import NoCounts, StoreCounts
from app.storage.limits import ObjectLimits
from app.storage.stamp import FileStamp, is_changed

T = TypeVar("T")

_CONNECT_SECONDS = 5.0
_FIRST_BACKOFF_SECONDS = 0.1
_MAX_BACKOFF_SECONDS = 5.0
_PUT_BYTES = 8 << 20  # of a part of an upload; S3 takes 10,000 of at least 5 MiB
# In an error's text; its address, which may have any number in it, has no spaces.
_REFUSED = re.compile(r"status code: 40[13]\b")
_NO_SUCH_RANGE = re.compile(r"status code: 416\b")
_SAID = re.compile(r"<Message>([^<]+)</Message>")


class Objects:
    """Objects by address; threads share it. Its stores open when they are first asked for."""

    def __init__(self, limits: ObjectLimits, counts: StoreCounts | None = None) -> None:
        self.limits = limits
        self.counts: StoreCounts = counts or NoCounts()
        self._stores: dict[tuple[str, int], Any] = {}  # by root, and how often obstore asks again
        self._lock = Lock()
        self._is_closed = Event()

    def close(self) -> None:
        """Ask no store again for what has failed: who waits for it is told at once."""
        self._is_closed.set()

    def get_stamp(self, address: str) -> FileStamp:
        """What the object is now.

        Raises DamagedFileError if there is none, SourceUnavailableError if its store does not say.
        """
        where = self._split(address)
        found = self._ask(where, lambda store: obstore.head(store, where.key))
        return _stamp(address, found)

    def list_stamps(self, address: str) -> list[FileStamp]:
        """The objects that an images_path names, part.2 before part.10; none where nothing is.

        As with files: one object, or those of a folder or of a glob. Without versions, which lists
        do not have.
        """
        where = self._split(address)
        scheme = where.root.partition(":")[0]
        if scheme == "https":
            if where.key.endswith("/") or is_pattern(where.key):
                raise UnsupportedError(f"{address}: https has no lists; name one file")
            return [self.get_stamp(address)]
        if not where.key.endswith("/"):
            try:
                return [self.get_stamp(address)]
            except DamagedFileError:
                if not is_pattern(where.key):
                    where = where._replace(key=f"{where.key}/")
        folder = where.key.removesuffix("/")
        patterns = [folder] if is_pattern(folder) else []
        patterns.append(f"{folder}/*.parquet")
        deep = is_pattern(folder)

        def find(store: Any) -> list[Any]:
            prefix = fixed_prefix(patterns[0]) or None
            if not deep:
                return list(obstore.list_with_delimiter(store, prefix)["objects"])
            return [one for some in obstore.list(store, prefix) for one in some]

        found = [
            _stamp(f"{where.root}/{one['path']}", one)
            for one in self._ask(where, find)
            if any(is_match(one["path"], pattern) for pattern in patterns)
            and not is_skipped(one["path"].rpartition("/")[2])
        ]
        return sorted(found, key=lambda stamp: part_order(stamp.path))

    def read(self, stamp: FileStamp, offset: int, length: int) -> Iterator[memoryview]:
        """Those bytes of the object, in pieces of at most `read_bytes`.

        Raises SourceChangedError if it is not the stamp's object, before any of its bytes leave,
        and SourceUnavailableError.
        """
        where = self._split(stamp.path)
        step = self.limits.read_bytes
        for at in range(offset, offset + length, step):
            yield self._read_piece(where, stamp, at, min(step, offset + length - at))

    def _read_piece(self, where: Address, stamp: FileStamp, offset: int, length: int) -> memoryview:
        if offset + length > stamp.size_bytes:
            raise is_changed(stamp, "it ends too early")
        options: Any = {"range": (offset, offset + length)}
        if stamp.etag and not stamp.etag.startswith("W/"):  # which If-Match never matches
            options["if_match"] = stamp.etag

        def get(store: Any) -> memoryview:
            try:
                answer = obstore.get(store, where.key, options=options)
            except BaseError as error:
                if _NO_SUCH_RANGE.search(str(error)):  # of a store without ETags
                    raise is_changed(stamp, "it ends too early") from error
                raise
            check_same(stamp, _stamp(stamp.path, answer.meta))
            data = memoryview(answer.bytes())
            if answer.range != (offset, offset + length) or len(data) != length:
                raise OSError(f"{len(data):,} bytes came of the {length:,} that were asked for")
            return data

        try:
            return self._ask(where, get, length)
        except PreconditionError:
            raise is_changed(stamp, "another object was put in its place") from None
        except DamagedFileError as error:
            raise is_changed(stamp, "it is gone") from error

    def put(self, address: str, data: bytes | Path) -> None:
        """Put bytes, or those of a file, in place of the object, whole or not at all.

        Raises SourceUnavailableError.
        """
        where = self._split(address)
        # Here it is obstore that asks again: for a part of 8 MiB, and not for all of them.
        store = self._open(where.root, retries=self.limits.retries)
        try:
            obstore.put(store, where.key, data, chunk_size=_PUT_BYTES)
        except (InvalidPathError, ValueError) as error:
            raise UnsupportedError(f"{where} is no name of an object: {error}") from error
        except (BaseError, OSError) as error:
            raise SourceUnavailableError(
                f"{where} can not be written: {_shorten(error)}"
            ) from error

    def get_small(self, address: str) -> bytes | None:
        """A whole object that fits in memory, or None where there is none."""
        where = self._split(address)
        try:
            return self._ask(where, lambda store: bytes(obstore.get(store, where.key).bytes()))
        except DamagedFileError:
            return None

    def _split(self, address: str) -> Address:
        try:
            return split_address(address)
        except ValueError as error:
            raise UnsupportedError(str(error)) from error

    def _ask(self, where: Address, call: Callable[[Any], T], size_bytes: int = 0) -> T:
        """What the store answers, so many bytes of an object; asked again while it fails, a little
        later each time."""
        attempts = self.limits.retries + 1
        for attempt in range(attempts):
            if attempt:
                backoff = _FIRST_BACKOFF_SECONDS * 2 ** (attempt - 1)
                if self._is_closed.wait(min(backoff, _MAX_BACKOFF_SECONDS)):
                    attempts = attempt
                    break
            try:
                answer = call(self._open(where.root))
                self.counts.count_asked(is_answered=True, size_bytes=size_bytes)
                return answer
            except FileNotFoundError as error:
                self.counts.count_asked(is_answered=True, size_bytes=0)
                raise DamagedFileError(f"{where} is missing") from error
            except PreconditionError:
                self.counts.count_asked(is_answered=True, size_bytes=0)
                raise
            except (InvalidPathError, ValueError) as error:  # of `..` it is a ValueError
                raise UnsupportedError(f"{where} is no name of an object: {error}") from error
            except (BaseError, OSError) as error:
                self.counts.count_asked(is_answered=False, size_bytes=0)
                is_refusal = isinstance(error, PermissionDeniedError | UnauthenticatedError)
                if is_refusal or _REFUSED.search(str(error)):
                    raise SourceUnavailableError(
                        f"{where} may not be read with the credentials of the environment: "
                        f"{_shorten(error)}"
                    ) from error
                last = error
        raise SourceUnavailableError(
            f"{where} can not be read, after {attempts} attempts: {_shorten(last)}"
        ) from last

    def _open(self, root: str, retries: int = 0) -> Any:
        with self._lock:
            if (root, retries) not in self._stores:
                try:
                    opened = _open_store(root, self.limits.timeout_seconds, retries)
                except (BaseError, ValueError) as error:
                    raise SourceError(f"{root} can not be opened: {_shorten(error)}") from error
                self._stores[root, retries] = opened
            return self._stores[root, retries]


def _open_store(root: str, timeout: float, retries: int) -> Any:
    scheme, _, name = root.partition("://")
    client: Any = {
        "timeout": f"{timeout * 1000:.0f}ms",
        "connect_timeout": f"{min(timeout, _CONNECT_SECONDS) * 1000:.0f}ms",
    }
    longest = timedelta(seconds=(retries + 1) * (timeout + _MAX_BACKOFF_SECONDS))
    backoff = {
        "init_backoff": timedelta(seconds=_FIRST_BACKOFF_SECONDS),
        "max_backoff": timedelta(seconds=_MAX_BACKOFF_SECONDS),
        "base": 2,
    }
    retry: Any = {"max_retries": retries, "backoff": backoff, "retry_timeout": longest}
    if scheme == "https":
        return HTTPStore(root, client_options=client, retry_config=retry)
    # As config, since client_options would take the place of all that the environment says of the
    # client, such as AWS_ALLOW_HTTP.
    opened: Any = {"s3": S3Store, "gs": GCSStore, "az": AzureStore}[scheme]
    return opened(name, config=client, retry_config=retry)


def check_same(stamp: FileStamp, found: FileStamp) -> None:
    """Raise SourceChangedError if what a store has now is not what was indexed.

    A store may pass over If-Match, and a list has no versions.
    """
    if found.size_bytes != stamp.size_bytes:
        raise is_changed(stamp, "its size is another")
    if _bare(found.etag) != _bare(stamp.etag):
        raise is_changed(stamp, "its ETag is another")
    if stamp.version and found.version and found.version != stamp.version:
        raise is_changed(stamp, "its version is another")
    if stamp.etag is None and found.mtime_ns != stamp.mtime_ns:
        raise is_changed(stamp, "its modification time is another")


def _stamp(address: str, found: Any) -> FileStamp:
    mtime_ns = int(found["last_modified"].timestamp()) * 10**9
    return FileStamp(address, found["size"], mtime_ns, found["e_tag"], found["version"])


def _bare(etag: str | None) -> str | None:
    return etag and etag.strip('"')  # Azure's lists have them without quotes


def _shorten(error: Exception) -> str:
    """What the store said of it, in one line."""
    text = str(error)
    said = _SAID.search(text)
    return said[1] if said else text.partition("\n")[0].strip()[:300]
