"""A dataset's instructions: streamed from JSON into a table, opened by workers.

table.arrow, starts.bin, sizes.bin, ids.lmdb  see app.catalog.table
problems.arrow                     records of the wrong shape, and ids that are there twice
unit.json                          InstructionFacts
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec
import pyarrow as pa
from xxhash import xxh3_128

from app.catalog.duck import Database
from app.catalog.problems import ProblemWriter
from app.catalog.records import make_row, stream_records
from app.catalog.search import Search, find_rows, has_odd_letters
from app.catalog.table import Table, TableWriter, index_table
from app.catalog.tools import BuildTools
from app.errors import UnknownInstructionError
from app.json_object import JsonStream
from app.key_rules import KeyRule, KeyRules
from app.storage.sources import open_source

TABLE = pa.schema(
    [
        ("row", pa.uint64()),
        ("id", pa.string()),
        ("instruction", pa.string()),
        ("answer", pa.string()),
        ("image_ids", pa.list_(pa.string())),
        ("rel_ins_ids", pa.list_(pa.string())),
        ("extra", pa.string()),
    ]
)


class InstructionFacts(msgspec.Struct, frozen=True):
    """What is known of a dataset's instructions; `digest` is of all they hold, in order."""

    digest: str
    path: str
    instructions: int
    has_odd_letters: bool  # as `search` has to know
    problems: dict[str, int]


class Instruction(msgspec.Struct, frozen=True):
    """A record of an instructions file; `extra` is the JSON text of its other fields."""

    row: int
    id: str
    instruction: str
    answer: str
    image_ids: list[str]
    rel_ins_ids: list[str]
    extra: str | None


class InstructionPage(NamedTuple):
    """Some instructions, and the row of the next; None behind the last."""

    items: list[Instruction]
    next: int | None


def build_instructions(
    path: str,
    rules: tuple[KeyRule, ...],
    tools: BuildTools,
    folder: Path,
    advance: Callable[[int], None],
) -> None:
    """Write the unit of an instructions file into `folder`, its image ids as the rules make them.

    `advance` hears of the bytes read.
    Raises DamagedFileError if the file is not JSON of this form.
    """
    digest = xxh3_128()
    key_rules = KeyRules(rules)
    with (
        open_source(path, tools.objects, advance) as source,
        ProblemWriter(folder / "problems.arrow") as problems,
    ):
        size_bytes = source.stamp.size_bytes
        stream = JsonStream(path, source.read, size_bytes, tools.limits.max_value_bytes)
        is_odd = False
        with TableWriter(folder, TABLE) as table:
            for id, record in stream_records(stream, path):
                try:
                    row, text = make_row(id, record, key_rules)
                except (ValueError, RecursionError) as error:
                    problems.add("invalid_record", id.encode(errors="replace").decode(), str(error))
                else:
                    table.add(row, len(text))
                    digest.update(text)
                    is_odd = is_odd or has_odd_letters(text)
        superseded = 0

        def note(id: str) -> None:
            nonlocal superseded
            superseded += 1
            problems.add("duplicate_instruction", id, "the file has this id more than once")

        index_table(folder, tools.joins, note)
        rows = table.rows
        if superseded:
            rows, digest = _drop_superseded(folder, tools.joins)
        source.check_still()
    facts = InstructionFacts(digest.hexdigest(), path, rows, is_odd, problems.counts)
    (folder / "unit.json").write_bytes(msgspec.json.encode(facts))


def _drop_superseded(folder: Path, joins: Database) -> tuple[int, xxh3_128]:
    """Write the table again without the rows whose id comes again further on; rows and digest."""
    digest = xxh3_128()
    old = Table(folder)
    new = folder / "kept"
    new.mkdir()
    with TableWriter(new, TABLE) as kept:
        for batch in old.read_all().to_batches():
            for row in batch.to_pylist():
                if old.find_row(row["id"]) == row.pop("row"):
                    text = msgspec.json.encode(tuple(row.values()))
                    kept.add(tuple(row.values()), len(text))
                    digest.update(text)
    old.close()
    (folder / "ids.lmdb").unlink()
    for file in new.iterdir():
        file.replace(folder / file.name)
    new.rmdir()
    index_table(folder, joins, lambda _: None)
    return kept.rows, digest


class InstructionTable:
    """A dataset's instructions, opened."""

    def __init__(self, folder: Path, database: Database) -> None:
        self._database = database
        self.folder = folder
        self.facts = msgspec.json.decode((folder / "unit.json").read_bytes(), type=InstructionFacts)
        self._table = Table(folder)

    def close(self) -> None:
        """Unmap the index."""
        self._table.close()

    def find(self, id: str) -> Instruction | None:
        """The instruction of that id, or None."""
        row = self._table.find_row(id)
        return None if row is None else self.get_row(row)

    def get(self, id: str) -> Instruction:
        """The instruction of that id; raises UnknownInstructionError."""
        found = self.find(id)
        if found is None:
            raise UnknownInstructionError(f"no instruction has the id {id[:200]!r}")
        return found

    def find_row(self, id: str) -> int | None:
        """The row of the instruction of that id, or None."""
        return self._table.find_row(id)

    def list_ids(self, after: str, limit: int) -> list[str]:
        """At most `limit` ids that come after `after` in their order."""
        return self._table.list_ids(after, limit)

    def take(self, rows: Sequence[int], columns: list[str]) -> pa.RecordBatch:
        """Those columns of `TABLE` for those rows, of which there is at least one, in order."""
        return self._table.take(rows, columns)

    def get_size(self, row: int) -> int:
        """How many bytes the instruction takes as JSON."""
        return self._table.get_size(row)

    def get_row(self, row: int) -> Instruction:
        """The instruction in that row."""
        return Instruction(**self._table.get_row(row))

    def list_page(self, first: int, limit: int, max_bytes: int) -> InstructionPage:
        """At most `limit` instructions from row `first` on, in file order, of some `max_bytes`."""
        rows = self._table.list_rows(first, limit, max_bytes)
        behind = first + len(rows)
        is_more = bool(rows) and behind < self.facts.instructions
        return InstructionPage([Instruction(**row) for row in rows], behind if is_more else None)

    def search(self, first: int, limit: int, max_bytes: int, search: Search) -> InstructionPage:
        """As `list_page`, but only those that `search` asks for."""
        is_odd = self.facts.has_odd_letters
        rows = find_rows(self._table, self._database, first, limit + 1, search, is_odd=is_odd)
        items: list[Instruction] = []
        taken_bytes = 0
        for row in rows[:limit]:
            items.append(self.get_row(row))
            taken_bytes += len(items[-1].instruction) + len(items[-1].answer)
            if taken_bytes >= max_bytes:
                break
        return InstructionPage(items, rows[len(items)] if len(rows) > len(items) else None)
