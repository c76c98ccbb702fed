"""How the Parquet files are laid out, for those who look up one value and those who scan."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

KEY_COLUMN = "key"
VALUE_COLUMN = "base64"
PAGE_BYTES = 1 << 16

# What pandas needs to take the key for its index; pandas itself is not needed to write it.
_PANDAS = {
    "index_columns": [KEY_COLUMN],
    "column_indexes": [
        {
            "name": None,
            "field_name": None,
            "pandas_type": "unicode",
            "numpy_type": "object",
            "metadata": {"encoding": "UTF-8"},
        }
    ],
    "columns": [
        {
            "name": name,
            "field_name": name,
            "pandas_type": "unicode",
            "numpy_type": "object",
            "metadata": None,
        }
        for name in (VALUE_COLUMN, KEY_COLUMN)
    ],
    "creator": {"library": "mimicit", "version": ""},
    "pandas_version": "2.0.0",
}
SCHEMA = pa.schema(
    [
        pa.field(VALUE_COLUMN, pa.string(), nullable=False),
        pa.field(KEY_COLUMN, pa.string(), nullable=False),
    ],
    metadata={"pandas": json.dumps(_PANDAS)},
)
# Values are not compressed, so that one is read without decoding anything: Snappy, which pandas
# takes, leaves base64 of JPEG as it is. A page ends at 64 KB, so that most pictures have one of
# their own, which the page index leads to; it takes 40 bytes. Pages of 1 MB have pyarrow's
# allocator keep 40 MB more. pyarrow looks at a page's size after so many rows: each row takes 1 us.
# Statistics of values, 75 KB each, would fill the footer.
_OPTIONS: dict[str, Any] = {
    "compression": "none",
    "use_dictionary": False,
    "data_page_size": PAGE_BYTES,
    "write_batch_size": 1,
    "write_statistics": [KEY_COLUMN],
    "write_page_index": True,
}


def open_writer(path: Path) -> pq.ParquetWriter:
    """A writer of a file of this layout; each table that it is given becomes a row group."""
    return pq.ParquetWriter(path, SCHEMA, **_OPTIONS)
