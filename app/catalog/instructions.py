"""A dataset's instructions: streamed from JSON into a table, opened by workers.

table.arrow, starts.bin, sizes.bin, ids.lmdb  see app.catalog.table
problems.arrow                     records of the wrong shape, and ids that are there twice
unit.json                          InstructionFacts
"""

import json
import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pyarrow as pa
from xxhash import xxh3_128

from app.catalog.duck import Database
from app.catalog.keyed import MAX_KEY_BYTES
from app.catalog.problems import ProblemWriter
from app.catalog.table import Table, TableWriter, index_table
from app.catalog.tools import BuildTools
from app.errors import DamagedFileError, UnknownInstructionError
from app.json_object import JsonStream, NotTextError
from app.storage import check_still, read_exactly, stamp_file

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
_KNOWN_FIELDS = frozenset({"instruction", "answer", "image_ids", "rel_ins_ids"})
# Members in front of "data" are metadata; a file with more of them is a bare {id: record}.
_MAX_METADATA = 8
_MAX_DEPTH = 100  # of other fields; what writes the answer's JSON ends at some 250


class InstructionFacts(msgspec.Struct, frozen=True):
    """What is known of a dataset's instructions; `digest` is of all they hold, in order."""

    digest: str
    instructions: int
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
    path: str, tools: BuildTools, folder: Path, advance: Callable[[int], None]
) -> None:
    """Write the unit of an instructions file into `folder`; `advance` hears of the bytes read.

    Raises DamagedFileError if the file is not JSON of this form.
    """
    stamp = stamp_file(path)
    digest = xxh3_128()
    with (
        open(path, "rb", buffering=0) as file,
        ProblemWriter(folder / "problems.arrow") as problems,
    ):
        read = read_exactly(file.fileno(), path, advance)
        stream = JsonStream(path, read, stamp.size_bytes, tools.limits.max_value_bytes)
        with TableWriter(folder, TABLE) as table:
            for id, record in _records(stream, path):
                try:
                    row, text = _row(id, record)
                except (ValueError, RecursionError) as error:
                    problems.add("invalid_record", id.encode(errors="replace").decode(), str(error))
                else:
                    table.add(row, len(text))
                    digest.update(text)
        superseded = 0

        def note(id: str) -> None:
            nonlocal superseded
            superseded += 1
            problems.add("duplicate_instruction", id, "the file has this id more than once")

        index_table(folder, tools.joins, note)
        rows = table.rows
        if superseded:
            rows, digest = _drop_superseded(folder, tools.joins)
    check_still(stamp)
    facts = InstructionFacts(digest.hexdigest(), rows, problems.counts)
    (folder / "unit.json").write_bytes(msgspec.json.encode(facts))


def _records(stream: JsonStream, path: str) -> Iterator[tuple[str, Any]]:
    """The (id, record) pairs of {"meta": …, "data": {id: record}}, or of a bare {id: record}."""
    if stream.peek() != "{":
        raise DamagedFileError(
            f'{path}: an object was expected, {{"meta": …, "data": {{id: record}}}}'
        )
    held: list[tuple[str, Any]] = []
    is_wrapped = False
    for name in stream.members():
        if (
            name == "data"
            and not is_wrapped
            and len(held) <= _MAX_METADATA
            and stream.peek() == "{"
        ):
            is_wrapped = True
            held = []
            for id in stream.members():
                yield id, _value(stream)
        elif name == "data" and is_wrapped:
            raise DamagedFileError(f'{path}: it has more than one "data"')
        elif is_wrapped:
            _value(stream)
        elif name == "data" and stream.peek() == "[":
            raise DamagedFileError(f'{path}: "data" is a list; it has to be {{id: record}}')
        elif len(held) <= _MAX_METADATA:
            held.append((name, _value(stream)))
        else:
            yield from held[:1]
            held = [*held[1:], (name, _value(stream))]
    stream.end()
    yield from held


def _value(stream: JsonStream) -> Any:
    try:
        return stream.value()
    except NotTextError as error:
        return error


def _row(id: str, record: Any) -> tuple[tuple[Any, ...], bytes]:
    """The row of a record, and all it holds as JSON; raises ValueError saying what is wrong."""
    if isinstance(record, NotTextError):
        raise ValueError(f"the record is not UTF-8: {record}")
    if not isinstance(record, dict):
        raise ValueError("the record is not an object")
    if not id or len(id.encode(errors="replace")) > MAX_KEY_BYTES:
        raise ValueError(f"the id is empty or longer than {MAX_KEY_BYTES} bytes")
    for name in ("instruction", "answer"):
        if not isinstance(record.get(name), str):
            raise ValueError(f"{name} is missing or not text")
    lists = []
    for name in ("image_ids", "rel_ins_ids"):
        ids = record.get(name)
        if ids is None:
            ids = []
        if not isinstance(ids, list) or not all(isinstance(one, str) for one in ids):
            raise ValueError(f"{name} is not a list of text")
        lists.append(ids)
    others = {name: value for name, value in record.items() if name not in _KNOWN_FIELDS}
    extra = _extra(others) if others else None
    row = (id, record["instruction"], record["answer"], *lists, extra)
    return row, msgspec.json.encode(row)


def _extra(others: dict[str, Any]) -> str:
    """Other fields as JSON text; NaN and infinities, which JSON does not have, become null."""
    if _is_deep(others, _MAX_DEPTH):
        raise ValueError(f"its other fields are nested over {_MAX_DEPTH} deep")
    try:
        return json.dumps(others, ensure_ascii=False, allow_nan=False)
    except ValueError:
        return json.dumps(_finite(others), ensure_ascii=False)


def _is_deep(value: Any, left: int) -> bool:
    if isinstance(value, dict):
        value = value.values()
    elif not isinstance(value, list):
        return False
    return left == 0 or any(_is_deep(one, left - 1) for one in value)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _finite(one) for name, one in value.items()}
    if isinstance(value, list):
        return [_finite(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


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


_SEARCH = """
SELECT row FROM instructions
WHERE row >= $1
  AND ($2 IS NULL OR contains(lower(instruction), lower($2)) OR contains(lower(answer), lower($2)))
  AND ($3 IS NULL OR list_contains(image_ids, $3))
ORDER BY row LIMIT $4
"""


class InstructionTable:
    """A dataset's instructions, opened."""

    def __init__(self, folder: Path, database: Database) -> None:
        self._database = database
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

    def search(
        self, first: int, limit: int, max_bytes: int, text: str | None, image_id: str | None
    ) -> InstructionPage:
        """As `list_page`, but only those that have `text` in instruction or answer (letter case
        does not count) and `image_id` among their images."""
        tables = {"instructions": self._table.read_all()}
        found = self._database.query_rows(_SEARCH, tables, [first, text, image_id, limit + 1])
        items: list[Instruction] = []
        taken_bytes = 0
        for (row,) in found[:limit]:
            items.append(self.get_row(row))
            taken_bytes += len(items[-1].instruction) + len(items[-1].answer)
            if taken_bytes >= max_bytes:
                break
        return InstructionPage(items, found[len(items)][0] if len(found) > len(items) else None)
