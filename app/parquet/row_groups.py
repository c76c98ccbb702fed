"""Which row group of its file a value is in, which reading it does not need to know."""

from collections.abc import Sequence
from itertools import accumulate

from app.parquet.footer import list_chunks
from app.parquet.pages import Layout, Page
from app.parquet.place import Place
from app.storage.sources import Ranges


def find_row_group(
    source: Ranges, value_parts: Sequence[str], page: Page, place: Place
) -> int | None:
    """The number of the row group in which the Parquet file has the value at `place`.

    Raises what reading it does, and DamagedFileError if it is no longer a Parquet file.
    """
    chunks = list_chunks(source, value_parts)
    if page.layout == Layout.DUCKDB:
        ends = accumulate(chunk.rows for chunk in chunks)
        return next((number for number, end in enumerate(ends) if place.offset < end), None)
    for number, chunk in enumerate(chunks):
        if chunk.start <= page.offset < chunk.start + chunk.stored_bytes:
            return number
    return None
