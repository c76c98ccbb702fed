"""What is to be written: every row in its order, in row groups and partitions; and what is not.

plan.arrow      the rows to write: a record batch for each row group
plan.rejected   the others, as JSON lines
plan.json       Plan, written last
"""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from app.catalog.duck import Database
from app.catalog.image_merge import PROBLEM_OF_FORM
from app.catalog.keyed import MAX_KEY_BYTES
from app.catalog.units import replace_file, sync
from app.convert.again import Again, Flags, KeyRuns
from app.convert.groups import Group, GroupCutter, divide
from app.convert.options import ImageOptions
from app.convert.rejects import RejectWriter
from app.convert.rows import FOUND, stream_found
from app.convert.sizes import (
    FILE_OVERHEAD,
    bound_rows,
    bound_values,
    group_limit,
    group_overhead,
)
from app.convert.sources import Source

_BATCH_ROWS = 16_384
# Of rows with the same key the first in this order is kept.
_BY_KEY = "SELECT {what} FROM found ORDER BY key, source, preference"
_NUMBER = "source::UBIGINT << 40 | row"
_REASON_OF_FORM = {form: kind for form, (kind, _) in PROBLEM_OF_FORM.items()}
# A record batch, and an Arrow column of text, holds less than 2 GiB.
_MAX_ROW_BYTES = (1 << 31) - 1


Ordered = tuple[pa.RecordBatch, Flags]  # rows, and which of them are not the first of their key


class Partition(msgspec.Struct, frozen=True):
    """A file to write: so many row groups, from the first on."""

    number: int
    first_group: int
    groups: int
    stored_bytes: int  # of its values, in their sources


class Plan(msgspec.Struct, frozen=True):
    """The partitions, and how many rows were rejected before any value is read."""

    name: str  # a fingerprint of the sources and the options
    partitions: list[Partition]
    rejected: dict[str, int]


def load_plan(folder: Path) -> Plan:
    """The plan in the folder; raises FileNotFoundError."""
    return msgspec.json.decode((folder / "plan.json").read_bytes(), type=Plan)


def make_plan(
    name: str,
    units: Sequence[tuple[Source, Path]],
    options: ImageOptions,
    database: Database,
    folder: Path,
) -> Plan:
    """Write the plan for the sources, whose units are given, into the folder."""
    limit = options.max_partition_bytes
    found = partial(stream_found, list(units), options.limits.max_value_bytes)
    rows = _by_key(found(), database) if options.is_sorted else _as_given(found, database)
    paths = [source.path for source, _ in units]
    with (
        RejectWriter(folder / "plan.rejected") as rejects,
        GroupCutter(folder / "plan.arrow", FOUND, group_limit(limit)) as cutter,
    ):
        for batch, is_again in rows:
            _take(batch, is_again, limit, paths, cutter, rejects)
    for file in ("plan.rejected", "plan.arrow"):  # before what says that they are whole
        sync(folder / file)
    partitions = _number(divide(cutter.groups, limit - FILE_OVERHEAD))
    plan = Plan(name, list(partitions), dict(rejects.counts))
    replace_file(folder / "plan.json", msgspec.json.encode(plan))
    return plan


def _by_key(found: pa.RecordBatchReader, database: Database) -> Iterator[Ordered]:
    runs = KeyRuns()
    sql = _BY_KEY.format(what="*")
    for batch in database.query_arrow(sql, {"found": found}, _BATCH_ROWS):
        yield batch, runs.find_again(batch.column("key"))


def _as_given(stream: Callable[[], pa.RecordBatchReader], database: Database) -> Iterator[Ordered]:
    sql = _BY_KEY.format(what=f"key, {_NUMBER}")
    again = Again(database.query_arrow(sql, {"found": stream()}, _BATCH_ROWS))
    for batch in stream():
        source = batch.column("source").to_numpy().astype(np.uint64)
        yield batch, again.has(source << np.uint64(40) | batch.column("row").to_numpy())


def _number(shares: Sequence[Sequence[Group]]) -> Iterator[Partition]:
    first = 0
    for number, groups in enumerate(shares):
        yield Partition(number, first, len(groups), sum(group.stored_bytes for group in groups))
        first += len(groups)


def _take(
    batch: pa.RecordBatch,
    is_again: Flags,
    limit: int,
    paths: list[str],
    cutter: GroupCutter,
    rejects: RejectWriter,
) -> None:
    """Give the rows that can be converted to the cutter, and note the others."""
    form, length = batch.column("form").to_numpy(), batch.column("length").to_numpy()
    keys = pc.fill_null(pc.binary_length(batch.column("key")), 0).to_numpy().astype(np.int64)
    bounds = bound_rows(bound_values(form, length), keys)
    largest = min(limit - FILE_OVERHEAD - group_overhead(MAX_KEY_BYTES), _MAX_ROW_BYTES)
    reasons = np.select(
        [
            keys == 0,
            keys > MAX_KEY_BYTES,
            is_again,
            *(form == int(one) for one in _REASON_OF_FORM),
            bounds > largest,
        ],
        ["unnamed_image", "long_key", "duplicate_image", *_REASON_OF_FORM.values(), "large_image"],
        "",
    )
    is_kept: NDArray[np.bool_] = reasons == ""
    if not is_kept.all():
        _reject(batch.filter(pa.array(~is_kept)), reasons[~is_kept].tolist(), paths, rejects)
        batch = batch.filter(pa.array(is_kept))
        bounds, keys = bounds[is_kept], keys[is_kept]
    cutter.add(batch, bounds, keys)


def _reject(
    batch: pa.RecordBatch, reasons: list[str], paths: list[str], rejects: RejectWriter
) -> None:
    columns = [batch.column(name).to_pylist() for name in ("source", "row", "key")]
    for reason, source, row, key in zip(reasons, *columns, strict=True):
        rejects.add(reason, paths[source], None if key is None else key.decode(), row=row)
