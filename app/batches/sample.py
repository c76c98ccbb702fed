"""Samples: drawn instructions with the places of their images, before any picture is read."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from app.batches.options import Options
from app.catalog.dataset import Dataset
from app.catalog.image_source import ImageSource
from app.catalog.instructions import TABLE
from app.parquet.place import Place
from app.sampling import order_rows

_ID = TABLE.get_field_index("id")
_IMAGE_IDS = TABLE.get_field_index("image_ids")
# What a turn takes beside its text and pictures: its objects here, its offsets in the answer.
_TURN_BYTES = 1000


class Wanted(NamedTuple):
    """An image to be read."""

    source: ImageSource
    place: Place


class Turn(NamedTuple):
    """An instruction as it is handed out.

    `record` is its row of the instruction table, mapped; `images` are those of `image_ids`, in
    order, or none. `size_bytes` is what it takes in an answer, at the most.
    """

    record: pa.RecordBatch
    image_ids: list[str]
    images: list[Wanted]
    size_bytes: int

    @property
    def id(self) -> str:
        """The instruction's id."""
        found: str = self.record.column(_ID)[0].as_py()
        return found


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

    def turns(self) -> Iterator[Turn]:
        """Its own turn, then the context in order."""
        yield self.turn
        yield from self.context


def load_sample(
    dataset: Dataset,
    row: int,
    order: int,
    options: Options,
    substituted_for: str | None = None,
) -> Sample:
    """The sample of a usable row of the dataset."""
    turn = _load_turn(dataset, row, options)
    if turn is None:
        raise AssertionError(f"row {row} of {dataset.name} is not usable")
    context: list[Turn] = []
    if options.context:
        for other in dataset.context_rows(dataset.instructions.get_row(row)):
            found = _load_turn(dataset, other, options)
            # As an id that no instruction has: one whose picture is not there can not be shown.
            if found is not None:
                context.append(found)
    size_bytes = turn.size_bytes + sum(one.size_bytes for one in context)
    return Sample(dataset, order, turn, context, size_bytes, substituted_for)


def load_substitute(sample: Sample, seed: int, options: Options) -> Sample:
    """The sample that comes next in its dataset's order."""
    dataset = sample.dataset
    order = (sample.order + 1) % dataset.facts.usable
    orders = np.array([order], np.uint64)
    usable = int(order_rows(dataset.name, dataset.facts.usable, seed, orders)[0])
    drawn = sample.substituted_for or sample.turn.id
    return load_sample(dataset, dataset.usable[usable], order, options, drawn)


def _load_turn(dataset: Dataset, row: int, options: Options) -> Turn | None:
    """The turn of a row, or None if an image of it is not there or not readable."""
    record = dataset.instructions.get_record(row)
    image_ids = _pick_frames(record.column(_IMAGE_IDS)[0].as_py(), options.frames)
    size_bytes = _TURN_BYTES + dataset.instructions.get_size(row)
    images = []
    source = dataset.images
    if source is not None:
        for key in image_ids:
            place = source.find_place(key)
            if place is None or not place.is_readable:
                return None
            if options.images:
                images.append(Wanted(source, place))
                size_bytes += place.length if options.pixel_bytes is None else options.pixel_bytes
    return Turn(record, image_ids, images, size_bytes)


def _pick_frames(image_ids: list[str], frames: int | None) -> list[str]:
    """That many of the ids, spread evenly, some of them again where there are fewer (as Otter's
    `resample_frames` does); all of them without a number."""
    if frames is None or not image_ids:
        return image_ids
    return [image_ids[at] for at in np.linspace(0, len(image_ids) - 1, frames, dtype=int)]
