"""A dataset: what its instructions, images and train config are together.

usable.bin      rows of the instructions that can be drawn, in file order, as uint64
problems.arrow  missing and unreadable images, dangling context ids, unknown ids of a train config
table.arrow, starts.bin, sizes.bin, ids.lmdb  {id: context ids} of the train config, if there is one
unit.json       DatasetFacts
"""

from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from xxhash import xxh3_128

from app.catalog.image_source import ImageSource
from app.catalog.instructions import Instruction, InstructionFacts, InstructionTable
from app.catalog.keyed import MAX_KEY_BYTES
from app.catalog.problems import ProblemWriter
from app.catalog.search import Search
from app.catalog.table import Table, TableWriter, index_table, map_file, stream_rows
from app.catalog.tools import BuildTools
from app.errors import DamagedFileError
from app.group import Group
from app.images.stored import Form
from app.json_object import JsonStream
from app.storage.sources import open_source

_CONTEXT = pa.schema(
    [("row", pa.uint64()), ("id", pa.string()), ("rel_ins_ids", pa.list_(pa.string()))]
)
_ROWS = 65_536


class DatasetFacts(msgspec.Struct, frozen=True):
    """What is known of a dataset beyond its sources; `digest` is of its train config."""

    digest: str
    usable: int
    problems: dict[str, int]


# Which images of which instructions are missing, or there and not readable.
_BAD_IMAGES = f"""
SELECT refs.row, refs.id, refs.key, images.form FROM
  (SELECT row, id, unnest(image_ids) AS key FROM instructions) AS refs
  LEFT JOIN images ON images.key = refs.key
WHERE images.key IS NULL OR images.form >= {int(Form.NULL)}
ORDER BY refs.row
"""
_DANGLING = """
SELECT refs.row, refs.id, refs.related, NULL FROM
  (SELECT row, id, unnest(rel_ins_ids) AS related FROM contexts) AS refs
  ANTI JOIN instructions ON instructions.id = refs.related
ORDER BY refs.row
"""
_UNKNOWN_IDS = """
SELECT 0, contexts.id, '', NULL FROM contexts
  ANTI JOIN instructions ON instructions.id = contexts.id ORDER BY contexts.row
"""
_LISTED = "SELECT row FROM instructions SEMI JOIN contexts ON contexts.id = instructions.id"


def build_dataset(
    instructions: Path,
    images: Path | None,
    train_config: str | None,
    tools: BuildTools,
    folder: Path,
) -> None:
    """Write the unit of a dataset made of those units and that train config into `folder`."""
    digest = xxh3_128()
    with ProblemWriter(folder / "problems.arrow") as problems:
        if train_config is not None:
            _load_train_config(train_config, tools, folder, digest, problems)
        contexts = folder if train_config is not None else instructions

        def query(sql: str) -> Iterator[tuple[Any, ...]]:
            tables = _stream_tables(instructions, contexts, images)
            for batch in tools.joins.query_arrow(sql, tables, _ROWS):
                yield from zip(*(column.to_pylist() for column in batch.columns), strict=True)

        bad_rows = array("Q")
        if images is not None:
            for row, id, key, form in query(_BAD_IMAGES):
                problems.add("missing_image" if form is None else "unreadable_image", id, key)
                bad_rows.append(row)
        for _, id, related, _ in query(_DANGLING):
            problems.add("dangling_context", id, related)
        drawn = None
        if train_config is not None:
            for _, id, _, _ in query(_UNKNOWN_IDS):
                problems.add("unknown_train_id", id, "")
            drawn = np.fromiter((row for (row,) in query(_LISTED)), np.uint64)
    known = msgspec.json.decode((instructions / "unit.json").read_bytes(), type=InstructionFacts)
    usable = _usable(known.instructions, drawn, np.frombuffer(bad_rows, np.uint64))
    (folder / "usable.bin").write_bytes(usable.tobytes())
    facts = DatasetFacts(digest.hexdigest(), len(usable), problems.counts)
    (folder / "unit.json").write_bytes(msgspec.json.encode(facts))


def _stream_tables(
    instructions: Path, contexts: Path, images: Path | None
) -> dict[str, pa.RecordBatchReader]:
    """What the queries ask, anew for each: a stream can be read once."""
    rows = instructions / "table.arrow"
    tables = {
        "instructions": stream_rows(rows, ["row", "id", "image_ids"]),
        "contexts": stream_rows(contexts / "table.arrow", ["row", "id", "rel_ins_ids"]),
    }
    if images is not None:
        tables["images"] = stream_rows(images / "keys.arrow", ["key", "form"])
    return tables


def _usable(
    rows: int, drawn: NDArray[np.uint64] | None, bad_rows: NDArray[np.uint64]
) -> NDArray[np.uint64]:
    is_usable = np.full(rows, drawn is None)
    if drawn is not None:
        is_usable[drawn] = True
    is_usable[bad_rows] = False
    return np.flatnonzero(is_usable).astype(np.uint64)


