"""Decodes a page whole, for the codecs that can not be entered in the middle."""

import pyarrow as pa

from app.errors import DamagedFileError
from app.parquet.snappy import as_bytes


def decompress_page(codec: str, data: bytes | memoryview, length: int) -> memoryview:
    """The `length` bytes of a page; raises DamagedFileError if it does not decode to so many.

    A shorter one can pass unseen, its end undefined: `has_length` tells.
    """
    if codec == "uncompressed":
        if len(data) != length:
            raise DamagedFileError("a page's two sizes differ though it is not compressed")
        return memoryview(data)
    if not length:
        return memoryview(b"")
    try:
        return as_bytes(pa.Codec(codec).decompress(data, length))
    except (OSError, ValueError, pa.ArrowException) as error:
        raise DamagedFileError(f"a page does not decode: {error}") from error


def has_length(codec: str, data: bytes, length: int) -> bool:
    """Whether a page that decoded into `length` bytes is not a shorter one.

    pyarrow does not say how much of the buffer they filled, but for zstd; one byte less has to be
    too little. Of a page of one byte nothing can be told: gzip takes no bytes for enough.
    """
    if codec not in ("snappy", "gzip", "brotli", "lz4_raw") or length < 2:
        return True
    try:
        pa.Codec(codec).decompress(data, length - 1)
    except (OSError, ValueError, pa.ArrowException):
        return True
    return False
