"""Samples as JSON, one a line, their pictures as base64."""

import msgspec

from app.batches.encoder import Piece
from app.batches.options import Options
from app.batches.read import Images
from app.batches.record import describe_samples
from app.batches.sample import Sample

CONTENT_TYPE = "application/x-ndjson"


class NdjsonEncoder:
    """Writes `{"dataset": …, "id": …, …, "images": [base64, …], "context": [{…, "images": …}]}`.

    Its images come as base64 text; without images there is no such field.
    """

    def __init__(self, options: Options) -> None:
        self._with_images = options.images

    def begin(self, samples: list[Sample]) -> None:
        """Nothing to make ready."""

    def keep(self, image: bytes | memoryview) -> bytes | memoryview:
        """The image as it is."""
        return image

    def write(self, samples: list[Sample], images: Images) -> list[Piece]:
        """A line a sample."""
        lines: list[Piece] = []
        for sample, described in zip(samples, describe_samples(samples), strict=True):
            if self._with_images:
                rows = [described, *described["context"]]
                for turn, row in zip(sample.turns(), rows, strict=True):
                    row["images"] = [str(images[image], "ascii") for image in turn.images]
            lines.append(msgspec.json.encode(described) + b"\n")
        return lines

    def end(self) -> list[Piece]:
        """Nothing."""
        return []
