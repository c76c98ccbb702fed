"""What was written, read again as the service reads it and compared with the sources."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import msgspec
import pyarrow as pa

from app.catalog.image_file import FileFacts, index_file
from app.catalog.image_rows import ROWS
from app.catalog.limits import BuildLimits
from app.catalog.table import stream_rows
from app.catalog.tools import BuildTools
from app.convert.plan import Partition
from app.convert.scratch import scratch_folder
from app.convert.sources import Kind, Source
from app.convert.values import Row, SourceValues
from app.convert.work import PlanFolder
from app.convert.write import Units, read_rows
from app.errors import ConvertError
from app.images.stored import decode
from app.tasks.job import Advance


@dataclass(frozen=True, slots=True)
class VerifyPartition:
    """The job of comparing every picture of a partition with its source's, byte for byte."""

    folder: PlanFolder
    units: Units
    limits: BuildLimits

    @contextmanager
    def open(self) -> Iterator[Callable[[Partition, Advance], None]]:
        with (
            scratch_folder(self.folder.scratch) as scratch,
            BuildTools(self.limits, scratch) as tools,
        ):
            values = SourceValues(self.units, tools.reference)
            yield partial(_verify, self, tools, values)


def _verify(
    job: VerifyPartition,
    tools: BuildTools,
    values: SourceValues,
    partition: Partition,
    advance: Advance,
) -> None:
    part = job.folder.part(partition.number)
    try:
        _check(job, tools, values, partition, part, advance)
    except ConvertError as error:
        part.unlink(missing_ok=True)
        raise ConvertError(f"{error}; it is removed: the same command writes it again") from error


def _check(
    job: VerifyPartition,
    tools: BuildTools,
    values: SourceValues,
    partition: Partition,
    part: Path,
    advance: Advance,
) -> None:
    rejected = _list_rejected(job, partition)
    with scratch_folder(job.folder.scratch) as unit:
        index_file(str(part), None, None, tools, unit, lambda _: None)
        facts = msgspec.json.decode((unit / "unit.json").read_bytes(), type=FileFacts)
        if facts.reader != "in_place":
            raise ConvertError(f"{part} is not read in place: {facts.reason}")
        written = SourceValues([(Source(str(part), Kind.PARQUET, 0), unit)], tools.reference)
        found = _list_written(unit)
        for planned in read_rows(job.folder, partition):
            rows = [row for row in planned if (row.source, row.row) not in rejected]
            same = [next(found, None) for _ in rows]
            _compare(part, rows, values, [row for row in same if row], written)
            advance(sum(row.length for row in planned))
        if next(found, None):
            raise ConvertError(f"{part} has more images than its sources")


def _list_rejected(job: VerifyPartition, partition: Partition) -> set[tuple[int, int]]:
    """Source and row of those whose bytes are no picture."""
    numbers = {source.path: number for number, (source, _) in enumerate(job.units)}
    lines = job.folder.rejected_of(partition.number).read_bytes().splitlines()
    rows = map(msgspec.json.decode, lines)
    return {(numbers[row["source"]], row["row"]) for row in rows}


def _list_written(unit: Path) -> Iterator[Row]:
    """The rows of the file, as rows of a plan."""
    number = 0
    for batch in stream_rows(unit / "rows.arrow", ROWS.names):
        keys = batch.column("key").cast(pa.binary()).to_pylist()
        places = [batch.column(name).to_pylist() for name in ROWS.names[1:]]
        for key, offset, hash, page, length, form in zip(keys, *places, strict=True):
            yield Row(0, number, 0, key, None, offset, length, 0, hash, page, form)
            number += 1


def _compare(
    part: Path, rows: list[Row], values: SourceValues, same: list[Row], written: SourceValues
) -> None:
    if [row.key for row in rows] != [row.key for row in same]:
        raise ConvertError(f"{part} has other keys than its sources")
    pictures = dict[int, bytes]()
    for at, stored in values.read(rows):
        pictures[at] = decode(stored, rows[at].form)
    for at, stored in written.read(same):
        if decode(stored, same[at].form) != pictures.pop(at):
            raise ConvertError(f"{part} has another picture of {rows[at].key.decode()!r}")
