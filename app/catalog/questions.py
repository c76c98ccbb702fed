"""Questions about an open catalog that its units do not answer by themselves: what no instruction
uses, what is there in several files, what is empty. Each is one SQL statement over Arrow files,
which are streamed, so that what is held is within DuckDB's memory and the rest is spilled.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from app.catalog.dataset import Dataset
from app.catalog.duck import Database
from app.catalog.image_source import ImageSource
from app.catalog.instructions import InstructionTable
from app.catalog.table import stream_rows
from app.images.stored import Form

Tables = dict[str, Any]  # Arrow tables and streams, by the names that the SQL has for them
Values = tuple[NDArray[np.int64], NDArray[np.int64]]  # in order, and how often each is there

_BATCH_ROWS = 65_536


class Row(NamedTuple):
    """What a problem is of, an id or a key, and what it is."""

    name: str
    detail: str


@dataclass(frozen=True, slots=True)
class Question:
    """A statement that selects `name` and `detail`, and what opens the tables it asks, anew each
    time: a stream can be read once."""

    sql: str
    open_tables: Callable[[], Tables]
    parameters: tuple[object, ...] = ()


class Questions:
    """DuckDB, to ask the questions with; close it when done."""

    def __init__(self, memory_bytes: int, threads: int, spill_folder: Path | None = None) -> None:
        self._database = Database(memory_bytes, threads, spill_folder)

    def close(self) -> None:
        """Close the database."""
        self._database.close()

    def __enter__(self) -> "Questions":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def count(self, question: Question) -> int:
        """How many rows the answer has."""
        sql = f"SELECT count(*) FROM ({question.sql})"
        rows = self._database.query_rows(sql, question.open_tables(), question.parameters)
        return int(rows[0][0])

    def list_rows(self, question: Question, after: int, limit: int) -> list[Row]:
        """At most `limit` rows of the answer behind the first `after`, in its order."""
        sql = f"{question.sql} LIMIT {int(limit)} OFFSET {int(after)}"
        rows = self._database.query_rows(sql, question.open_tables(), question.parameters)
        return [Row(*row) for row in rows]

    def iterate(self, sql: str, tables: Tables) -> Iterator[tuple[Any, ...]]:
        """Every row of an answer, some thousand held at a time."""
        for batch in self.iterate_batches(sql, tables):
            yield from zip(*(column.to_pylist() for column in batch.columns), strict=True)

    def iterate_batches(self, sql: str, tables: Tables) -> Iterator[pa.RecordBatch]:
        """An answer, some thousand rows at a time."""
        return self._database.query_arrow(sql, tables, _BATCH_ROWS)

    def count_values(self, sql: str, tables: Tables) -> Values:
        """The whole numbers that `sql` selects as `value`, in order, each with its count."""
        counted = f"SELECT value::BIGINT, count(*) FROM ({sql}) GROUP BY 1 ORDER BY 1"
        batches = list(self.iterate_batches(counted, tables))
        none = [np.zeros(0, np.int64)]
        values, counts = (
            np.concatenate([*none, *(batch.column(n).to_numpy() for batch in batches)])
            for n in (0, 1)
        )
        return values, counts

    def count_images_per_sample(self, instructions: InstructionTable) -> Values:
        """How many images the instructions have."""
        tables = _instructions(instructions, "image_ids")
        return self.count_values("SELECT len(image_ids) AS value FROM instructions", tables)

    def count_answer_chars(self, instructions: InstructionTable) -> Values:
        """How many characters the answers have."""
        tables = _instructions(instructions, "answer")
        return self.count_values("SELECT length(answer) AS value FROM instructions", tables)

    def count_image_bytes(self, images: ImageSource) -> Values:
        """How many bytes the readable images have as they are stored."""
        return self.count_values(_READABLE_BYTES, _keys(images, "length", "form"))


_READABLE = f"form < {int(Form.NULL)}"
_READABLE_BYTES = f"SELECT length AS value FROM keys WHERE {_READABLE}"

_NOTED = "SELECT name, detail FROM problems WHERE kind = $1"
# What is empty is what has nothing but ASCII blanks.
_EMPTY_TEXT = """
SELECT id AS name, '' AS detail FROM instructions
WHERE trim({column}, E' \\t\\n\\r\\x0B\\x0C') = '' ORDER BY row
"""
_SELF_CONTEXTS = """
SELECT id AS name, id AS detail FROM (SELECT row, id, unnest(rel_ins_ids) AS related FROM contexts)
WHERE id = related ORDER BY row
"""
_UNUSED_IMAGES = """
SELECT key AS name, '' AS detail FROM keys
ANTI JOIN (SELECT unnest(image_ids) AS used FROM instructions) AS refs ON keys.key = refs.used
ORDER BY key
"""
# Grouped by number, and named afterwards: a name for each row would be most of the work.
_NAMED = """
first.source || ', ' || last.source || CASE sources WHEN 2 THEN ''
  ELSE ' and ' || (sources - 2) || ' more' END AS detail
