"""One instruction, made of a table's row or of the turns of a conversation."""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from app.convert.sources import is_picture, key_of

_TAG = re.compile(r"\s*<image>\s*")
_ASKING, _ANSWERING = ("human", "user"), ("gpt", "assistant")
_OWN_FIELDS = ("instruction", "answer", "image_ids", "rel_ins_ids")

Record = dict[str, Any]


class NoInstructionError(ValueError):
    """A row or conversation is not of the form that makes an instruction; it says why."""


@dataclass(frozen=True, slots=True)
class InstructionColumns:
    """The columns of a table that make an instruction; any others are kept as they are."""

    id: str = "id"
    instruction: str = "instruction"
    answer: str = "answer"
    image: str | None = None  # one id or a list; None is image_ids, or else image
    context: str = "rel_ins_ids"
    keeps_suffix: bool = False  # of image ids that are file names


def make_records(
    fields: Mapping[str, Any], columns: InstructionColumns
) -> Iterator[tuple[str, Record]]:
    """The id and record of the row, or of each turn of the conversation that it holds.

    Raises NoInstructionError.
    """
    if "conversations" in fields and columns.instruction not in fields:
        return iter(_make_turns(fields, columns))
    return iter([_make_record(fields, columns)])


def _make_record(fields: Mapping[str, Any], columns: InstructionColumns) -> tuple[str, Record]:
    image = _image_column(fields, columns)
    own = {columns.id, columns.instruction, columns.answer, image, columns.context}
    record = {
        "instruction": _text(fields, columns.instruction),
        "answer": _text(fields, columns.answer),
        "image_ids": _image_ids(fields, image, columns),
        "rel_ins_ids": _ids(fields, columns.context),
    }
    return _id(fields, columns.id), record | _others(fields, own)


def _make_turns(fields: Mapping[str, Any], columns: InstructionColumns) -> list[tuple[str, Record]]:
    """An instruction for each question and answer; those before it are its context."""
    id = _id(fields, columns.id)
    image = _image_column(fields, columns)
    image_ids = _image_ids(fields, image, columns)
    others = _others(fields, {columns.id, image, "conversations"})
    said = list(_list_said(fields["conversations"]))
    ids = [f"{id}_{turn}" for turn in range(len(said) // 2)]
    found = []
    for turn, name in enumerate(ids):
        (asking, instruction), (answering, answer) = said[2 * turn : 2 * turn + 2]
        if asking not in _ASKING or answering not in _ANSWERING:
            break
        record = {
            "instruction": instruction,
            "answer": answer,
            "image_ids": image_ids,
            "rel_ins_ids": ids[:turn],
        }
        found.append((name, record | others))
    if not found or 2 * len(found) != len(said):
        raise NoInstructionError("its turns are not human, gpt, human, gpt and so on")
    return found


def _list_said(turns: Any) -> Iterator[tuple[str, str]]:
    if not isinstance(turns, list):
        raise NoInstructionError("its conversations are not a list")
    for turn in turns:
        said = (turn.get("from"), turn.get("value")) if isinstance(turn, dict) else ()
        match said:
            case (str(who), str(text)):
                tagless = _TAG.sub(" ", text).strip() if "<image>" in text else text
                yield who, tagless
            case _:
                raise NoInstructionError("a turn of it does not say `from` and `value`")


def _others(fields: Mapping[str, Any], own: set[str]) -> Record:
    return {name: fields[name] for name in fields if name not in own and name not in _OWN_FIELDS}


def _image_column(fields: Mapping[str, Any], columns: InstructionColumns) -> str:
    return columns.image or ("image_ids" if "image_ids" in fields else "image")


def _id(fields: Mapping[str, Any], name: str) -> str:
    found = fields.get(name)
    if isinstance(found, int) and not isinstance(found, bool):
        found = str(found)
    if not isinstance(found, str) or not found:
        raise NoInstructionError(f"its {name} is not text")
    return found


def _text(fields: Mapping[str, Any], name: str) -> str:
    found = fields.get(name)
    if not isinstance(found, str):
        raise NoInstructionError(f"its {name} is not text")
    return found


def _image_ids(fields: Mapping[str, Any], name: str, columns: InstructionColumns) -> list[str]:
    """The keys of its pictures; a picture file's is its path without the suffix."""
    found = _ids(fields, name)
    if columns.keeps_suffix:
        return found
    return [key_of(one) if is_picture(one) else one for one in found]


def _ids(fields: Mapping[str, Any], name: str) -> list[str]:
    """The ids: none, one, a list, or the list's JSON, as it may stand in a cell of a table."""
    found = fields.get(name)
    if isinstance(found, str) and found.startswith("["):
        try:
            found = json.loads(found)
        except (ValueError, RecursionError):
            found = [found]
    if found is None or found == "":
        return []
    ids = found if isinstance(found, list) else [found]
    if not all(isinstance(one, str) and one for one in ids):
        raise NoInstructionError(f"its {name} is not ids")
    return ids
