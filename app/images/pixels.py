"""A picture as a square of pixels, as models take it."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from app.images.picture import Fit, flatten, scale

CHANNELS = 3


def read_pixels(data: bytes, side: int, fit: Fit, *, max_pixels: int) -> NDArray[np.uint8]:
    """The picture as RGB, uint8 [side, side, 3].

    `cover` fills the square and cuts what is over; `contain` puts the whole picture, never
    enlarged, in the middle of black. Alpha is laid on white. Raises ImageUnreadableError as `scale`
    does.
    """
    made, _ = scale(data, side, side, fit, max_pixels=max_pixels)
    made = flatten(made, "RGB")
    if made.size != (side, side):
        square = Image.new("RGB", (side, side))
        square.paste(made, ((side - made.width) // 2, (side - made.height) // 2))
        made = square
    return np.asarray(made)
