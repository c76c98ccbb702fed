"""How large what is written becomes, known before it is: of values, row groups and files."""

import numpy as np
from numpy.typing import NDArray

from app.images.stored import Form

# What is held while a row group is written, in a process that stays under 300 MB. Files of 2 GB
# have some 30 groups, which DuckDB and Polars read in parallel.
GROUP_BYTES = 64_000_000
# As Python objects, one at a time, a row takes 1 KB.
MAX_GROUP_ROWS = 16_384
_GROUPS_A_FILE = 16  # at the least, so that files are filled evenly

# Bounds of what Parquet adds, in bytes. Of a row: two lengths of 4 and what is rounded off below.
# Of a page of 64 KB: its header and its entry in the page index, 64; in the keys' index also a
# smallest and a largest key of up to 1,000. Of a row group: two column chunks, and those two keys
# thrice. Of a file: the schema, twice, and pandas' metadata.
_ROW_OVERHEAD = 12
_VALUE_SHARE = 1 << 10
_KEY_SHARE = 1 << 5
FILE_OVERHEAD = 8_192

Sizes = NDArray[np.int64]


def group_limit(max_partition_bytes: int) -> int:
    """The bytes that a row group may have, unless it is of one row only."""
    room = max_partition_bytes - FILE_OVERHEAD
    return min(GROUP_BYTES, room // _GROUPS_A_FILE)


def group_overhead(longest_key: int) -> int:
    """The most that a row group takes beside its rows."""
    return 1024 + 6 * longest_key


def bound_values(form: NDArray[np.uint8], length: NDArray[np.uint64]) -> Sizes:
    """The most that each value may take as plain base64, which is exact for most.

    Of other base64 padding may be missing; prefixes, blanks and escapes only make it shorter.
    """
    given = length.astype(np.int64)
    raw = (given + 2) // 3 * 4
    loose = (given + 3) // 4 * 4
    bounds: Sizes = np.where(form == Form.RAW, raw, np.where(form == Form.BASE64, given, loose))
    return bounds


def bound_rows(values: Sizes, keys: Sizes) -> Sizes:
    """The most that each row may take in a file."""
    return values + values // _VALUE_SHARE + keys + keys // _KEY_SHARE + _ROW_OVERHEAD
