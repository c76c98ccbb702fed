"""One batch: an Arrow stream as it came, read as samples when they are asked for."""

from collections.abc import Iterator
from functools import cached_property
from itertools import pairwise
from typing import Any, overload

import pyarrow as pa

from mimicit_client.columns import Body, Pixels, is_pixels, view_images, view_pixels
from mimicit_client.errors import AnswerError
from mimicit_client.sample import Sample, Turn

# All but `images`, which images="none" leaves out.
_TEXTS = ("id", "dataset", "instruction", "answer", "extra", "substituted_for")
_LISTS = ("image_ids", "rel_ins_ids")
_COLUMNS = (*_TEXTS, *_LISTS, "context")


# No collections.abc.Sequence, though it is one in all but name: DataLoader's default conversion
# takes a Sequence apart, into samples without a batch.
class Batch:
    """The samples of a step, of one group; `step` and `epoch` say where in the order they are.

    `table` is the Arrow table, `body` the bytes that it and the images of all samples are views of.
    Its pickle is those bytes.
    """

    def __init__(
        self, body: pa.Buffer, *, group: str, epoch: int, step: int, revision: str
    ) -> None:
        """Raises AnswerError if the bytes are no Arrow stream of samples."""
        self.body = body
        self.group = group
        self.epoch = epoch
        self.step = step
        self.revision = revision
        try:
            self.table: pa.Table = pa.ipc.open_stream(body).read_all()
        except pa.ArrowInvalid as error:
            raise AnswerError(f"no Arrow stream: {error}") from error
        missing = [name for name in _COLUMNS if name not in self.table.column_names]
        if missing:
            raise AnswerError(f"a batch without {', '.join(missing)}")

    def __len__(self) -> int:
        rows: int = self.table.num_rows
        return rows

    @overload
    def __getitem__(self, row: int) -> Sample: ...
    @overload
    def __getitem__(self, row: slice) -> tuple[Sample, ...]: ...
    def __getitem__(self, row: int | slice) -> Sample | tuple[Sample, ...]:
        return self._samples[row]

    def __iter__(self) -> Iterator[Sample]:
        return iter(self._samples)

    def __repr__(self) -> str:
        return f"<Batch of {len(self)}: {self.group}, epoch {self.epoch}, step {self.step}>"

    def __reduce__(self) -> tuple[Any, ...]:
        where = (self.group, self.epoch, self.step, self.revision)
        return _make_again, (self.body.to_pybytes(), *where)

    @property
    def substituted(self) -> int:
        """How many samples stand in for one that could not be read."""
        column = self.table["substituted_for"]
        return len(column) - int(column.null_count)

    @property
    def has_pixels(self) -> bool:
        """Whether its images are pixels, and not files."""
        names = self.table.column_names
        return "images" in names and is_pixels(self.table["images"].type)

    @property
    def pixels(self) -> list[Pixels]:
        """The images of all samples, for each run of rows; raises AnswerError if they are files."""
        body = Body.of(self.body)
        return [view_pixels(chunk, body) for chunk in self.table["images"].chunks]

    @cached_property
    def _samples(self) -> tuple[Sample, ...]:
        table = self.table
        texts = {name: table[name].to_pylist() for name in _TEXTS}
        lists = {name: [tuple(ids) for ids in table[name].to_pylist()] for name in _LISTS}
        body = Body.of(self.body)
        images: list[tuple[memoryview, ...]] = [()] * len(self)
        if "images" in table.column_names:
            images = [v for chunk in table["images"].chunks for v in view_images(chunk, body)]
        context = [turns for chunk in table["context"].chunks for turns in _turns(chunk, body)]
        return tuple(
            Sample(
                id=texts["id"][row],
                instruction=texts["instruction"][row],
                answer=texts["answer"][row],
                image_ids=lists["image_ids"][row],
                images=images[row],
                dataset=texts["dataset"][row],
                rel_ins_ids=lists["rel_ins_ids"][row],
                context=context[row],
                extra_json=texts["extra"][row],
                substituted_for=texts["substituted_for"][row],
            )
            for row in range(len(self))
        )


def _turns(array: pa.Array, body: Body) -> list[tuple[Turn, ...]]:
    """The context of each row of a list<struct> column."""
    starts = array.offsets.to_pylist()
    turns = array.values[starts[0] : starts[-1]]
    columns = {
        field.name: column for field, column in zip(turns.type, turns.flatten(), strict=True)
    }
    images: list[tuple[memoryview, ...]] = [()] * len(turns)
    if "images" in columns:
        images = view_images(columns["images"], body)
    made = [
        Turn(id, instruction, answer, tuple(image_ids), shown)
        for id, instruction, answer, image_ids, shown in zip(
            columns["id"].to_pylist(),
            columns["instruction"].to_pylist(),
            columns["answer"].to_pylist(),
            columns["image_ids"].to_pylist(),
            images,
            strict=True,
        )
    ]
    return [tuple(made[start - starts[0] : end - starts[0]]) for start, end in pairwise(starts)]


def _make_again(body: bytes, group: str, epoch: int, step: int, revision: str) -> Batch:
    return Batch(pa.py_buffer(body), group=group, epoch=epoch, step=step, revision=revision)