def _load_train_config(
    path: str,
    tools: BuildTools,
    folder: Path,
    digest: xxh3_128,
    problems: ProblemWriter,
) -> None:
    with (
        open_source(path, tools.objects, lambda _: None) as source,
        TableWriter(folder, _CONTEXT) as table,
    ):
        size_bytes = source.stamp.size_bytes
        stream = JsonStream(path, source.read, size_bytes, tools.limits.max_value_bytes)
        if stream.peek() != "{":
            raise DamagedFileError(f"{path}: an object was expected, {{id: [context ids]}}")
        for id in stream.members():
            try:
                ids = _context_ids(id, stream.value())
                text = msgspec.json.encode((id, ids))
            except ValueError as error:
                problems.add("invalid_train_config", _printable(id), str(error))
            else:
                table.add((id, ids), len(text))
                digest.update(text)
        stream.end()
        source.check_still()
    index_table(
        folder,
        tools.joins,
        lambda id: problems.add("duplicate_train_id", id, "the last one counts"),
    )


def _context_ids(id: str, value: Any) -> list[str]:
    """The context ids of a member of the train config; raises ValueError saying what is wrong."""
    if not id or len(id.encode()) > MAX_KEY_BYTES:
        raise ValueError(f"the id is empty or longer than {MAX_KEY_BYTES} bytes")
    ids = value or []
    if not isinstance(ids, list) or not all(isinstance(one, str) for one in ids):
        raise ValueError("not a list of ids")
    return ids


def _printable(text: str) -> str:
    return text.encode(errors="replace").decode()


def open_contexts(folder: Path) -> Table | None:
    """The train config of a dataset's unit, or None if it has none."""
    return Table(folder) if (folder / "table.arrow").exists() else None


class Dataset:
    """A dataset, opened: its sources, which instructions can be drawn, and their context."""

    def __init__(
        self,
        folder: Path,
        name: str,
        group: Group,
        num_samples: int | None,
        task_description: str | None,
        instructions: InstructionTable,
        images: ImageSource | None,
        contexts: Table | None,
    ) -> None:
        self.folder = folder
        self.name = name
        self.group = group
        self.num_samples = num_samples
        self.task_description = task_description
        self.instructions = instructions
        self.images = images
        self.facts = msgspec.json.decode((folder / "unit.json").read_bytes(), type=DatasetFacts)
        self.usable = map_file(folder / "usable.bin").cast("Q")
        self._contexts = contexts

    @property
    def draws(self) -> int:
        """How many samples of it an epoch has: num_samples, or all that are usable."""
        if self.num_samples is None or not self.facts.usable:
            return self.facts.usable
        return self.num_samples

    @property
    def contexts_path(self) -> Path:
        """The table of context ids: the train config's, else that of the instructions."""
        return (self.instructions if self._contexts is None else self).folder / "table.arrow"

    @property
    def has_train_config(self) -> bool:
        """Whether a train config says what goes before an instruction."""
        return self._contexts is not None

    def count_problems(self) -> dict[str, int]:
        """How many problems of each kind its sources and it have."""
        counts: dict[str, int] = {}
        images = {} if self.images is None else self.images.facts.problems
        for found in (self.instructions.facts.problems, images, self.facts.problems):
            for kind, count in found.items():
                counts[kind] = counts.get(kind, 0) + count
        return dict(sorted(counts.items()))

    def make_search(
        self,
        *,
        text: str | None = None,
        has_several_images: bool = False,
        has_context: bool = False,
        has_problem: bool = False,
    ) -> Search:
        """A search of its instructions; one that `has_problem` is one that a problem names."""
        contexts = ids = None
        if has_context and self.has_train_config:
            rows = stream_rows(self.contexts_path, ["id", "rel_ins_ids"]).read_all()
            contexts = rows.filter(pc.greater(pc.list_value_length(rows["rel_ins_ids"]), 0))
        if has_problem:
            folders = (self.folder, self.instructions.folder)
            ids = pa.concat_tables(
                stream_rows(folder / "problems.arrow", ["name"]).read_all() for folder in folders
            ).rename_columns(["id"])
        return Search(
            text=text,
            has_several_images=has_several_images,
            has_context=has_context,
            contexts=contexts,
            ids=ids,
        )

    def context_ids(self, instruction: Instruction) -> list[str]:
        """The ids that go before the instruction: the train config's, else its own rel_ins_ids."""
        if self._contexts is None:
            return instruction.rel_ins_ids
        row = self._contexts.find_row(instruction.id)
        return [] if row is None else list(self._contexts.get_row(row)["rel_ins_ids"])

    def context_rows(self, ids: list[str]) -> list[int]:
        """The rows of a context in order, without ids that no instruction has."""
        rows = map(self.instructions.find_row, ids)
        return [row for row in rows if row is not None]

    def list_context(self, ids: list[str]) -> tuple[list[Instruction], list[str]]:
        """The instructions of a context in order, and the ids of it that no instruction has."""
        found, missing = [], []
        for id in ids:
            related = self.instructions.find(id)
            if related is None:
                missing.append(id)
            else:
                found.append(related)
        return found, missing
