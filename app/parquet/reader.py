"""Reads a value from its place: the hot path, some 20 µs for a picture of 75 KB."""

from collections.abc import Callable
from functools import partial
from threading import Lock
from typing import NamedTuple

import numpy as np

from app.errors import DamagedFileError, SourceChangedError
from app.metrics.meter import Way
from app.parquet.codecs import decompress_page
from app.parquet.pages import Layout, Page, unpack_page
from app.parquet.place import Place, hash_stored
from app.parquet.snappy import FRAGMENT_BYTES, LITERAL_TAG, decompress
from app.storage import FileStamp, Storage, WouldBlockError
from app.storage.sources import IndexedSource, Ranges

Stored = bytes | memoryview
Fill = Callable[[int, list[bytearray | memoryview]], None]  # offset in the file, what to fill
ReadRow = Callable[[FileStamp, int], bytes]  # file and row number → the value's stored bytes
CountRead = Callable[[Way], None]  # told of every value that was read


class Span(NamedTuple):
    """Some bytes of a file."""

    stamp: FileStamp
    start: int
    end: int


_LITERAL_BYTES = len(LITERAL_TAG)
# Two buffers a fragment, and the kernel takes 1,024 at once (IOV_MAX): values under 32 MB.
_MAX_SCATTERED = 500


def ignore_read(way: Way) -> None:
    """Nobody counts."""


