"""The chunks of a column, from the footer of a Parquet file.

pyarrow reads the schema, but not this: where a damaged footer names a codec that does not exist or
contradicts itself, its accessors of a column chunk end the process. Source of the field numbers:
the Parquet format's "parquet.thrift", FileMetaData to ColumnMetaData.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from app.errors import DamagedFileError
from app.parquet.thrift import Struct, read_struct
from app.storage.sources import Ranges

_CODECS = ("uncompressed", "snappy", "gzip", "lzo", "brotli", "lz4_hadoop", "zstd", "lz4_raw")


@dataclass(frozen=True, slots=True)
class Chunk:
    """The values of a column in one row group; `start` and `stored_bytes` are of its pages."""

    rows: int  # of the row group
    values: int  # nulls included
    codec: str
    start: int
    stored_bytes: int


def list_chunks(source: Ranges, column: int | Sequence[str]) -> list[Chunk]:
    """The chunks of the column of that number, or of those names, a row group after the other.

    Raises DamagedFileError if the footer does not say where they are.
    """
    start = find_footer(source)
    footer, _ = read_struct(source.read(start, source.stamp.size_bytes - 8 - start))
    try:
        return [_chunk(_choose(group[1], column), group[3]) for group in footer[4]]
    except (KeyError, IndexError, TypeError, AttributeError, StopIteration) as error:
        raise DamagedFileError("its footer does not say where a column's values are") from error


def _choose(chunks: list[Struct], column: int | Sequence[str]) -> Struct:
    if isinstance(column, int):
        chosen: Struct = chunks[column][3]
        return chosen
    names = [name.encode() for name in column]
    return next(metadata for chunk in chunks if (metadata := chunk[3])[3] == names)


def find_footer(source: Ranges) -> int:
    """Where the footer begins, which goes to the end but for its length and a magic number."""
    end = source.stamp.size_bytes - 8
    start = end - int.from_bytes(source.read(end, 4), "little")
    if start < 0:
        raise DamagedFileError("its footer is longer than the file")
    return start


def _chunk(metadata: Struct, rows: int) -> Chunk:
    codec, values, stored_bytes, start = (metadata[number] for number in (4, 5, 7, 9))
    dictionary = metadata.get(11, 0)
    if 0 < dictionary < start:
        start = dictionary
    # Writers leave the offset of a chunk without values at 0.
    if min(rows, values, stored_bytes, codec) < 0 or (values and start < 4):
        raise DamagedFileError("a column chunk's offset or size is negative")
    return Chunk(rows, values, _CODECS[codec], start, stored_bytes)
