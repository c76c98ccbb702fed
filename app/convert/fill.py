"""A row group in memory: its values as plain base64, one behind the other, and its keys."""

from collections.abc import Callable, Sequence
from itertools import accumulate

import numpy as np
import pyarrow as pa
import pybase64

from app.convert.layout import SCHEMA
from app.convert.sizes import GROUP_BYTES, bound_values
from app.convert.values import Row, SourceValues
from app.images.sniff import UNKNOWN, content_type
from app.images.stored import Form, decode
from app.parquet.reader import Stored
from app.tasks.job import Advance

_SNIFFED_BYTES = 512
_ADVANCE_BYTES = 1 << 20


class Arena:
    """One buffer, in which every row group is made."""

    def __init__(self) -> None:
        self._buffer = np.empty(GROUP_BYTES, np.uint8)

    def fill(
        self,
        rows: Sequence[Row],
        values: SourceValues,
        reject: Callable[[Row, str], None],
        advance: Advance,
    ) -> pa.Table:
        """The row group, without rows whose bytes are no picture; valid until the next one.

        Raises SourceChangedError if a source is not what the rows were found in.
        """
        form = np.array([row.form for row in rows], np.uint8)
        length = np.array([row.length for row in rows], np.uint64)
        starts = list(accumulate(bound_values(form, length).tolist(), initial=0))
        if starts[-1] > len(self._buffer):
            self._buffer = np.empty(starts[-1], np.uint8)  # for a row that is a group of its own
        view = memoryview(self._buffer.data)
        sizes = [0] * len(rows)
        told_bytes = 0
        for at, stored in values.read(rows):
            told_bytes += len(stored)
            if told_bytes >= _ADVANCE_BYTES:
                advance(told_bytes)
                told_bytes = 0
            text = _to_plain(rows[at].form, stored)
            sizes[at] = len(text)
            view[starts[at] : starts[at] + len(text)] = text
        advance(told_bytes)
        for row, size in zip(rows, sizes, strict=True):
            if not size:
                reject(row, "no_picture")
        self._close_gaps(starts, sizes)
        return self._to_table(rows, sizes)

    def _close_gaps(self, starts: list[int], sizes: list[int]) -> None:
        end = 0
        for start, size in zip(starts, sizes, strict=False):
            if start != end:
                self._buffer[end : end + size] = self._buffer[start : start + size]
            end += size

    def _to_table(self, rows: Sequence[Row], sizes: list[int]) -> pa.Table:
        keys = [row.key for row, size in zip(rows, sizes, strict=True) if size]
        ends = np.cumsum([0, *(size for size in sizes if size)], dtype=np.int32)
        values = pa.StringArray.from_buffers(
            len(keys), pa.py_buffer(ends), pa.py_buffer(self._buffer)
        )
        return pa.table([values, pa.array(keys, pa.string())], schema=SCHEMA)


def _to_plain(form: int, stored: Stored) -> Stored:
    """The value as plain base64; nothing, if it holds bytes that are not a known picture."""
    if form == Form.BASE64:
        return stored
    if form != Form.RAW:
        return pybase64.b64encode(decode(stored, form))
    if content_type(bytes(stored[:_SNIFFED_BYTES])) == UNKNOWN:
        return b""
    return pybase64.b64encode(stored)
