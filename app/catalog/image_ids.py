"""The image ids that a dataset's instructions name, and what rules would make of them."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa

from app.catalog.image_source import ImageSource
from app.catalog.instructions import InstructionTable
from app.catalog.questions import Questions
from app.catalog.table import stream_rows

Make = Callable[[str], str]

_IDS = pa.schema([("id", pa.string()), ("uses", pa.int64()), ("is_missing", pa.bool_())])
_TRIED = pa.schema([("before", pa.string()), ("after", pa.string()), ("uses", pa.int64())])

_NAMED = """
SELECT id, count(*) AS uses, keys.key IS NULL AS is_missing
FROM (SELECT unnest(image_ids) AS id FROM instructions) LEFT JOIN keys ON keys.key = id
GROUP BY ALL
"""
_COUNTS = "SELECT sum(uses)::BIGINT, coalesce(sum(uses) FILTER (is_missing), 0)::BIGINT FROM ids"
_SAMPLE = "SELECT id FROM ids WHERE is_missing ORDER BY hash(id), id LIMIT {limit}"
_TRIAL = """
SELECT coalesce(sum(uses) FILTER (a.key IS NOT NULL AND b.key IS NULL), 0)::BIGINT,
  count(*) FILTER (b.key IS NOT NULL)
FROM tried LEFT JOIN keys_before AS b ON b.key = before LEFT JOIN keys_after AS a ON a.key = after
"""
_THERE = "SELECT number, count(*) FROM made SEMI JOIN keys ON keys.key = made.id GROUP BY number"
# What an id and its key have in common: the numbers in them, without zeros in front; the last of
# these; and the last word before the extension.
_CORES = """
SELECT {name} AS {name}, unnest([
  'n' || array_to_string(list_sort(list_distinct(
    [ltrim(one, '0') FOR one IN regexp_extract_all({name}, '\\d+') IF ltrim(one, '0') <> '']
  )), ' '),
  'l' || ltrim(coalesce(regexp_extract_all({name}, '\\d+')[-1], ''), '0'),
  'w' || regexp_extract(lower({name}), '([^_/. -]+)(\\.[a-z0-9]{{1,5}})?$', 1)
]) AS core FROM {table}
"""
_KEYS_PER_CORE, _KEYS_PER_ID = 200, 3
_ALIKE = f"""
WITH wanted AS ({_CORES.format(name="id", table="sample")}),
found AS (
  SELECT key, core FROM ({_CORES.format(name="key", table="keys")})
  WHERE length(core) > 1 AND core IN (SELECT core FROM wanted)
  QUALIFY row_number() OVER (PARTITION BY core ORDER BY hash(key), key) <= {_KEYS_PER_CORE}
)
SELECT id, key FROM (SELECT DISTINCT id, key FROM wanted JOIN found USING (core))
QUALIFY row_number() OVER (
  PARTITION BY id ORDER BY jaro_winkler_similarity(id, key) DESC, key) <= {_KEYS_PER_ID}
ORDER BY id, key
"""


class Trial(NamedTuple):
    """How many namings of images some rules make resolve, and how many ids they change that do."""

    resolved: int
    broken: int


class ImageIds:
    """The distinct image ids of a dataset, kept in a file in `folder` while rules are tried."""

    def __init__(
        self,
        instructions: InstructionTable,
        images: ImageSource,
        questions: Questions,
        folder: Path,
    ) -> None:
        self._keys = images.folder / "keys.arrow"
        self._questions = questions
        self._path = folder / "ids.arrow"
        tables = {
            "instructions": stream_rows(instructions.folder / "table.arrow", ["image_ids"]),
            "keys": stream_rows(self._keys, ["key"]),
        }
        with pa.ipc.new_file(str(self._path), _IDS) as file:
            for batch in questions.iterate_batches(_NAMED, tables):
                file.write_batch(batch.cast(_IDS))
        ((named, missing),) = questions.iterate(_COUNTS, {"ids": self._stream()})
        self.named: int = named or 0
        self.missing: int = missing

    def sample_missing(self, limit: int) -> list[str]:
        """At most `limit` of the ids that no image has, always the same ones."""
        tables = {"ids": self._stream()}
        return [id for (id,) in self._questions.iterate(_SAMPLE.format(limit=limit), tables)]

    def list_alike(self, ids: Sequence[str]) -> list[tuple[str, str]]:
        """Each of the ids with a few keys that it may stand for."""
        tables = {"sample": pa.table({"id": ids}), "keys": stream_rows(self._keys, ["key"])}
        return [(id, key) for id, key in self._questions.iterate(_ALIKE, tables)]

    def count_there(self, made: Sequence[Sequence[str]]) -> dict[int, int]:
        """How many of each of several lists of ids are keys, by number of the list."""
        numbers = [number for number, ids in enumerate(made) for _ in ids]
        table = pa.table({"number": numbers, "id": [id for ids in made for id in ids]})
        tables = {"made": table, "keys": stream_rows(self._keys, ["key"])}
        return dict(self._questions.iterate(_THERE, tables))

    def try_rules(self, before: Make, after: Make) -> Trial:
        """What becomes of all ids, which are `before(id)` now, where they become `after(id)`."""
        tables = {
            "tried": pa.RecordBatchReader.from_batches(_TRIED, self._changed(before, after)),
            "keys_before": stream_rows(self._keys, ["key"]),
            "keys_after": stream_rows(self._keys, ["key"]),
        }
        ((resolved, broken),) = self._questions.iterate(_TRIAL, tables)
        return Trial(resolved, broken)

    def _changed(self, before: Make, after: Make) -> Iterator[pa.RecordBatch]:
        for batch in self._stream():
            ids, uses = batch.column("id").to_pylist(), batch.column("uses").to_pylist()
            rows = [(before(id), after(id), count) for id, count in zip(ids, uses, strict=True)]
            changed = [row for row in rows if row[0] != row[1]]
            columns = list(zip(*changed, strict=True)) or [(), (), ()]
            arrays = [pa.array(one, f.type) for one, f in zip(columns, _TRIED, strict=True)]
            yield pa.record_batch(arrays, schema=_TRIED)

    def _stream(self) -> pa.RecordBatchReader:
        return stream_rows(self._path, _IDS.names)
