"""A stored value as the image that leaves."""

from collections.abc import Callable
from typing import Any

import pybase64

from app.batches.options import Options
from app.images.pixels import read_pixels
from app.images.resize import Resize, resize
from app.images.stored import Form, decode
from app.parquet.reader import Stored

MakeImage = Callable[[Stored, int], Any]  # a stored value and its Form → the image


def choose_image(options: Options, *, max_pixels: int) -> MakeImage:
    """How an image is made: the picture's bytes, the same as base64, or its pixels.

    What it makes raises ImageUnreadableError.
    """
    if options.size is None:
        return _keep_base64 if options.as_base64 else decode
    side, fit = options.size, options.fit
    if options.pixels:
        return lambda stored, form: (
            read_pixels(decode(stored, form), side, fit, max_pixels=max_pixels).data
        )
    how = Resize(side, side, fit)
    if options.as_base64:
        return lambda stored, form: pybase64.b64encode(
            resize(decode(stored, form), how, max_pixels=max_pixels)[0]
        )
    return lambda stored, form: resize(decode(stored, form), how, max_pixels=max_pixels)[0]


def _keep_base64(stored: Stored, form: int) -> bytes:
    """The value as it is stored, where that is strict base64 already."""
    if form == Form.BASE64:
        return bytes(stored)  # copied: it may be a view of a whole decoded page
    return pybase64.b64encode(decode(stored, form))
