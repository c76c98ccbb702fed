"""What writes samples in one format, a part at a time."""

from typing import Any, Protocol

from app.batches.read import Images
from app.batches.sample import Sample

Piece = bytes | memoryview  # of an answer's body; pieces are sent one after the other, not joined


class Encoder(Protocol):
    """Writes one answer; each call gives the pieces of the body that follow."""

    def begin(self, samples: list[Sample]) -> None:
        """Make ready for the images of these samples, or of their substitutes."""

    def keep(self, image: Any) -> Any:
        """What `write` wants to have of an image that was just made."""

    def write(self, samples: list[Sample], images: Images) -> list[Piece]:
        """The samples, in order; `images` has what was kept of every image of them."""

    def end(self) -> list[Piece]:
        """What goes behind the last sample."""
