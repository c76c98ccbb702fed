"""Finds every value of a Parquet column, once, at index time, in windows of a few MiB."""

from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from struct import Struct

import numpy as np
from numpy.typing import NDArray

from app.errors import DamagedFileError, UnsupportedError
from app.parquet.body import Body
from app.parquet.codecs import decompress_page, has_length
from app.parquet.columns import Leaf
from app.parquet.encodings import decode_hybrid
from app.parquet.footer import Chunk
from app.parquet.pages import CODECS, Encoding, Layout, Page, PageHeader, list_pages
from app.parquet.place import Places, new_places, note_value
from app.parquet.snappy import walk
from app.storage import Read

_READ_BYTES = 1 << 20
_BLOCK_ROWS = 4096
# pyarrow ends a page at 20,000 rows, others at some MB. More than this is left to DuckDB, because
# levels and indices are decoded a page at a time: 16 million rows take 64 MB each.
_MAX_PAGE_ROWS = 1 << 24
_LENGTH = Struct("<I")


@dataclass(frozen=True, slots=True)
class ScanLimits:
    """What one value, and one page that has to be decoded whole, may take in bytes."""

    value_bytes: int
    page_bytes: int


class ColumnScan:
    """Finds the places of a value column's rows; `pages` and `seeks` grow while it does.

    With `enter_snappy` false, Snappy pages are decoded whole, as those of other codecs are.
    Raises DamagedFileError where the file breaks the format's rules, and UnsupportedError where
    its values can not be reached in place.
    """

    def __init__(
        self,
        read: Read,
        chunks: Sequence[Chunk],
        leaf: Leaf,
        limits: ScanLimits,
        *,
        enter_snappy: bool = True,
    ) -> None:
        self.pages: list[Page] = []
        self.seeks = array("Q")
        self._read = read
        self._chunks = chunks
        self._leaf = leaf
        self._limits = limits
        self._enter_snappy = enter_snappy

    @property
    def rows(self) -> int:
        """How many rows the file says it has."""
        return sum(chunk.rows for chunk in self._chunks)

    def places(self) -> Iterator[Places]:
        """The places of the rows in file order, at most a page's rows at a time."""
        if self._leaf.is_repeated:
            raise UnsupportedError("its value column holds lists")
        for number, chunk in enumerate(self._chunks):
            rows = 0
            for places in self._chunk_places(chunk):
                rows += len(places)
                yield places
            if rows != chunk.rows:
                raise DamagedFileError(f"row group {number} has {rows} values, not {chunk.rows}")

    def _chunk_places(self, chunk: Chunk) -> Iterator[Places]:
        if not chunk.values:
            return
        codec = chunk.codec
        if codec not in CODECS:
            raise UnsupportedError(f"its codec {codec} is not read in place")
        dictionary: Places | None = None
        left = chunk.values
        for header in list_pages(self._read, chunk.start, chunk.start + chunk.stored_bytes):
            if header.is_dictionary:
                dictionary = self._dictionary(header, codec)
                continue
            left -= header.count
            if left < 0:
                raise DamagedFileError("a column chunk's pages hold more values than it says")
            if header.count > _MAX_PAGE_ROWS:
                raise UnsupportedError(f"a page of {header.count} rows is not read in place")
            if header.encoding == Encoding.PLAIN:
                body = self._open(header, codec, is_kept=True)
                yield from self._plain(body, header.count, self._present(header, body))
            elif header.encoding in (Encoding.PLAIN_DICTIONARY, Encoding.RLE_DICTIONARY):
                yield self._indexed(header, codec, dictionary)
            else:
                raise UnsupportedError(f"its encoding {header.encoding} is not read in place")

    def _dictionary(self, header: PageHeader, codec: str) -> Places:
        if header.encoding not in (Encoding.PLAIN, Encoding.PLAIN_DICTIONARY):
            raise UnsupportedError(f"its dictionary page has encoding {header.encoding}")
        if header.count > _MAX_PAGE_ROWS:
            raise UnsupportedError(f"a dictionary of {header.count} values is not read in place")
        body = self._open(header, codec, is_kept=True)
        return np.concatenate([new_places(0), *self._plain(body, header.count, None)])

    def _indexed(self, header: PageHeader, codec: str, dictionary: Places | None) -> Places:
        if dictionary is None:
            raise DamagedFileError("a page refers to a dictionary page that is not there")
        if header.length > self._limits.page_bytes:
            raise UnsupportedError("a page of dictionary indices is too large")
        body = self._open(header, codec, is_kept=False)
        present = self._present(header, body)
        count = header.count if present is None else int(present.sum())
        places = new_places(header.count)
        if count:
            width = body.take(1)[0]
            indices = decode_hybrid(body.take(body.left), width, count)
            if int(indices.max()) >= len(dictionary):
                raise DamagedFileError("a page refers to a value its dictionary does not have")
            places[slice(None) if present is None else present] = dictionary[indices]
        return places

    def _open(self, header: PageHeader, codec: str, *, is_kept: bool) -> Body:
        """The page's body after v2's levels; `is_kept` records it as holding values."""
        levels = header.level_bytes or 0
        stored, length = header.stored_bytes - levels, header.length - levels
        if not header.is_compressed:
            codec = "uncompressed"
        if codec == "uncompressed":
            layout = Layout.AS_IS
        elif codec == "snappy" and self._enter_snappy:
            layout = Layout.SNAPPY
        else:
            layout = Layout.WHOLE
        page = Page(0, layout, codec, header.body + levels, stored, length, len(self.seeks))
        if is_kept:
            self.pages.append(page)
        seeks = self.seeks if is_kept else array("Q")
        return Body(self._windows(page, seeks), length)

    def _windows(self, page: Page, seeks: "array[int]") -> Iterator[memoryview]:
        if not page.length:
            return  # all its rows are null, and writers differ in what they store for no bytes
        if page.layout == Layout.AS_IS:
            if page.stored_bytes != page.length:
                raise DamagedFileError("a page's two sizes differ though it is not compressed")
            for at in range(0, page.length, _READ_BYTES):
                yield memoryview(self._read(page.offset + at, min(_READ_BYTES, page.length - at)))
        elif page.layout == Layout.SNAPPY:
            yield from walk(self._read, page.offset, page.stored_bytes, page.length, seeks.append)
        else:
            if max(page.length, page.stored_bytes) > self._limits.page_bytes:
                raise UnsupportedError(
                    f"a {page.codec} page of {page.length:,} bytes is too large to decode whole"
                )
            data = self._read(page.offset, page.stored_bytes)
            decoded = decompress_page(page.codec, data, page.length)
            if not has_length(page.codec, data, page.length):
                raise DamagedFileError("a page is shorter than its header says")
            yield decoded

    def _present(self, header: PageHeader, body: Body) -> NDArray[np.bool_] | None:
        """Which rows of the page have a value; None if the column has no nulls by its type."""
        highest = self._leaf.max_definition
        if header.level_bytes is not None:
            levels = self._read(header.body, header.level_bytes) if highest else b""
        elif highest:
            (level_bytes,) = _LENGTH.unpack(body.take(4))
            if level_bytes > self._limits.page_bytes:
                raise DamagedFileError("a page's levels are longer than any page of rows needs")
            levels = bytes(body.take(level_bytes))
        if not highest:
            return None
        found = decode_hybrid(levels, highest.bit_length(), header.count)
        present: NDArray[np.bool_] = found == highest
        return present

    def _plain(self, body: Body, count: int, present: NDArray[np.bool_] | None) -> Iterator[Places]:
        page = len(self.pages) - 1
        limit = self._limits.value_bytes
        is_text = self._leaf.is_text
        for first in range(0, count, _BLOCK_ROWS):
            rows = min(_BLOCK_ROWS, count - first)
            mask = None if present is None else present[first : first + rows]
            places = new_places(rows)
            found = []
            for _ in range(rows if mask is None else int(mask.sum())):
                (length,) = _LENGTH.unpack(body.take(4))
                position = body.position
                if length > limit:
                    body.skip(length)
                    found.append(note_value(page, position, length, None, is_text=is_text))
                else:
                    stored = body.take(length)
                    found.append(note_value(page, position, length, stored, is_text=is_text))
            if found:
                places[slice(None) if mask is None else mask] = np.array(found, places.dtype)
            yield places
        body.finish()
