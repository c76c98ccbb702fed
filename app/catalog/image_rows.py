"""The rows of an images file as they are found: keys and places, and the pages they lie in."""

from array import array
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from app.parquet.pages import Page, pack_page
from app.parquet.place import Places

ROWS = pa.schema(
    [
        ("key", pa.string()),
        ("offset", pa.uint64()),
        ("hash", pa.uint64()),
        ("page", pa.uint32()),
        ("length", pa.uint32()),
        ("form", pa.uint8()),
    ]
)
BATCH_ROWS = 16_384

Scanned = tuple[pa.Array, Places]  # keys and places of some rows
WriteRows = Callable[[Iterator[Scanned]], int]  # writes them all anew, and says how many


@dataclass(frozen=True, slots=True)
class ScannedFile:
    """How a file's values are reached, now that its rows are written."""

    rows: int
    pages: list[Page]
    seeks: "array[int]"
    reader: str  # in_place, whole_pages or duckdb
    reason: str | None  # why it is not in_place
    is_compared: bool  # with DuckDB's reading
    key_column: str | None
    value_column: str | None
    value_parts: list[str]  # the names on the way to it


def write_rows(folder: Path, scanned: Iterator[Scanned]) -> int:
    """Write the rows as they come, and say how many they were."""
    rows = 0
    with pa.OSFile(str(folder / "rows.arrow"), "wb") as sink, pa.ipc.new_file(sink, ROWS) as file:
        for keys, places in scanned:
            columns = [keys, *(pa.array(places[name]) for name in ROWS.names[1:])]
            file.write_batch(pa.record_batch(columns, schema=ROWS))
            rows += len(keys)
    return rows


def write_pages(folder: Path, scanned: ScannedFile) -> None:
    """Write the pages that the rows lie in, and their seek points."""
    (folder / "pages.bin").write_bytes(b"".join(map(pack_page, scanned.pages)))
    (folder / "seeks.bin").write_bytes(scanned.seeks.tobytes())
