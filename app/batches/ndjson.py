"""Samples as JSON, one a line, their pictures as base64."""

from typing import Any

import msgspec

from app.batches.encoder import Piece
from app.batches.read import Images
from app.batches.record import describe_sample
from app.batches.sample import Sample, Turn

CONTENT_TYPE = "application/x-ndjson"


class NdjsonEncoder:
    """Writes `{"dataset": …, "id": …, …, "images": [base64, …], "context": [{…, "images": …}]}`.

    Its images come as base64 text.
    """

    def begin(self, samples: list[Sample]) -> None:
        """Nothing to make ready."""

    def keep(self, image: bytes | memoryview) -> bytes | memoryview:
        """The image as it is."""
        return image

    def write(self, samples: list[Sample], images: Images) -> list[Piece]:
        """A line a sample."""
        return [msgspec.json.encode(self._describe(one, images)) + b"\n" for one in samples]

    def end(self) -> list[Piece]:
        """Nothing."""
        return []

    @staticmethod
    def _describe(sample: Sample, images: Images) -> dict[str, Any]:
        def texts(turn: Turn) -> list[str]:
            return [str(images[image], "ascii") for image in turn.images]

        described = describe_sample(sample) | {"images": texts(sample.turn)}
        for turn, row in zip(sample.context, described["context"], strict=True):
            row["images"] = texts(turn)
        return described
