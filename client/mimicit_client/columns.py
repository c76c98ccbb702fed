"""Columns of images in an Arrow batch, as views into its one buffer."""

import math
from dataclasses import dataclass
from itertools import pairwise

import pyarrow as pa

from mimicit_client.errors import AnswerError
from mimicit_client.sample import shape_view


@dataclass(frozen=True, slots=True)
class Body:
    """The bytes of an Arrow stream."""

    buffer: pa.Buffer
    view: memoryview

    @classmethod
    def of(cls, buffer: pa.Buffer) -> "Body":
        return cls(buffer, memoryview(buffer).cast("B"))

    def find(self, part: pa.Buffer) -> memoryview:
        """Those bytes of a column, writable if the body is, which Arrow's own views never are."""
        start = part.address - self.buffer.address
        if start >= 0 and start + part.size <= self.buffer.size:
            return self.view[start : start + part.size]
        return memoryview(part).cast("B")


@dataclass(frozen=True, slots=True)
class Pixels:
    """The images of a run of rows, one after the other: count * H * W * 3 bytes."""

    view: memoryview
    shape: tuple[int, ...]
    starts: list[int]
    """Where each row's images start, counted in images; one more than there are rows."""


def view_images(array: pa.Array, body: Body) -> list[tuple[memoryview, ...]]:
    """The images of each row of a list column: of binary values, or of pixels."""
    starts = array.offsets.to_pylist()
    if is_pixels(array.type):
        pixels = view_pixels(array, body)
        length = math.prod(pixels.shape)
        at = range(starts[0], starts[-1])
        images = [
            shape_view(pixels.view[(n - starts[0]) * length :][:length], pixels.shape) for n in at
        ]
    else:
        images = _view_binary(array.values[starts[0] : starts[-1]], body)
    return [tuple(images[start - starts[0] : end - starts[0]]) for start, end in pairwise(starts)]


def is_pixels(kind: pa.DataType) -> bool:
    """Whether a list type is of pixels."""
    return isinstance(kind.value_type, pa.FixedShapeTensorType)


def view_pixels(array: pa.Array, body: Body) -> Pixels:
    """The pixels of all rows of a list column of them; raises AnswerError if it has no pixels."""
    if not is_pixels(array.type):
        raise AnswerError("this batch has no pixels: ask for pixels=True")
    starts = array.offsets.to_pylist()
    shape = tuple(array.type.value_type.shape)
    length = math.prod(shape)
    stored = array.values.storage
    buffer = stored.values.buffers()[1]
    first = (stored.offset + starts[0]) * length + stored.values.offset
    count = (starts[-1] - starts[0]) * length
    view = body.find(buffer)[first : first + count] if buffer is not None else memoryview(b"")
    return Pixels(view, shape, [start - starts[0] for start in starts])


def _view_binary(array: pa.Array, body: Body) -> list[memoryview]:
    if pa.types.is_large_binary(array.type):
        width = 8
    elif pa.types.is_binary(array.type):
        width = 4
    else:
        raise AnswerError(f"images of type {array.type} are not known here")
    if not len(array):
        return []
    _, offsets, data = array.buffers()
    first = array.offset * width
    used = memoryview(offsets).cast("B")[first : first + (len(array) + 1) * width]
    ends = used.cast("q") if width == 8 else used.cast("i")
    view = body.find(data) if data is not None else memoryview(b"")
    return [view[start:end] for start, end in pairwise(ends)]
