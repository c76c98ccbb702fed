"""Rows cut into row groups, and these divided into files."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from app.convert.sizes import MAX_GROUP_ROWS, Sizes, group_overhead


@dataclass(frozen=True, slots=True)
class Group:
    """A row group: the most it may take in a file, and the bytes of its values as stored."""

    bound_bytes: int
    stored_bytes: int


class GroupCutter:
    """Writes rows to an Arrow file, a record batch for each row group of at most `limit` bytes."""

    def __init__(self, path: Path, schema: pa.Schema, limit: int) -> None:
        self.groups: list[Group] = []
        self._limit = limit
        self._file = pa.ipc.new_file(str(path), schema)
        self._held: list[pa.RecordBatch] = []
        self._held_rows = 0
        self._held_bytes = 0
        self._longest_key = 0

    def add(self, batch: pa.RecordBatch, bounds: Sizes, keys: Sizes) -> None:
        """Take more rows, of which each takes at most so many bytes, and its key so many."""
        ends = np.cumsum(bounds)
        first = 0
        while first < len(batch):
            done = int(ends[first - 1]) if first else 0
            room = self._limit - self._held_bytes
            count = int(np.searchsorted(ends, done + room, "right")) - first
            count = min(count, MAX_GROUP_ROWS - self._held_rows)
            # A row that is over the limit has a group of its own.
            count = max(count, 0 if self._held_rows else 1)
            if count:
                self._held.append(batch.slice(first, count))
                self._longest_key = max(self._longest_key, int(keys[first : first + count].max()))
                self._held_rows += count
                first += count
                self._held_bytes += int(ends[first - 1]) - done
            if first < len(batch):
                self._end_group()

    def __enter__(self) -> "GroupCutter":
        return self

    def __exit__(self, *_: object) -> None:
        self._end_group()
        self._file.close()

    def _end_group(self) -> None:
        if self._held:
            batch = pa.concat_batches(self._held)
            self._file.write_batch(batch)
            stored_bytes = int(batch.column("length").to_numpy().sum())
            bound_bytes = self._held_bytes + group_overhead(self._longest_key)
            self.groups.append(Group(bound_bytes, stored_bytes))
        self._held, self._held_rows, self._held_bytes, self._longest_key = [], 0, 0, 0


def divide(groups: Sequence[Group], limit: int) -> list[list[Group]]:
    """The groups, in their order, in as few files of at most `limit` bytes as will do.

    They are filled as evenly as so few can be: files are written side by side.
    """
    fewest = len(_fill(groups, limit))
    low, high = max((group.bound_bytes for group in groups), default=0), limit
    while low < high:
        middle = (low + high) // 2
        if len(_fill(groups, middle)) > fewest:
            low = middle + 1
        else:
            high = middle
    return _fill(groups, high)


def _fill(groups: Sequence[Group], limit: int) -> list[list[Group]]:
    files: list[list[Group]] = []
    room = 0
    for group in groups:
        if group.bound_bytes > room or not files:
            files.append([])
            room = limit
        files[-1].append(group)
        room -= group.bound_bytes
    return files
