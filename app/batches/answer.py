"""A batch on its way out: its samples in parts, each read and written before the next is."""

from collections.abc import Iterator

from app.batches.encoder import Encoder, Piece
from app.batches.options import Options
from app.batches.read import Failures, ReadImages, read_samples
from app.batches.sample import Sample


class Answer:
    """The body of an answer, made a part at a time; each part is samples of some `part_bytes`."""

    def __init__(
        self,
        samples: list[Sample],
        encoder: Encoder,
        read: ReadImages,
        *,
        seed: int,
        options: Options,
        part_bytes: int,
    ) -> None:
        self._encoder = encoder
        self._read = read
        self._seed = seed
        self._options = options
        self._failures = Failures(len(samples), options.substitute)
        self._parts, self.part_bytes = _split(samples, part_bytes)

    @property
    def is_whole(self) -> bool:
        """Whether the answer is made in one part."""
        return len(self._parts) <= 1

    def check(self, read: ReadImages) -> None:
        """Read every value, so that one that can not be read gives way, or fails the batch, before
        the first byte leaves; from then on a file that changes ends it. Raises what `read_samples`
        does."""
        for part in self._parts:
            read_samples(part, read, _drop, self._failures, self._seed, self._options)
        self._failures.is_checked = True

    def count_substituted(self) -> int:
        """How many samples take the place of another, among those that were read."""
        return sum(one.substituted_for is not None for part in self._parts for one in part)

    def make(self) -> Iterator[list[Piece]]:
        """The pieces of the body, part by part; it raises what `read_samples` does."""
        pieces: list[Piece] = []
        for part in self._parts:
            self._encoder.begin(part)
            keep = self._encoder.keep
            images = read_samples(part, self._read, keep, self._failures, self._seed, self._options)
            pieces += self._encoder.write(part, images)
            del images
            if part is not self._parts[-1]:
                yield pieces
                pieces = []
        yield pieces + self._encoder.end()


def _split(samples: list[Sample], part_bytes: int) -> tuple[list[list[Sample]], int]:
    """Runs of samples of at most `part_bytes`, but one sample at the least; and the largest's."""
    parts: list[list[Sample]] = []
    largest = taken = 0
    for sample in samples:
        if not parts or taken + sample.size_bytes > part_bytes:
            parts.append([])
            taken = 0
        parts[-1].append(sample)
        taken += sample.size_bytes
        largest = max(largest, taken)
    return parts, largest


def _drop(image: object) -> None:
    """Nothing is kept of what is only checked."""
