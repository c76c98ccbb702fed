"""The records of an instructions file: found in its JSON, and made rows of a table."""

import json
import math
from collections.abc import Iterator
from typing import Any

import msgspec

from app.catalog.keyed import MAX_KEY_BYTES
from app.errors import DamagedFileError
from app.json_object import JsonStream, NotTextError
from app.key_rules import KeyRules

_KNOWN_FIELDS = frozenset({"instruction", "answer", "image_ids", "rel_ins_ids"})
# Members in front of "data" are metadata; a file with more of them is a bare {id: record}.
_MAX_METADATA = 8
_MAX_DEPTH = 100  # of other fields; what writes the answer's JSON ends at some 250


def stream_records(stream: JsonStream, path: str) -> Iterator[tuple[str, Any]]:
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


def make_row(id: str, record: Any, rules: KeyRules) -> tuple[tuple[Any, ...], bytes]:
    """The row of a record, its image ids as the rules make them, and all it holds as JSON.

    Raises ValueError saying what is wrong.
    """
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
    image_ids, rel_ins_ids = [rules.apply(one) for one in lists[0]], lists[1]
    others = {name: value for name, value in record.items() if name not in _KNOWN_FIELDS}
    extra = _extra(others) if others else None
    row = (id, record["instruction"], record["answer"], image_ids, rel_ins_ids, extra)
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
