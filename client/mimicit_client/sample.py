"""Samples as a model sees them: texts, and images as views into the batch they came in."""

import io
import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from PIL import Image


@dataclass(frozen=True, slots=True, eq=False)
class Turn:
    """An instruction with its images.

    An image is a memoryview: of one dimension, the bytes of its file; or of three, its uint8
    pixels [H, W, 3]. It shares the memory of its whole batch and keeps it: bytes(image) is a copy
    that does not.
    """

    id: str
    instruction: str
    answer: str
    image_ids: tuple[str, ...]
    images: tuple[memoryview, ...]

    def pil(self) -> "list[Image.Image]":
        """The images, opened with Pillow, in the mode and the orientation that they have.

        Raises ImportError without Pillow, and what Pillow raises for what it can not open.
        """
        return [open_image(image) for image in self.images]

    def tensor(self) -> "torch.Tensor":
        """The images as one uint8 tensor [n, H, W, 3] in RGB; [0, 0, 0, 3] if there are none.

        Pixels of one image share the batch's memory. Raises ImportError without torch, or without
        Pillow where the images are files; ValueError if they are of different sizes.
        """
        return stack_images(self.images)

    def __reduce__(self) -> tuple[Any, ...]:
        # A memoryview has no pickle; bytes and a shape have.
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        values["images"] = [(bytes(image), image.shape) for image in self.images]
        return _make_again, (type(self), values)


@dataclass(frozen=True, slots=True, eq=False)
class Sample(Turn):
    """A sample of a dataset; `context` are the instructions that go before it, in order.

    `extra_json` is the text of its other fields, and `substituted_for` the id of the sample that
    was drawn and could not be read, if this one stands in for it.
    """

    dataset: str
    rel_ins_ids: tuple[str, ...]
    context: tuple[Turn, ...]
    extra_json: str | None
    substituted_for: str | None

    @property
    def extra(self) -> Mapping[str, Any]:
        """The other fields of the instruction, parsed anew each time; empty if there are none."""
        parsed: dict[str, Any] = json.loads(self.extra_json) if self.extra_json else {}
        return parsed


def _make_again(kind: type[Turn], values: dict[str, Any]) -> Turn:
    values["images"] = tuple(shape_view(memoryview(d), shape) for d, shape in values["images"])
    return kind(**values)


def shape_view(view: memoryview, shape: tuple[int, ...]) -> memoryview:
    """The bytes as an array of that shape."""
    return view if len(shape) == 1 else view.cast("B", shape)


def shape_of(view: memoryview) -> tuple[int, ...]:
    """The shape of an array; typeshed allows for views without one."""
    return view.shape or ()


def open_image(image: memoryview) -> "Image.Image":
    """The image of a Turn, opened with Pillow."""
    try:
        from PIL import Image
    except ImportError as error:
        raise ImportError("pictures are opened by Pillow: pip install pillow") from error
    if image.ndim == 3:
        height, width, _ = shape_of(image)
        data: Any = image.cast("B")
        return Image.frombuffer("RGB", (width, height), data, "raw", "RGB", 0, 1)
    return Image.open(io.BytesIO(image))


def stack_images(images: tuple[memoryview, ...]) -> "torch.Tensor":
    """Images of one size as uint8 [n, H, W, 3]; see Turn.tensor."""
    import torch

    tensors = [_read_pixels(image) for image in images]
    sizes = {tuple(tensor.shape[:2]) for tensor in tensors}
    if len(sizes) > 1:
        seen = ", ".join(f"{width} x {height}" for height, width in sorted(sizes))
        raise ValueError(
            f"images of different sizes make no tensor ({seen}): ask for size= with fit='cover'"
        )
    if not tensors:
        return torch.empty((0, 0, 0, 3), dtype=torch.uint8)
    return tensors[0].unsqueeze(0) if len(tensors) == 1 else torch.stack(tensors)


def _read_pixels(image: memoryview) -> "torch.Tensor":
    shape: tuple[int, ...]
    if image.ndim == 3:
        shape = shape_of(image)
        pixels: memoryview | bytearray = image
    else:
        picture = open_image(image).convert("RGB")
        shape = (picture.height, picture.width, 3)
        pixels = bytearray(picture.tobytes())
    return make_tensor(pixels).view(shape)


def make_tensor(pixels: memoryview | bytearray) -> "torch.Tensor":
    """A flat uint8 tensor of those bytes, without a copy if they can be written."""
    import torch

    if isinstance(pixels, memoryview) and pixels.readonly:
        pixels = bytearray(pixels)  # torch has no tensors that can not be written
    return torch.frombuffer(pixels, dtype=torch.uint8)
