"""The pages of a column chunk, and what the catalog keeps of each.

Source of the field numbers: the Parquet format's "parquet.thrift", struct PageHeader.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, NamedTuple

from app.errors import DamagedFileError, UnsupportedError
from app.parquet.thrift import Struct, TruncatedError, read_struct
from app.storage import Read

# A header is some 30 bytes, or 8 KiB with the statistics that pyarrow allows; never a value's size.
_HEADER_BYTES = 256
_MAX_HEADER_BYTES = 1 << 20


class Layout(IntEnum):
    """How the bytes of a page are reached."""

    AS_IS = 0  # they lie in the file
    SNAPPY = 1  # from a seek point on
    WHOLE = 2  # by decoding the page whole
    DUCKDB = 3  # by asking DuckDB for a row of the file


class Page(NamedTuple):
    """Where a page's values are; sizes and offsets in bytes."""

    file: int  # number of the file within its source
    layout: Layout
    codec: str  # as pyarrow names it
    offset: int  # of its body in the file
    stored_bytes: int
    length: int  # of its body once decoded
    seek: int  # number of its first seek point


CODECS = ("uncompressed", "snappy", "gzip", "brotli", "lz4_raw", "zstd")
PAGE_STRUCT = struct.Struct("<IBBxxQQQQ")


def pack_page(page: Page) -> bytes:
    """The page as 40 bytes of the catalog's `pages.bin`."""
    return PAGE_STRUCT.pack(page.file, page.layout, CODECS.index(page.codec), *page[3:])


def unpack_page(data: memoryview, number: int) -> Page:
    """The page of that number in `pages.bin`."""
    file, layout, codec, offset, stored_bytes, length, seek = PAGE_STRUCT.unpack_from(
        data, number * PAGE_STRUCT.size
    )
    return Page(file, Layout(layout), CODECS[codec], offset, stored_bytes, length, seek)


class Encoding(IntEnum):
    """The encodings that are read in place."""

    PLAIN = 0
    PLAIN_DICTIONARY = 2  # the old name of a dictionary page, and of the pages that refer to it
    RLE = 3
    RLE_DICTIONARY = 8


@dataclass(frozen=True, slots=True)
class PageHeader:
    """A page as its header describes it; `body` is the file offset of what comes after it."""

    is_dictionary: bool
    count: int  # values, nulls included
    encoding: int
    body: int
    stored_bytes: int
    length: int
    level_bytes: int | None  # of the levels in front of a v2 page's body; None for v1
    is_compressed: bool


def list_pages(read: Read, start: int, end: int) -> Iterator[PageHeader]:
    """The dictionary and data pages of the column chunk in bytes `start` to `end` of a file.

    Raises DamagedFileError where a header breaks the format's rules.
    """
    pos = start
    while pos < end:
        fields, header_bytes = _read_header(read, pos, end)
        body = pos + header_bytes
        stored, length = _size(fields, 3), _size(fields, 2)
        pos = body + stored
        if pos > end:
            raise DamagedFileError("a page goes on after the end of its column chunk")
        if (header := fields.get(7)) is not None:
            yield PageHeader(
                True, _size(header, 1), _size(header, 2), body, stored, length, None, True
            )
        elif (header := fields.get(5)) is not None:
            if _size(header, 3) != Encoding.RLE:
                raise UnsupportedError("its definition levels are not run-length encoded")
            yield PageHeader(
                False, _size(header, 1), _size(header, 2), body, stored, length, None, True
            )
        elif (header := fields.get(8)) is not None:
            levels = _size(header, 5)
            if _size(header, 6) or levels > min(stored, length):
                raise DamagedFileError("a page's levels are longer than the page")
            yield PageHeader(
                False,
                _size(header, 1),
                _size(header, 4),
                body,
                stored,
                length,
                levels,
                bool(header.get(7, True)),
            )
        elif fields.get(1) != 1:  # an index page is skipped, as every reader does
            raise DamagedFileError("a page is of no known type")


def _read_header(read: Read, pos: int, end: int) -> tuple[Struct, int]:
    size = _HEADER_BYTES
    while True:
        data = read(pos, min(size, end - pos))
        try:
            return read_struct(data)
        except TruncatedError as error:
            if size >= _MAX_HEADER_BYTES or size >= end - pos:
                raise DamagedFileError("a page header does not end") from error
            size *= 16


def _size(fields: Any, number: int) -> int:
    value = fields.get(number) if isinstance(fields, dict) else None
    if not isinstance(value, int) or not 0 <= value < 1 << 31:
        raise DamagedFileError("a page header lacks a size, or has a negative one")
    return value
