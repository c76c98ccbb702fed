"""Parquet's RLE and bit-packing hybrid: definition levels and dictionary indices.

Source: the Parquet format's "Encodings" page, "Run Length Encoding / Bit-Packing Hybrid".
"""

import numpy as np
from numpy.typing import NDArray

from app.errors import DamagedFileError

_BLOCK_GROUPS = 8192  # of eight numbers: unpacking takes 5 bytes a bit, so 10 MiB at 32 bits


def decode_hybrid(data: bytes | memoryview, bit_width: int, count: int) -> NDArray[np.uint32]:
    """The first `count` numbers of a hybrid run of `bit_width` bits each, as uint32.

    Raises DamagedFileError if the bytes do not hold that many. Allocates some 8 bytes a number, so
    the caller bounds `count`.
    """
    if not 0 <= bit_width <= 32:
        raise DamagedFileError(f"a bit width of {bit_width} does not exist")
    values = np.zeros(count, dtype=np.uint32)
    if bit_width == 0:
        return values
    view = memoryview(data)
    pos = filled = 0
    run_bytes = (bit_width + 7) // 8
    while filled < count:
        header = shift = 0
        while True:
            if pos >= len(view) or shift > 35:
                raise DamagedFileError("a run-length sequence ends too early")
            byte = view[pos]
            pos += 1
            header |= (byte & 0x7F) << shift
            if byte < 0x80:
                break
            shift += 7
        if header & 1:
            groups = min(header >> 1, -(-(count - filled) // 8))
            packed = view[pos : pos + groups * bit_width]
            pos += (header >> 1) * bit_width
            unpacked = _unpack(packed, bit_width)[: count - filled]
            if not len(unpacked) or len(unpacked) < min(groups * 8, count - filled):
                raise DamagedFileError("a bit-packed run ends too early")
            values[filled : filled + len(unpacked)] = unpacked
            filled += len(unpacked)
        else:
            length = min(header >> 1, count - filled)
            if pos + run_bytes > len(view) or not length:
                raise DamagedFileError("a run-length run ends too early")
            value = int.from_bytes(view[pos : pos + run_bytes], "little")
            if value >> bit_width:
                raise DamagedFileError("a run-length value has more bits than its width")
            pos += run_bytes
            values[filled : filled + length] = value
            filled += length
    return values


def _unpack(packed: memoryview, bit_width: int) -> NDArray[np.uint32]:
    step = _BLOCK_GROUPS * bit_width
    blocks = [
        _unpack_block(packed[at : at + step], bit_width) for at in range(0, len(packed), step)
    ]
    return np.concatenate([np.empty(0, np.uint32), *blocks])


def _unpack_block(packed: memoryview, bit_width: int) -> NDArray[np.uint32]:
    bits = np.unpackbits(np.frombuffer(packed, dtype=np.uint8), bitorder="little")
    rows = bits[: len(bits) // bit_width * bit_width].reshape(-1, bit_width)
    weights = np.left_shift(np.uint32(1), np.arange(bit_width, dtype=np.uint32))
    numbers: NDArray[np.uint32] = (rows * weights).sum(axis=1, dtype=np.uint32)
    return numbers
