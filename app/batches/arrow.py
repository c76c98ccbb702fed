"""Samples as an Arrow stream: columns, a record batch for each part of the answer."""

from collections.abc import Iterable

import numpy as np
import pyarrow as pa

from app.batches.arena import Arena, Arenas, Extent
from app.batches.encoder import Piece
from app.batches.options import Options
from app.batches.read import Images
from app.batches.record import list_context, list_own, take_records
from app.batches.sample import Sample, Turn
from app.catalog.dataset import Dataset
from app.errors import TooLargeError
from app.images.pixels import CHANNELS

CONTENT_TYPE = "application/vnd.apache.arrow.stream"

_TEXTS = pa.list_(pa.string())
_MAX_OFFSET = 2**31 - 1


class ArrowEncoder:
    """Writes the columns `dataset, id, instruction, answer, image_ids, images, rel_ins_ids,
    context, extra, substituted_for`; `images` is not there without images."""

    def __init__(self, datasets: Iterable[str], options: Options, arenas: Arenas) -> None:
        self._datasets = list(dict.fromkeys(datasets))
        self._numbers = {name: number for number, name in enumerate(self._datasets)}
        self._image_type = _image_type(options) if options.images else None
        self._turn_type = pa.struct(
            [
                ("id", pa.string()),
                ("instruction", pa.string()),
                ("answer", pa.string()),
                ("image_ids", _TEXTS),
                *self._image_fields(),
            ]
        )
        self.schema = pa.schema(
            [
                ("dataset", pa.dictionary(pa.int32(), pa.string())),
                *list(self._turn_type),
                ("rel_ins_ids", _TEXTS),
                ("context", pa.list_(self._turn_type)),
                ("extra", pa.string()),
                ("substituted_for", pa.string()),
            ]
        )
        self._arenas = arenas
        self._arena = Arena(np.empty(0, np.uint8))  # until there are samples
        self._sink = _Pieces()
        self._writer = pa.ipc.new_stream(pa.PythonFile(self._sink, "w"), self.schema)

    def begin(self, samples: list[Sample]) -> None:
        """Make room for the images; those made larger than they were may find none."""
        self._arena = self._arenas.open(sum(sample.size_bytes for sample in samples))

    def keep(self, image: bytes | memoryview) -> Extent | memoryview:
        """Where the image is in the arena."""
        return self._arena.put(image)

    def write(self, samples: list[Sample], images: Images) -> list[Piece]:
        """A record batch of the samples."""
        own, context = list_own(samples), list_context(samples)
        records = take_records(own)
        numbers = [self._numbers[sample.dataset.name] for sample in samples]
        columns = [
            pa.DictionaryArray.from_arrays(pa.array(numbers, pa.int32()), self._datasets),
            *self._turn_columns(own, records, images),
            records.column("rel_ins_ids"),
            self._context_column(samples, context, images),
            records.column("extra"),
            pa.array([sample.substituted_for for sample in samples], pa.string()),
        ]
        self._writer.write_batch(pa.record_batch(columns, schema=self.schema))
        return self._sink.take()

    def end(self) -> list[Piece]:
        """The end of the stream, and the schema if there were no samples."""
        self._writer.close()
        return self._sink.take()

    def _image_fields(self) -> list[tuple[str, pa.DataType]]:
        return [] if self._image_type is None else [("images", pa.list_(self._image_type))]

    def _turn_columns(
        self, turns: list[tuple[Dataset, Turn]], records: pa.RecordBatch, images: Images
    ) -> list[pa.Array]:
        columns = [
            records.column("id"),
            records.column("instruction"),
            records.column("answer"),
            pa.array([turn.image_ids for _, turn in turns], _TEXTS),
        ]
        if self._image_type is not None:
            found = [images[image] for _, turn in turns for image in turn.images]
            values = _image_array(*self._arena.join(found), self._image_type)
            columns.append(_lists(values, [len(turn.images) for _, turn in turns]))
        return columns

    def _context_column(
        self, samples: list[Sample], context: list[tuple[Dataset, Turn]], images: Images
    ) -> pa.Array:
        columns = self._turn_columns(context, take_records(context), images)
        values = pa.StructArray.from_arrays(columns, fields=list(self._turn_type))
        return _lists(values, [len(sample.context) for sample in samples])


def _image_type(options: Options) -> pa.DataType:
    if options.pixels and options.size:
        return pa.fixed_shape_tensor(pa.uint8(), (options.size, options.size, CHANNELS))
    return pa.binary()


def _image_array(values: pa.Buffer, lengths: list[int], of_type: pa.DataType) -> pa.Array:
    if isinstance(of_type, pa.FixedShapeTensorType):
        pixels = pa.Array.from_buffers(pa.uint8(), len(values), [None, values])
        storage = pa.FixedSizeListArray.from_arrays(pixels, type=of_type.storage_type)
        return pa.ExtensionArray.from_storage(of_type, storage)
    offsets = pa.py_buffer(_offsets(lengths))
    return pa.Array.from_buffers(of_type, len(lengths), [None, offsets, values])


def _lists(values: pa.Array, counts: list[int]) -> pa.Array:
    return pa.ListArray.from_arrays(pa.array(_offsets(counts)), values)


def _offsets(counts: list[int]) -> "np.ndarray[tuple[int], np.dtype[np.int32]]":
    offsets = np.zeros(len(counts) + 1, np.int64)
    np.cumsum(counts, out=offsets[1:])
    if offsets[-1] > _MAX_OFFSET:
        raise TooLargeError(
            "a part of the batch takes 2 GiB or more, and an Arrow column holds less; ask for "
            "fewer samples or smaller pictures"
        )
    return offsets.astype(np.int32)


class _Pieces:
    """A file that keeps what is written; pyarrow hands it the columns' buffers as they are."""

    closed = False

    def __init__(self) -> None:
        self._pieces: list[Piece] = []

    def take(self) -> list[Piece]:
        taken, self._pieces = self._pieces, []
        return taken

    def write(self, data: bytes | pa.Buffer) -> int:
        self._pieces.append(data if isinstance(data, bytes) else memoryview(data))
        return len(data)

    def flush(self) -> None:
        pass
