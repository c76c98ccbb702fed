"""Which row group of its file a value is in, which reading it does not need to know."""

from collections.abc import Sequence
from itertools import accumulate

from app.parquet.columns import read_footer
from app.parquet.footer import list_chunks
from app.parquet.pages import Layout, Page
from app.parquet.place import Place


def find_row_group(path: str, value_parts: Sequence[str], page: Page, place: Place) -> int | None:
    """The number of the row group in which the Parquet file has the value at `place`.

    Raises DamagedFileError if the file is no longer one.
    """
    footer = read_footer(path)
    paths = [footer.schema.column(number).path for number in range(footer.num_columns)]
    chunks = list_chunks(path, paths.index(".".join(value_parts)))
    if page.layout == Layout.DUCKDB:
        ends = accumulate(chunk.rows for chunk in chunks)
        return next((number for number, end in enumerate(ends) if place.offset < end), None)
    for number, chunk in enumerate(chunks):
        if chunk.start <= page.offset < chunk.start + chunk.stored_bytes:
            return number
    return None
