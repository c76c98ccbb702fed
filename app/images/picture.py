"""A picture decoded, turned upright and brought to a wanted size.

Pillow's plugins are opened directly, by the kind that the bytes show, and never through
`Image.open`: that one tries plugins in turn, and tells of large pictures by a warning whose limit
and filters are globals of the process. Here the limit is an argument, held against the header
before a pixel is decoded.
"""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import BytesIO
from typing import Literal, cast

from PIL import ExifTags, Image
from PIL.AvifImagePlugin import AvifImageFile
from PIL.BmpImagePlugin import BmpImageFile
from PIL.GifImagePlugin import GifImageFile
from PIL.ImageFile import ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import TiffImageFile
from PIL.WebPImagePlugin import WebPImageFile

from app.errors import ImageUnreadableError, PictureTooLargeError
from app.images.sniff import content_type

_PLUGINS: dict[str, Callable[[BytesIO], ImageFile]] = {
    "image/jpeg": JpegImageFile,
    "image/png": PngImageFile,
    "image/gif": GifImageFile,
    "image/webp": WebPImageFile,
    "image/bmp": BmpImageFile,
    "image/tiff": TiffImageFile,
    "image/avif": AvifImageFile,
}
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_SWAPS_SIDES = frozenset(_UPRIGHT[orientation] for orientation in (5, 6, 7, 8))
# Pictures are first shrunk by whole numbers to this many times the wanted size, then filtered;
# from 3 on Pillow calls the result indistinguishable, and 2 is what its own thumbnails use.
_REDUCING_GAP = 2.0

Size = tuple[int, int]
Box = tuple[float, float, float, float]
Fit = Literal["contain", "cover"]


def scale(
    data: bytes, width: int | None, height: int | None, fit: Fit, *, max_pixels: int
) -> tuple[Image.Image, str]:
    """The picture at that size, and the content type that its bytes show.

    It is turned upright as its EXIF says, brought to 8 bit grey or RGB (with alpha if it has any),
    and of an animation it is the first frame. EXIF, comments and the ICC profile are left behind:
    colours are taken as sRGB. Grey of 16 bit is divided by 257; 32 bit integers and floats, which
    have no fixed white, are stretched from their least to their greatest value.

    `contain` fits the whole picture into the box, of which either side may be missing, and never
    enlarges. `cover` fills exactly width x height, enlarging if need be, and cuts what is over
    evenly off both ends; with a side missing there is nothing to cut, and it is as `contain`.

    Raises ImageUnreadableError if the bytes are not a picture, are damaged or incomplete, or have
    more than `max_pixels` (or than Pillow's own limit, 89 million).
    """
    with _opened(data, max_pixels) as (image, kind):
        return _make(image, width, height, fit), kind


def measure(data: bytes, *, max_pixels: int) -> Size:
    """Width and height of the picture as it is stored, once all of its (first) frame is decoded.

    Raises ImageUnreadableError as `scale` does, and of that PictureTooLargeError if it has too many
    pixels.
    """
    with _opened(data, max_pixels) as (image, _):
        image.load()
        return image.size


def read_size(data: bytes, *, max_pixels: int) -> Size:
    """Width and height as the picture's header has them, without decoding it; raises as `measure`,
    but for what is wrong behind the header."""
    with _opened(data, max_pixels) as (image, _):
        return image.size


@contextmanager
def _opened(data: bytes, max_pixels: int) -> Iterator[tuple[ImageFile, str]]:
    """The picture, not decoded yet, and its content type; raises ImageUnreadableError, also for
    what goes wrong while it is used."""
    kind = content_type(data)
    plugin = _PLUGINS.get(kind)
    if plugin is None:
        raise ImageUnreadableError(
            "the bytes are not a JPEG, PNG, GIF, WebP, BMP, TIFF or AVIF picture"
        )
    try:
        with plugin(BytesIO(data)) as image:
            _check_pixels(image.size, max_pixels)
            yield image, kind
    except ImageUnreadableError:
        raise
    # On damaged bytes Pillow raises nearly anything: OSError, SyntaxError, ValueError, IndexError,
    # struct.error, EOFError, ZeroDivisionError, MemoryError, DecompressionBombError, ...
    except Exception as error:
        reason = str(error) or type(error).__name__
        raise ImageUnreadableError(f"the {kind} picture can not be read: {reason}") from error


