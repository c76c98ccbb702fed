"""The formats a batch can have."""

from enum import StrEnum

from app.batches import arrow, ndjson, tar
from app.batches.arena import Arenas
from app.batches.encoder import Encoder
from app.batches.options import Options
from app.batches.sample import Sample


class Format(StrEnum):
    """How a batch is written."""

    ARROW = "arrow"
    TAR = "tar"
    NDJSON = "ndjson"

    @property
    def content_type(self) -> str:
        """Its media type."""
        return CONTENT_TYPES[self]

    @property
    def held_parts(self) -> int:
        """How many times a part's bytes are held: being made, and the one before being sent."""
        return 3 if self is Format.NDJSON else 2  # base64 first, then the lines that it is in


CONTENT_TYPES = {
    Format.ARROW: arrow.CONTENT_TYPE,
    Format.TAR: tar.CONTENT_TYPE,
    Format.NDJSON: ndjson.CONTENT_TYPE,
}


def create_encoder(
    format: Format, samples: list[Sample], options: Options, arenas: Arenas
) -> Encoder:
    """What writes those samples in that format."""
    if format is Format.TAR:
        return tar.TarEncoder()
    if format is Format.NDJSON:
        return ndjson.NdjsonEncoder(options)
    return arrow.ArrowEncoder((sample.dataset.name for sample in samples), options, arenas)
