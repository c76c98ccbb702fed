"""A picture made to a wanted size and format."""

from dataclasses import dataclass
from io import BytesIO
from typing import Literal

from PIL import Image

from app.errors import ImageUnreadableError
from app.images.picture import Fit, flatten, scale

Format = Literal["jpeg", "png", "webp"]


@dataclass(frozen=True, slots=True)
class Resize:
    """The wanted picture: sides in pixels and how it fits them, as `scale`, and its encoding.

    With neither side the picture is only encoded again. Without a format JPEG, PNG and WebP stay
    what they are, and others become PNG if they have alpha, else JPEG. `quality` is for JPEG and
    WebP.
    """

    width: int | None
    height: int | None
    fit: Fit = "contain"
    format: Format | None = None
    quality: int = 85


def resize(data: bytes, how: Resize, *, max_pixels: int) -> tuple[bytes, str]:
    """The picture's new bytes and their content type, the same ones for the same arguments.

    Alpha is kept, but on white where it becomes a JPEG. Raises ImageUnreadableError as `scale`
    does, and if the picture can not be encoded as wanted.
    """
    made, kind = scale(data, how.width, how.height, how.fit, max_pixels=max_pixels)
    try:
        return _encode(made, how.format or _format_for(kind, made), how.quality)
    except Exception as error:  # Pillow raises nearly anything
        reason = str(error) or type(error).__name__
        raise ImageUnreadableError(f"the picture can not be encoded: {reason}") from error


def _format_for(kind: str, image: Image.Image) -> Format:
    match kind:
        case "image/jpeg":
            return "jpeg"
        case "image/png":
            return "png"
        case "image/webp":
            return "webp"
        case _:
            return "png" if image.mode.endswith("A") else "jpeg"


def _encode(image: Image.Image, as_format: Format, quality: int) -> tuple[bytes, str]:
    if as_format == "jpeg" and image.mode.endswith("A"):
        image = flatten(image, image.mode[:-1])
    encoded = BytesIO()
    image.save(encoded, as_format, quality=quality)
    return encoded.getvalue(), f"image/{as_format}"