def flatten(image: Image.Image, mode: str) -> Image.Image:
    """The picture without alpha, in mode L or RGB: on white where it had any."""
    if not image.mode.endswith("A"):
        return image if image.mode == mode else image.convert(mode)
    flat = Image.new(mode, image.size, "white")
    flat.paste(image.convert(mode), mask=image.getchannel("A"))
    return flat


def _check_pixels(size: Size, max_pixels: int) -> None:
    limit = min(max_pixels, Image.MAX_IMAGE_PIXELS or max_pixels)
    width, height = size
    if width * height > limit:
        raise PictureTooLargeError(
            f"the picture is {width} x {height} pixels; up to {limit} are decoded"
        )


def _make(image: ImageFile, width: int | None, height: int | None, fit: Fit) -> Image.Image:
    """The resized picture, upright, 8 bit, with nothing but its pixels."""
    # A JPEG shall be decoded small, so its size is chosen before it is loaded. The others know
    # their orientation only afterwards: PNG may have it at its end, and TIFF turns itself.
    if not isinstance(image, JpegImageFile):
        image.load()
    turn = _turn(image)
    if turn in _SWAPS_SIDES:
        width, height = height, width
    size, box = _fit(image.size, width, height, fit)
    if isinstance(image, JpegImageFile):
        box = _draft(image, size, box)
    made = _plain(image).resize(size, Image.Resampling.LANCZOS, box, _REDUCING_GAP)
    if turn is not None:
        made = made.transpose(turn)
    # Encoders take comments, profiles and transparent colours from here.
    made.info = {}
    return made


def _turn(image: ImageFile) -> Image.Transpose | None:
    """What turns the picture upright, if anything."""
    try:
        return _UPRIGHT.get(image.getexif().get(ExifTags.Base.Orientation, 1))
    # EXIF that breaks its rules is common, and the pixels beside it are good.
    except Exception:
        return None


def _fit(size: Size, width: int | None, height: int | None, fit: Fit) -> tuple[Size, Box]:
    """The size to make, and the part of the picture to make it of."""
    across, down = size
    if fit == "cover" and width is not None and height is not None:
        scale = max(width / across, height / down)
        left = max(0.0, (across - width / scale) / 2)
        top = max(0.0, (down - height / scale) / 2)
        return (width, height), (left, top, across - left, down - top)
    scale = min(
        1.0,
        1.0 if width is None else width / across,
        1.0 if height is None else height / down,
    )
    made = max(1, round(across * scale)), max(1, round(down * scale))
    return made, (0.0, 0.0, float(across), float(down))


def _draft(image: JpegImageFile, size: Size, box: Box) -> Box:
    """Has the JPEG decoded at 1/2, 1/4 or 1/8 where that is still large enough; the box in it."""
    across, down = image.size
    enough = (
        max(1, math.ceil(_REDUCING_GAP * size[0] * across / (box[2] - box[0]))),
        max(1, math.ceil(_REDUCING_GAP * size[1] * down / (box[3] - box[1]))),
    )
    drafted = image.draft(None, enough)
    if drafted is None:
        return box
    shrunk = across / drafted[1][2]
    left, top, right, bottom = box
    return left / shrunk, top / shrunk, right / shrunk, bottom / shrunk


def _plain(image: Image.Image) -> Image.Image:
    """The picture as L, LA, RGB or RGBA."""
    if image.mode.startswith("I;16"):
        return _to_8_bit(image.convert("F"), 0.0, 65535.0)
    if image.mode in ("I", "F"):
        numbers = image.convert("F")
        low, high = cast("tuple[float, float]", numbers.getextrema())
        return _to_8_bit(numbers, low, high)
    colour = "L" if image.mode in ("1", "L", "LA", "La") else "RGB"
    mode = colour + "A" if image.has_transparency_data else colour
    return image if image.mode == mode else image.convert(mode)


def _to_8_bit(numbers: Image.Image, low: float, high: float) -> Image.Image:
    # Pillow itself would clip everything above 255 to white.
    if not (math.isfinite(low) and math.isfinite(high)):
        raise ImageUnreadableError("the picture has pixels that are not finite numbers")
    scale = 255.0 / (high - low) if high > low else 0.0
    offset = 0.5 - low * scale
    # Only a callable of this form, a factor and a term, is taken for floats.
    return numbers.point(lambda value: value * scale + offset).convert("L")
