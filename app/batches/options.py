"""What of a sample is handed out, and how its images are."""

from dataclasses import dataclass

from app.images.picture import Fit
from app.images.pixels import CHANNELS


@dataclass(frozen=True, slots=True)
class Options:
    """What a batch holds beside the texts.

    Without `images` there are none. With `size` they are brought to a square of that many pixels
    a side as `fit` says: encoded again, or with `pixels` as uint8 [size, size, 3]. `frames` takes
    that many of each instruction's images. With `context` the instructions before it are there
    too; if it is None, then in the group that has its name from it. Without `substitute` a batch
    fails at its first unreadable sample.
    """

    images: bool = True
    size: int | None = None
    fit: Fit = "cover"
    pixels: bool = False
    frames: int | None = None
    context: bool | None = None
    substitute: bool = True

    @property
    def pixel_bytes(self) -> int | None:
        """What an image takes as pixels; None where it stays a file."""
        return self.size * self.size * CHANNELS if self.pixels and self.size else None
