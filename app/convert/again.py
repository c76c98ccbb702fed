"""Which rows have a key that another row has: told from rows in the order of their keys.

DuckDB sorts more than its memory holds, but it can not number the rows of each key within it.
"""

from collections.abc import Iterable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

Flags = NDArray[np.bool_]


class KeyRuns:
    """Follows keys in order, some thousand at a time."""

    def __init__(self) -> None:
        self._last = pa.nulls(1, pa.binary())

    def find_again(self, keys: pa.Array) -> Flags:
        """Which of the next keys, one at the least, are as the one before; null is like none."""
        before = pa.concat_arrays([self._last, keys.slice(0, len(keys) - 1)])
        self._last = keys.slice(len(keys) - 1)
        again: Flags = (
            pc.fill_null(pc.equal(keys, before), False).to_numpy(zero_copy_only=False).astype(bool)
        )
        return again


class Again:
    """The numbers of rows whose key is there before them; each takes 8 bytes, of few as a rule."""

    def __init__(self, batches: Iterable[pa.RecordBatch]) -> None:
        """`batches` are keys, in order, and numbers."""
        runs = KeyRuns()
        found = [np.empty(0, np.uint64)]
        for batch in batches:
            numbers = batch.column(1).to_numpy()[runs.find_again(batch.column(0))]
            if len(numbers):
                found.append(numbers)
        self._numbers = np.sort(np.concatenate(found))

    def has(self, numbers: NDArray[np.uint64]) -> Flags:
        """Which of the numbers are among them."""
        places = np.searchsorted(self._numbers, numbers)
        padded = np.append(self._numbers, np.uint64(0))
        is_found: Flags = (padded[places] == numbers) & (places < len(self._numbers))
        return is_found
