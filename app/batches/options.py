"""What of a sample is handed out, and how its images are."""

from dataclasses import dataclass

from app.images.picture import Fit
from app.images.pixels import CHANNELS

_HEADER_BYTES = 4096


@dataclass(frozen=True, slots=True)
class Options:
    """What a batch holds beside the texts.

    Without `images` there are none. With `size` they are brought to a square of that many pixels
    a side as `fit` says: encoded again, or with `pixels` as uint8 [size, size, 3]. `as_base64`
    writes them as text. `frames` takes that many of each instruction's images. With `context` the
    instructions before it are there too, up to `max_context` of them; if it is None, then in the
    group that has its name from it. Without `substitute` a batch fails at its first unreadable
    sample.
    """

    images: bool = True
    size: int | None = None
    fit: Fit = "cover"
    pixels: bool = False
    as_base64: bool = False
    frames: int | None = None
    context: bool | None = None
    max_context: int = 10_000
    substitute: bool = True

    def bound_image(self, stored_bytes: int) -> int:
        """What an image takes that is stored in so many bytes, at the most."""
        if self.size is None:
            taken = stored_bytes
        elif self.pixels:
            return self.size * self.size * CHANNELS
        else:
            # Noise with alpha, as PNG: encoders add some hundred bytes to what they can not shrink.
            taken = self.size * self.size * (CHANNELS + 1) + _HEADER_BYTES
        return taken * 4 // 3 + 4 if self.as_base64 else taken
