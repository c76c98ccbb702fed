"""What a batch's answer holds, as plain Python objects."""

from collections.abc import Iterable
from typing import Any

import pyarrow as pa


def read_arrow(body: bytes) -> pa.Table:
    """The table of an Arrow stream, whole and valid."""
    with pa.ipc.open_stream(body) as stream:
        table = stream.read_all()
    table.validate(full=True)
    return table


def list_samples(tables: Iterable[pa.Table]) -> list[dict[str, Any]]:
    """The rows of all tables."""
    return [row for table in tables for row in table.to_pylist()]
