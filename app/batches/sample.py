"""Samples: drawn instructions with the places of their images, before any picture is read."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from app.batches.options import Options
from app.catalog.dataset import Dataset
from app.catalog.image_source import ImageSource
from app.errors import TooLargeError
from app.parquet.place import Place
from app.sampling import order_rows

# What a turn takes beside its text and pictures: its objects here, its offsets in the answer.
_TURN_BYTES = 1000


class Wanted(NamedTuple):
    """An image to be read."""

    source: ImageSource
    place: Place


class Turn(NamedTuple):
    """An instruction as it is handed out, by its row in the dataset's table.

    `images` are those of `image_ids`, in order, or none. `size_bytes` is what it takes in an
    answer, at the most.
    """

    row: int
    image_ids: list[str]
    images: list[Wanted]
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Sample:
    """A drawn instruction and the context before it; `order` is its place in the dataset's order.

    `size_bytes` is what it takes in an answer, at the most, and `substituted_for` the id of the one
    that was drawn and can not be read.
    """

    dataset: Dataset
    order: int
    turn: Turn
    context: list[Turn]
    size_bytes: int
    substituted_for: str | None

    @property
    def id(self) -> str:
        """The instruction's id, which is read for it."""
        return self.dataset.instructions.get_row(self.turn.row).id

    def turns(self) -> Iterator[Turn]:
        """Its own turn, then the context in order."""
        yield self.turn
        yield from self.context


def load_samples(
    dataset: Dataset,
    rows: Sequence[int],
    orders: Sequence[int],
    options: Options,
    substituted_for: str | None = None,
) -> Iterator[Sample]:
    """The samples of usable rows of the dataset, which are at those places of its order.

    Raises TooLargeError for a context of more than `max_context`.
    """
    turns = _load_turns(dataset, rows, options)
    for row, order, turn in zip(rows, orders, turns, strict=True):
        if turn is None:
            raise AssertionError(f"row {row} of {dataset.name} is not usable")
        context: list[Turn] = []
        if options.context:
            before = _find_context(dataset, row, options.max_context)
            # As an id that no instruction has: one whose picture is not there can not be shown.
            context = [one for one in _load_turns(dataset, before, options) if one is not None]
        size_bytes = turn.size_bytes + sum(one.size_bytes for one in context)
        yield Sample(dataset, order, turn, context, size_bytes, substituted_for)


def load_substitute(sample: Sample, seed: int, options: Options) -> Sample:
    """The sample that comes next in its dataset's order."""
    dataset = sample.dataset
    order = (sample.order + 1) % dataset.facts.usable
    orders = np.array([order], np.uint64)
    usable = int(order_rows(dataset.name, dataset.facts.usable, seed, orders)[0])
    drawn = sample.substituted_for or sample.id
    (found,) = load_samples(dataset, [dataset.usable[usable]], [order], options, drawn)
    return found


def _load_turns(dataset: Dataset, rows: Sequence[int], options: Options) -> Iterator[Turn | None]:
    """The turns of the rows; None for one with an image that is not there or not readable."""
    if not rows:
        return
    taken = dataset.instructions.take(rows, ["image_ids"])
    for row, ids in zip(rows, taken.column(0).to_pylist(), strict=True):
        yield _find_images(dataset, row, _pick_frames(ids, options.frames), options)


def _find_context(dataset: Dataset, row: int, max_context: int) -> list[int]:
    instruction = dataset.instructions.get_row(row)
    ids = dataset.context_ids(instruction)
    if len(ids) > max_context:
        raise TooLargeError(
            f"{len(ids):,} instructions go before {instruction.id[:200]!r} of {dataset.name}, more "
            f"than the {max_context:,} of one sample (setting max_batch_samples); ask with "
            "context=false"
        )
    return dataset.context_rows(ids)


def _find_images(dataset: Dataset, row: int, image_ids: list[str], options: Options) -> Turn | None:
    size_bytes = _TURN_BYTES + dataset.instructions.get_size(row)
    if options.frames is not None:  # the same ids may be there many times
        size_bytes += sum(len(key.encode()) for key in image_ids)
    images = []
    source = dataset.images
    if source is not None:
        places = {key: source.find_place(key) for key in dict.fromkeys(image_ids)}
        for key in image_ids:
            place = places[key]
            if place is None or not place.is_readable:
                return None
            if options.images:
                images.append(Wanted(source, place))
                size_bytes += options.bound_image(place.length)
    return Turn(row, image_ids, images, size_bytes)


def _pick_frames(image_ids: list[str], frames: int | None) -> list[str]:
    """That many of the ids, spread evenly, some of them again where there are fewer (as Otter's
    `resample_frames` does); all of them without a number."""
    if frames is None or not image_ids:
        return image_ids
    return [image_ids[at] for at in np.linspace(0, len(image_ids) - 1, frames, dtype=int)]
