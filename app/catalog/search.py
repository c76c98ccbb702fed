"""Searching the instructions of a dataset: DuckDB over windows of the mapped table, from a row on,
until there are enough. The windows grow, so that a common word is found in the first one, and a
rare one without asking often.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from unicodedata import category

import pyarrow as pa

from app.catalog.duck import Database
from app.catalog.table import Table

_FIRST_BATCHES = 4  # 16,384 rows take some 5 ms
_COLUMNS = ["row", "id", "instruction", "answer", "image_ids", "rel_ins_ids"]
# Of scripts and signs that have no letter case, by their Unicode categories.
_CASELESS = frozenset({"Lo", "Lm", "Nd", "Po", "Ps", "Pe", "Zs"})
# The letters outside ASCII whose lower case is in it: the sign of kelvin, and I with a dot.
_ODD_LETTERS = ("\u212a".encode(), "\u0130".encode())
_LOWERED_ODD = frozenset("ki")


@dataclass(frozen=True, slots=True)
class Search:
    """What is searched for: instructions for which all of this is so.

    `text` is in instruction or answer, letter case aside, and `image_id` among their images; they
    have several images; they have a context, by `contexts` (a column `id`) if there is one, else by
    rel_ins_ids; their id is in `ids` (a column `id`).
    """

    text: str | None = None
    image_id: str | None = None
    has_several_images: bool = False
    has_context: bool = False
    contexts: pa.Table | None = None
    ids: pa.Table | None = None


def find_rows(
    table: Table, database: Database, first: int, limit: int, search: Search, *, is_odd: bool
) -> list[int]:
    """At most `limit` rows from row `first` on, in order; `is_odd` tables may have odd letters."""
    conditions, values = _make_conditions(search, is_odd=is_odd)
    sql = f"SELECT row FROM instructions WHERE {' AND '.join(conditions)} ORDER BY row LIMIT $limit"
    rows: list[int] = []
    for window in _list_windows(table, first):
        tables: dict[str, Any] = {"instructions": window}
        if search.contexts is not None:
            tables["contexts"] = search.contexts
        if search.ids is not None:
            tables["ids"] = search.ids
        found = database.query_rows(
            sql, tables, values | {"first": first, "limit": limit - len(rows)}
        )
        rows += [row for (row,) in found]
        if len(rows) >= limit:
            break
    return rows


def _list_windows(table: Table, first: int) -> Iterator[pa.Table]:
    number, count = table.find_batch(first), _FIRST_BATCHES
    while number < table.batches:
        yield table.read_batches(number, count).select(_COLUMNS)
        number, count = number + count, 2 * count


def _make_conditions(search: Search, *, is_odd: bool) -> tuple[list[str], dict[str, object]]:
    """Conditions, all of them constants, and the values of their parameters."""
    conditions = ["row >= $first"]
    values: dict[str, object] = {}
    if search.text is not None:
        condition, more = _match_text(search.text, is_odd=is_odd)
        conditions.append(condition)
        values |= more
    if search.image_id is not None:
        conditions.append("list_contains(image_ids, $image_id)")
        values["image_id"] = search.image_id
    if search.has_several_images:
        conditions.append("len(image_ids) > 1")
    if search.contexts is not None and search.has_context:
        conditions.append("id IN (SELECT id FROM contexts)")
    elif search.has_context:
        conditions.append("len(rel_ins_ids) > 0")
    if search.ids is not None:
        conditions.append("id IN (SELECT id FROM ids)")
    return conditions, values


_LOWER = """
(contains(lower(instruction), lower($text)) OR contains(lower(answer), lower($text)))
"""
_PATTERN = "(regexp_matches(instruction, $pattern) OR regexp_matches(answer, $pattern))"


def has_odd_letters(text: bytes) -> bool:
    """Whether the UTF-8 has a letter outside ASCII whose lower case is in ASCII."""
    return any(letter in text for letter in _ODD_LETTERS)


def _match_text(text: str, *, is_odd: bool) -> tuple[str, dict[str, object]]:
    """Instruction or answer in lower case has the text in lower case.

    Lowering 640 MB takes DuckDB 0.8 s, and a pattern of [Aa] for each a finds the same in 0.3 s
    where ASCII's are the only letters with a case.
    """
    is_foreign = any(not one.isascii() and category(one) not in _CASELESS for one in text)
    if is_foreign or (is_odd and not _LOWERED_ODD.isdisjoint(text.lower())):
        return _LOWER, {"text": text}
    return _PATTERN, {"pattern": "".join(map(_match_character, text))}


def _match_character(one: str) -> str:
    if one.isascii() and one.isalpha():
        return f"[{one.upper()}{one.lower()}]"
    return one if one.isascii() and one.isalnum() else f"\\x{{{ord(one):x}}}"
