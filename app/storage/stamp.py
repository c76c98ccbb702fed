"""What a source was when it was indexed, and what reads it only as long as it still is."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from app.errors import DamagedFileError, SourceChangedError


@dataclass(frozen=True, slots=True)
class FileStamp:
    """What a source was when it was indexed: a read from anything else is refused.

    A source is a local file by its path, or an object by its address. Of an object the time is in
    whole seconds, since that is what HTTP says; `etag` and `version` are None where its store has
    none, and of a file.
    """

    path: str
    size_bytes: int
    mtime_ns: int
    etag: str | None = None
    version: str | None = None


Read = Callable[[int, int], bytes]  # offset and length in a file → exactly those bytes


class WouldBlockError(Exception):
    """The bytes are not in memory: read again with `wait=True`, on a thread that may block."""


class Storage(Protocol):
    """Fills buffers with consecutive bytes of a stamped source."""

    @property
    def is_remote(self) -> bool:
        """Whether a read takes a round trip, so that neighbours are better read together."""

    def read_into(
        self,
        stamp: FileStamp,
        offset: int,
        buffers: Sequence[bytearray | memoryview],
        *,
        wait: bool,
        is_checked: bool = False,
    ) -> None:
        """Fill `buffers` in order from `offset` on; `is_checked` says that the file just was.

        Raises SourceChangedError if the file is not what the stamp says or ends too early,
        SourceUnavailableError if its store does not answer, and WouldBlockError if `wait` is false
        and the bytes would have to be fetched.
        """

    def renew(self) -> "Storage":
        """What reads from the source itself, whatever is kept of it."""

    def check(self, stamp: FileStamp, *, wait: bool = True) -> None:
        """Raise SourceChangedError if the file is not what the stamp says; else as `read_into`."""

    def fetch(self, stamp: FileStamp, start: int, end: int) -> "Storage":
        """What to read values from that lie in those bytes: in one round trip, where it takes one;
        raises what `read_into` does."""


def is_changed(stamp: FileStamp, why: str) -> SourceChangedError:
    """The error of a source that is no longer what was indexed."""
    return SourceChangedError(
        f"{stamp.path} is not the file that was indexed: {why}. Put the file back, or have it "
        "indexed again with `mimicit reload`."
    )


def changed_while_indexed(path: str) -> DamagedFileError:
    """The error of a file that is not the same at the end of its indexing as before."""
    return DamagedFileError(f"{path} changed while it was indexed; index again when it is still")