"""
_SHARED_INSTRUCTIONS = f"""
SELECT id AS name, {_NAMED} FROM
  (SELECT id, count(*) AS sources, min(number) AS low, max(number) AS high FROM rows
   GROUP BY id HAVING count(*) > 1)
  JOIN names AS first ON first.number = low JOIN names AS last ON last.number = high ORDER BY id
"""
# Base64 of one strict form is the same text where the bytes are the same; of other forms it may
# not be, so those are left to who reads them.
_SHARED_IMAGES = f"""
SELECT key AS name, {_NAMED} FROM
  (SELECT key, count(*) AS sources, min(number) AS low, max(number) AS high,
     CASE WHEN min(hash) = max(hash) AND min(length) = max(length) THEN 'same'
          WHEN min(form) = max(form) AND max(form) <= {int(Form.BASE64)} THEN 'other'
          ELSE 'unknown' END AS bytes
   FROM rows WHERE {_READABLE} GROUP BY key HAVING count(*) > 1)
  JOIN names AS first ON first.number = low JOIN names AS last ON last.number = high
WHERE bytes = $1 ORDER BY key
"""


def ask_noted(folder: Path, kind: str) -> Question:
    """The problems of that kind that the unit in `folder` noted when it was built."""
    columns = ["kind", "name", "detail"]
    return Question(
        _NOTED, lambda: {"problems": stream_rows(folder / "problems.arrow", columns)}, (kind,)
    )


def ask_empty_answers(instructions: InstructionTable) -> Question:
    """The instructions whose answer is empty."""
    sql = _EMPTY_TEXT.format(column="answer")
    return Question(sql, lambda: _instructions(instructions, "row", "id", "answer"))


def ask_empty_instructions(instructions: InstructionTable) -> Question:
    """The instructions whose instruction is empty."""
    sql = _EMPTY_TEXT.format(column="instruction")
    return Question(sql, lambda: _instructions(instructions, "row", "id", "instruction"))


def ask_self_contexts(dataset: Dataset) -> Question:
    """The instructions that are in their own context."""
    path = dataset.contexts_path
    columns = ["row", "id", "rel_ins_ids"]
    return Question(_SELF_CONTEXTS, lambda: {"contexts": stream_rows(path, columns)})


def ask_unused_images(images: ImageSource, datasets: Sequence[Dataset]) -> Question:
    """The images that no instruction of the datasets, which are all that have them, uses."""

    def open_tables() -> Tables:
        files = list(dict.fromkeys(dataset.instructions.folder for dataset in datasets))
        refs = _numbered(files, "table.arrow", ["image_ids"])
        return _keys(images, "key") | {"instructions": refs}

    return Question(_UNUSED_IMAGES, open_tables)


def ask_shared_instructions(files: dict[Path, str]) -> Question:
    """The ids that several instructions files have; `files` are units' folders and their names."""
    return Question(_SHARED_INSTRUCTIONS, lambda: _named(files, "table.arrow", ["id"]))


def ask_shared_images(sources: dict[Path, str], sameness: str) -> Question:
    """The keys that several image sources have, whose bytes are the `same`, `other`, or `unknown`
    as long as nobody reads them; `sources` are units' folders and their names."""
    columns = ["key", "length", "form", "hash"]
    return Question(_SHARED_IMAGES, lambda: _named(sources, "keys.arrow", columns), (sameness,))


def _named(units: dict[Path, str], file: str, columns: list[str]) -> Tables:
    names = pa.table({"number": range(len(units)), "source": list(units.values())})
    return {
        "rows": _numbered(list(units), file, columns),
        "names": names.cast(pa.schema([("number", pa.int32()), ("source", pa.string())])),
    }


def _instructions(instructions: InstructionTable, *columns: str) -> Tables:
    return {"instructions": stream_rows(instructions.folder / "table.arrow", list(columns))}


def _keys(images: ImageSource, *columns: str) -> Tables:
    return {"keys": stream_rows(images.folder / "keys.arrow", list(columns))}


def _numbered(units: list[Path], file: str, columns: list[str]) -> pa.RecordBatchReader:
    """Those columns of a file of several units, and the `number` of the unit."""
    schema = stream_rows(units[0] / file, columns).schema.append(pa.field("number", pa.int32()))

    def batches() -> Iterator[pa.RecordBatch]:
        for number, folder in enumerate(units):
            for batch in stream_rows(folder / file, columns):
                numbers = pa.repeat(pa.scalar(number, pa.int32()), len(batch))
                yield pa.record_batch([*batch.columns, numbers], schema=schema)

    return pa.RecordBatchReader.from_batches(schema, batches())
