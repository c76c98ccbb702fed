"""Seekable Snappy: common encoders compress each 64 KiB on their own, so a stream can be entered.

Walking the tags once gives the compressed offset of every 64 KiB of output, a seek point. Any run
of fragments is then a Snappy stream of its own, once a varint of its length stands in front.
Source: Snappy's "format_description.txt"; the fragment size is kBlockSize of its C++ encoder.
"""

from collections.abc import Callable, Iterator

import pyarrow as pa

from app.errors import DamagedFileError, UnsupportedError
from app.storage import Read

FRAGMENT_BYTES = 65536
# A full fragment that did not compress: one literal with a two-byte length, then its bytes.
LITERAL_TAG = b"\xf4\xff\xff"

# The longest legal code for a fragment is one-byte literals with four-byte lengths.
_MAX_CODE_BYTES = FRAGMENT_BYTES * 6
_READ_BYTES = 1 << 20  # read ahead at index time: large enough to stream, small beside a page
_YIELD_FRAGMENTS = 16  # decompress 1 MiB at a time: stays in the processor's cache

# Per copy tag: how many bytes it takes and how many it gives. Literals are 0.
_COPY_STEP = bytes(0 if t & 3 == 0 else (2, 3, 5)[(t & 3) - 1] for t in range(256))
_COPY_LENGTH = bytes(
    0 if t & 3 == 0 else (t >> 2 & 7) + 4 if t & 3 == 1 else (t >> 2) + 1 for t in range(256)
)


def encode_varint(number: int) -> bytes:
    """The number as Snappy writes a stream's length in front."""
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def as_bytes(buffer: pa.Buffer) -> memoryview:
    """The buffer as unsigned bytes; as it comes, a byte over 127 is a negative number."""
    return memoryview(buffer).cast("B")


def decompress(fragments: bytes | bytearray | memoryview, length: int) -> memoryview:
    """The `length` bytes that a run of whole fragments stands for; raises DamagedFileError."""
    stream = b"".join((encode_varint(length), fragments))
    try:
        return as_bytes(pa.Codec("snappy").decompress(stream, length))
    except (OSError, pa.ArrowInvalid) as error:
        raise DamagedFileError(f"a Snappy stream is damaged: {error}") from error


def walk(
    read: Read, offset: int, compressed_bytes: int, length: int, add_seek: Callable[[int], None]
) -> Iterator[memoryview]:
    """Yield the `length` bytes of the stream at `offset`, a run of fragments at a time.

    Calls `add_seek` once a fragment, with `offset of its code << 1 | is one whole literal`; the
    offset counts from the start of the file. Holds a few MiB, however large the stream is.
    Raises DamagedFileError if it is no Snappy stream of that length, and UnsupportedError if it is
    one that can not be entered at every 64 KiB.
    """
    end = offset + compressed_bytes
    preamble = read(offset, min(10, compressed_bytes))
    expected = encode_varint(length)
    if not preamble.startswith(expected):
        raise DamagedFileError("a Snappy stream's length is not what its page header says")
    window_at = offset + len(expected)
    window = b""
    pos = 0
    for first in range(0, length, FRAGMENT_BYTES * _YIELD_FRAGMENTS):
        run_bytes = min(length - first, FRAGMENT_BYTES * _YIELD_FRAGMENTS)
        run = bytearray()
        for start in range(0, run_bytes, FRAGMENT_BYTES):
            if len(window) - pos < _MAX_CODE_BYTES and window_at + len(window) < end:
                window_at += pos
                keep = window[pos:]
                more = min(_READ_BYTES, end - window_at - len(keep))
                window, pos = keep + read(window_at + len(keep), more), 0
            fragment_bytes = min(run_bytes - start, FRAGMENT_BYTES)
            is_literal = fragment_bytes == FRAGMENT_BYTES and window.startswith(LITERAL_TAG, pos)
            add_seek((window_at + pos) << 1 | is_literal)
            stop = pos + 3 + FRAGMENT_BYTES if is_literal else _skip(window, pos, fragment_bytes)
            if stop > len(window):
                raise DamagedFileError("a Snappy stream ends too early")
            run += memoryview(window)[pos:stop]
            pos = stop
        yield decompress(run, run_bytes)
    if window_at + pos != end:
        raise DamagedFileError("a Snappy stream goes on after its last byte")


def _skip(window: bytes, pos: int, fragment_bytes: int) -> int:
    """Where the code of the fragment at `pos` ends."""
    made = 0
    try:
        while made < fragment_bytes:
            tag = window[pos]
            step = _COPY_STEP[tag]
            if step:
                if step == 3:
                    back = window[pos + 1] | window[pos + 2] << 8
                elif step == 2:
                    back = tag >> 5 << 8 | window[pos + 1]
                else:
                    back = int.from_bytes(window[pos + 1 : pos + 5], "little")
                if back > made:
                    raise UnsupportedError("a Snappy copy reaches behind its fragment")
                made += _COPY_LENGTH[tag]
                pos += step
            elif tag < 240:
                made += (tag >> 2) + 1
                pos += (tag >> 2) + 2
            else:
                extra = (tag >> 2) - 59
                count = int.from_bytes(window[pos + 1 : pos + 1 + extra], "little") + 1
                made += count
                pos += 1 + extra + count
    except IndexError as error:
        raise DamagedFileError("a Snappy stream ends too early") from error
    if made != fragment_bytes:
        raise UnsupportedError("a Snappy element crosses a 64 KiB boundary")
    return pos
