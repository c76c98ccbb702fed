"""The rows of all units as one stream, numbered by where they come from."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from app.catalog.image_rows import ROWS
from app.catalog.table import stream_rows
from app.convert.listing import LISTING
from app.convert.sources import Kind, Source
from app.images.stored import Form

# A row of a source: `row` counts them; of a key that is there twice the lowest `preference` of the
# first source is kept. The others are those of a listing and of a place.
FOUND = pa.schema(
    [
        ("source", pa.uint32()),
        ("row", pa.uint64()),
        ("preference", pa.int64()),
        ("key", pa.binary()),
        ("name", pa.binary()),
        ("offset", pa.uint64()),
        ("length", pa.uint64()),
        ("mtime_ns", pa.int64()),
        ("hash", pa.uint64()),
        ("page", pa.uint32()),
        ("form", pa.uint8()),
    ]
)


def stream_found(units: list[tuple[Source, Path]], max_value_bytes: int) -> pa.RecordBatchReader:
    """The rows of the units, in their order."""
    return pa.RecordBatchReader.from_batches(FOUND, _number(units, max_value_bytes))


def _number(units: list[tuple[Source, Path]], max_value_bytes: int) -> Iterator[pa.RecordBatch]:
    for number, (source, unit) in enumerate(units):
        first = 0  # of the rows of an index, which counts all
        is_indexed = source.kind.is_indexed
        for batch in stream_rows(unit / "rows.arrow", (ROWS if is_indexed else LISTING).names):
            count = len(batch)
            columns = dict(zip(batch.schema.names, batch.columns, strict=True))
            rows = np.arange(first, first + count, dtype=np.uint64)
            if not is_indexed:
                rows = columns["row"].to_numpy()
            given: dict[str, Any] = {
                "source": np.full(count, number, np.uint32),
                "row": rows,
                # As json has it, of a JSON the last one counts.
                "preference": rows.astype(np.int64) * (-1 if source.kind == Kind.JSON else 1),
                "key": columns["key"].cast(pa.binary()),
                "length": columns["length"].cast(pa.uint64()),
            }
            if is_indexed:
                given |= {
                    "name": pa.nulls(count, pa.binary()),
                    "mtime_ns": np.zeros(count, np.int64),
                }
            else:
                given |= {
                    "hash": np.zeros(count, np.uint64),
                    "page": np.zeros(count, np.uint32),
                    "form": _form_by_length(columns["length"], max_value_bytes),
                }
            arrays = [pa.array((columns | given)[name]) for name in FOUND.names]
            yield pa.record_batch(arrays, schema=FOUND)
            first += count


def _form_by_length(length: pa.Array, max_value_bytes: int) -> pa.Array:
    large = pc.if_else(pc.greater(length, max_value_bytes), int(Form.TOO_LARGE), int(Form.RAW))
    return pc.if_else(pc.equal(length, 0), int(Form.EMPTY), large).cast(pa.uint8())
