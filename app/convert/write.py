"""The second pass: each partition is written, under a temporary name first."""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import msgspec
import pyarrow as pa

from app.catalog.duck import Database, ParquetRows
from app.catalog.limits import BuildLimits
from app.catalog.units import sync
from app.convert.fill import Arena
from app.convert.layout import open_writer
from app.convert.plan import Partition
from app.convert.rejects import RejectWriter
from app.convert.scratch import scratch_folder
from app.convert.sources import Source
from app.convert.values import Row, SourceValues
from app.convert.work import PlanFolder
from app.tasks.job import Advance

Units = Sequence[tuple[Source, Path]]  # each source, and the folder of its unit


class Part(msgspec.Struct, frozen=True):
    """A partition that is written, and how many of its rows were not."""

    images: int
    size_bytes: int
    rejected: dict[str, int]


@dataclass(frozen=True, slots=True)
class WritePartition:
    """The job of writing a partition. Done again, also at the same time, it does the same."""

    folder: PlanFolder
    units: Units
    limits: BuildLimits

    @contextmanager
    def open(self) -> Iterator[Callable[[Partition, Advance], None]]:
        with Database(self.limits.duckdb_memory_bytes, threads=1) as database:
            values = SourceValues(self.units, ParquetRows(database))
            yield partial(_write, self, values, Arena())


def load_part(folder: PlanFolder, number: int) -> Part:
    """What is known of a partition that is written."""
    return msgspec.json.decode(folder.facts_of(number).read_bytes(), type=Part)


def read_rows(folder: PlanFolder, partition: Partition) -> Iterator[list[Row]]:
    """The rows of a partition, a row group at a time."""
    with pa.OSFile(str(folder.rows)) as source, pa.ipc.open_file(source) as file:
        for number in range(partition.first_group, partition.first_group + partition.groups):
            columns = [column.to_pylist() for column in file.get_batch(number).columns]
            yield list(map(Row, *columns))


def _write(
    job: WritePartition, values: SourceValues, arena: Arena, partition: Partition, advance: Advance
) -> None:
    folder, images = job.folder, 0
    paths = [source.path for source, _ in job.units]
    with scratch_folder(folder.scratch) as scratch:
        part, rejected, facts = scratch / "part", scratch / "rejected", scratch / "facts"
        with RejectWriter(rejected) as rejects, open_writer(part) as writer:

            def reject(row: Row, reason: str) -> None:
                rejects.add(reason, paths[row.source], row.key.decode(), row=row.row)

            for rows in read_rows(folder, partition):
                table = arena.fill(rows, values, reject, advance)
                images += len(table)
                if len(table):
                    writer.write_table(table)
                del table  # a larger arena may have to take the place of the one that it lies in
        found = Part(images, part.stat().st_size, dict(rejects.counts))
        facts.write_bytes(msgspec.json.encode(found))
        for file, name in (
            (rejected, folder.rejected_of(partition.number)),
            (facts, folder.facts_of(partition.number)),
            (part, folder.part(partition.number)),  # last: it says that the others are there
        ):
            sync(file)
            os.replace(file, name)
            sync(name.parent)
