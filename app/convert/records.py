"""Rows of a CSV, TSV or JSON lines file, as objects, one held at a time."""

import csv
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import msgspec

from app.convert.sources import Kind
from app.errors import ConvertError, DamagedFileError
from app.tasks.job import Advance

_DELIMITERS = {Kind.CSV: ",", Kind.TSV: "\t"}
_ADVANCE_ROWS = 1000


@dataclass(frozen=True, slots=True)
class Row:
    """A row by its column names, or None in place of one that is none; numbers begin at 0."""

    number: int
    fields: dict[str, Any] | None


def read_rows(path: str, kind: Kind, max_bytes: int, advance: Advance) -> Iterator[Row]:
    """The rows of the file, none longer than `max_bytes`.

    Raises DamagedFileError if it is not UTF-8 text of that kind.
    """
    rows = _json_lines if kind == Kind.JSONL else _table_rows
    try:
        yield from rows(path, kind, max_bytes, advance)
    except (UnicodeDecodeError, csv.Error) as error:
        raise DamagedFileError(f"{path} can not be read as {kind}: {error}") from error


def _table_rows(path: str, kind: Kind, max_bytes: int, advance: Advance) -> Iterator[Row]:
    csv.field_size_limit(max_bytes)
    with open(path, encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(file, delimiter=_DELIMITERS[kind], strict=True)
        names = next(reader, None)
        if not names:
            raise DamagedFileError(f"{path} is empty; its first line has to name its columns")
        if len({*names}) < len(names):
            raise DamagedFileError(f"{path} has a column of the same name twice")
        done = 0
        for number, cells in enumerate(row for row in reader if row):
            whole = len(cells) == len(names)
            yield Row(number, dict(zip(names, cells, strict=True)) if whole else None)
            if number % _ADVANCE_ROWS == 0:
                at = os.lseek(file.fileno(), 0, os.SEEK_CUR)
                advance(at - done)
                done = at


def _json_lines(path: str, kind: Kind, max_bytes: int, advance: Advance) -> Iterator[Row]:
    with open(path, "rb") as file:
        number = 0
        while line := file.readline(max_bytes + 1):
            if len(line) > max_bytes:
                raise DamagedFileError(
                    f"{path}: line {number + 1} is longer than {max_bytes:,} bytes "
                    "(setting max_value_bytes)"
                )
            advance(len(line))
            if line.strip():
                yield Row(number, _parse(line))
            number += 1


def _parse(line: bytes) -> dict[str, Any] | None:
    try:
        found = msgspec.json.decode(line.removeprefix(b"\xef\xbb\xbf"))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def check_columns(path: str, row: Row, *names: str) -> None:
    """Raise ConvertError if the row, which is a file's first, lacks one of the columns."""
    if row.fields is not None and (missing := [name for name in names if name not in row.fields]):
        found = ", ".join(row.fields)
        raise ConvertError(f"{path} has no column {missing[0]!r}; it has: {found}")