class PageCache:
    """Decoded pages, at most `max_bytes` of them, the oldest forgotten first."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._bytes = 0
        self._pages: dict[tuple[FileStamp, int], memoryview] = {}
        self._lock = Lock()

    def get(self, stamp: FileStamp, offset: int) -> memoryview | None:
        """The page at that offset of the file, if it is held."""
        return self._pages.get((stamp, offset))

    def add(self, stamp: FileStamp, offset: int, page: memoryview) -> None:
        """Hold the page, unless it is larger than the whole cache."""
        if len(page) > self._max_bytes:
            return
        with self._lock:
            if (stamp, offset) in self._pages:
                return
            while self._bytes + len(page) > self._max_bytes:
                self._bytes -= len(self._pages.pop(next(iter(self._pages))))
            self._pages[stamp, offset] = page
            self._bytes += len(page)

    def drop(self, stamp: FileStamp, offset: int) -> None:
        """Forget the page."""
        with self._lock:
            page = self._pages.pop((stamp, offset), None)
            self._bytes -= 0 if page is None else len(page)


class _OtherBytesError(Exception):
    """The source says that it is the same, and its bytes are not."""


class ValueReader:
    """Reads the values of one source's files.

    `pages` and `seeks` are the catalog's own arrays, mapped; `read_row` asks DuckDB.
    """

    def __init__(
        self,
        files: tuple[FileStamp, ...],
        pages: memoryview,
        seeks: memoryview,
        storage: Storage,
        cache: PageCache,
        read_row: ReadRow,
        count_read: CountRead = ignore_read,
    ) -> None:
        self._files = files
        self._pages = pages
        self._seeks = seeks  # of format "Q"
        self._storage = storage
        self.is_remote = storage.is_remote
        self._cache = cache
        self._read_row = read_row
        self._count_read = count_read
        # One page at a time: threads that want the same one would each decode its 100 MB.
        self._decoding = Lock()

    def get_page(self, number: int) -> tuple[Page, FileStamp]:
        """The page of that number, and its file."""
        page = unpack_page(self._pages, number)
        return page, self._files[page.file]

    def open(self, place: Place) -> Ranges:
        """The value's file, to read other parts of it."""
        return IndexedSource(self.get_page(place.page)[1], self._storage)

    def check(self, place: Place, *, wait: bool = True) -> None:
        """Raise SourceChangedError if the value's file is no longer what was indexed."""
        self._storage.check(self.get_page(place.page)[1], wait=wait)

    def find_span(self, place: Place) -> Span | None:
        """The bytes of the file that hold the value, and perhaps some on either side; None where
        only a whole page or DuckDB gives it."""
        page, stamp = self.get_page(place.page)
        start, end = page.offset, page.offset + page.stored_bytes
        if page.layout == Layout.AS_IS:
            start += place.offset
            return Span(stamp, start, min(start + place.length, end))
        if page.layout != Layout.SNAPPY or not place.length:
            return None
        first, last = (at // FRAGMENT_BYTES for at in (place.offset, place.offset + place.length))
        start = self._seeks[page.seek + first] >> 1
        if (last + 1) * FRAGMENT_BYTES < page.length:
            end = self._seeks[page.seek + last + 1] >> 1
        return Span(stamp, start, max(start, end))

    def fetch(self, stamp: FileStamp, start: int, end: int) -> Storage:
        """What to `read` the values from whose spans lie in those bytes, as `Storage.fetch`."""
        return self._storage.fetch(stamp, start, end)

    def read(
        self,
        place: Place,
        *,
        wait: bool,
        is_checked: bool = False,
        storage: Storage | None = None,
    ) -> Stored:
        """The stored bytes of the value at `place`; `is_checked` says that its file just was, and
        `storage` is where to read it from if it was fetched with others.

        Raises SourceChangedError if they are not the bytes that were indexed, and WouldBlockError
        if `wait` is false and reading them may block.
        """
        try:
            return self._read(place, wait, is_checked, storage or self._storage)
        except _OtherBytesError as error:
            if not self.is_remote:
                raise SourceChangedError(str(error)) from error
            if not wait:
                raise WouldBlockError from None
        return self._read_again(place, is_checked)

    def _read_again(self, place: Place, is_checked: bool) -> Stored:
        """The value from the store itself: a bit may have been lost on the way, or on the disk
        where ranges are kept."""
        page, stamp = self.get_page(place.page)
        self._cache.drop(stamp, page.offset)
        try:
            return self._read(place, True, is_checked, self._storage.renew())
        except _OtherBytesError as error:
            raise SourceChangedError(str(error)) from error

    def _read(self, place: Place, wait: bool, is_checked: bool, storage: Storage) -> Stored:
        page, stamp = self.get_page(place.page)
        way = Way.IN_PLACE
        fill = partial(storage.read_into, stamp, wait=wait, is_checked=is_checked)
        if page.layout == Layout.SNAPPY:
            stored = self._read_snappy(page, stamp, place, fill)
        elif page.layout == Layout.AS_IS:
            stored = _read_range(page.offset + place.offset, place.length, fill)
        elif page.layout == Layout.WHOLE:
            decoded, way = self._decode_page(page, stamp, fill, wait)
            stored = decoded[place.offset : place.offset + place.length]
        elif wait:
            way = Way.DUCKDB
            self._storage.check(stamp)
            stored = memoryview(self._read_row(stamp, place.offset))
        else:
            raise WouldBlockError
        if len(stored) != place.length or hash_stored(stored) != place.hash:
            raise _OtherBytesError(
                f"{stamp.path} holds other bytes than when it was indexed. Put the file back, or "
                "have it indexed again with `mimicit reload`."
            )
        self._count_read(way)
        return stored

    def _read_snappy(self, page: Page, stamp: FileStamp, place: Place, fill: Fill) -> memoryview:
        offset, length = place.offset, place.length
        if not length:
            return memoryview(b"")
        first = page.seek + offset // FRAGMENT_BYTES
        last = page.seek + (offset + length - 1) // FRAGMENT_BYTES
        seeks = self._seeks[first : last + 1].tolist()
        into = offset % FRAGMENT_BYTES
        if len(seeks) <= _MAX_SCATTERED and all(seek & 1 for seek in seeks):
            return _read_literals(seeks[0] >> 1, into, length, fill)
        start = seeks[0] >> 1
        end_of_page = page.offset + page.stored_bytes
        end = end_of_page
        if (last + 1 - page.seek) * FRAGMENT_BYTES < page.length:
            end = self._seeks[last + 1] >> 1
        if not start <= end <= end_of_page:
            raise SourceChangedError(f"the catalog's seek points of {stamp.path} are damaged")
        fragments = _read_range(start, end - start, fill)
        decoded_bytes = min(
            (last + 1 - first) * FRAGMENT_BYTES,
            page.length - (first - page.seek) * FRAGMENT_BYTES,
        )
        try:
            decoded = decompress(fragments, decoded_bytes)
        except DamagedFileError as error:
            raise _OtherBytesError(f"{stamp.path} no longer decodes: {error}") from error
        return decoded[into : into + length]

    def _decode_page(
        self, page: Page, stamp: FileStamp, fill: Fill, wait: bool
    ) -> tuple[memoryview, Way]:
        decoded = self._cache.get(stamp, page.offset)
        if decoded is not None:
            self._storage.check(stamp, wait=wait)
            return decoded, Way.CACHED_PAGE
        if not wait:  # decoding a page of 1 MB takes longer than an event loop should
            raise WouldBlockError
        with self._decoding:
            decoded = self._cache.get(stamp, page.offset)
            way = Way.CACHED_PAGE
            if decoded is None:
                way = Way.DECODED_PAGE
                data = _read_range(page.offset, page.stored_bytes, fill)
                try:
                    decoded = decompress_page(page.codec, data, page.length)
                except DamagedFileError as error:
                    raise _OtherBytesError(f"{stamp.path} no longer decodes: {error}") from error
                self._cache.add(stamp, page.offset, decoded)
        return decoded, way


def _read_range(offset: int, length: int, fill: Fill) -> memoryview:
    buffer = _new_buffer(length)
    fill(offset, [buffer])
    return buffer


def _read_literals(start: int, into: int, length: int, fill: Fill) -> memoryview:
    """Bytes that did not compress lie in the file as they are, a tag before every 64 KiB:
    the kernel scatters them around the tags, so nothing is copied or decompressed."""
    stored = _new_buffer(length)
    tag = bytearray(_LITERAL_BYTES)
    done = min(FRAGMENT_BYTES - into, length)
    buffers: list[bytearray | memoryview] = [stored[:done]]
    while done < length:
        count = min(FRAGMENT_BYTES, length - done)
        buffers += (tag, stored[done : done + count])
        done += count
    fill(start + _LITERAL_BYTES + into, buffers)
    return stored


def _new_buffer(length: int) -> memoryview:
    """Bytes to be read into, not cleared first as a bytearray's are: 4 µs less for 98 KB."""
    return memoryview(np.empty(length, np.uint8).data)
