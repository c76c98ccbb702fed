"""Instructions of any kind, written as a MIMIC-IT instructions.json."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from app.catalog.duck import Database
from app.catalog.keyed import MAX_KEY_BYTES
from app.catalog.limits import BuildLimits
from app.convert.explain import explained
from app.convert.instruction import InstructionColumns, NoInstructionError, make_records
from app.convert.records import Row, check_columns, read_rows
from app.convert.rejects import RejectWriter
from app.convert.scratch import scratch_folder
from app.convert.sources import Kind, Source, list_sources
from app.convert.spool import Spool
from app.convert.work import WorkFolder
from app.errors import ConvertError, DamagedFileError
from app.json_object import JsonStream, NotTextError
from app.progress import Progress, Report
from app.storage import read_exactly
from app.tasks.job import Advance

_META = {"version": "0.0.1", "author": "mimicit convert"}
_KINDS = (Kind.JSON, Kind.CSV, Kind.TSV, Kind.JSONL)


@dataclass(frozen=True, slots=True)
class ConvertedInstructions:
    """What was written, and what was not."""

    path: Path
    instructions: int
    size_bytes: int
    rejected: dict[str, int]  # by reason
    rejected_path: Path | None  # that names them all


def convert_instructions(
    inputs: Sequence[str],
    destination: Path,
    columns: InstructionColumns,
    kind: Kind | None,
    limits: BuildLimits,
    report: Report,
) -> ConvertedInstructions:
    """Write the instructions of the inputs, in their order, to the file `destination`.

    A JSON is a list of conversations. Raises MimicitError if it can not be done.
    """
    destination = Path(os.path.abspath(destination))
    sources = list_sources(inputs, kind)
    for source in sources:
        if source.kind not in _KINDS:
            raise ConvertError(f"{source.path} is {source.kind}: it holds no instructions")
    work = WorkFolder(destination)
    with explained(work), work.lock(), scratch_folder(work.scratch) as scratch:
        rejected, made = work.path / "spooled.rejected", work.path / "instructions.json"
        spool = Spool(scratch / "spool")
        spilled = Database(limits.duckdb_memory_bytes, 1, scratch)
        with RejectWriter(rejected, "id") as rejects, spilled as database:
            _spool(sources, columns, limits, spool, rejects, report)
            report(Progress("writing instructions"))
            count = _write(made, spool, database, sources, rejects)
        rejected_path = work.put_rejected([rejected])
        if not count:
            work.remove()
            see = f"; {rejected_path} says why" if rejected_path else ""
            raise ConvertError(f"no instruction was found that can be converted{see}")
        size_bytes = made.stat().st_size
        work.publish(made)
        counts = dict(rejects.counts)
        return ConvertedInstructions(destination, count, size_bytes, counts, rejected_path)


def _spool(
    sources: list[Source],
    columns: InstructionColumns,
    limits: BuildLimits,
    spool: Spool,
    rejects: RejectWriter,
    report: Report,
) -> None:
    total_bytes = sum(source.size_bytes for source in sources)
    done_bytes = 0

    def advance(count: int) -> None:
        nonlocal done_bytes
        done_bytes = min(done_bytes + count, total_bytes)
        report(Progress("reading instructions", done_bytes, total_bytes))

    for number, source in enumerate(sources):
        for row in _read(source, columns, limits.max_value_bytes, advance):
            try:
                if row.fields is None:
                    raise NoInstructionError("it is no object, or not a whole row")
                made = [
                    (_check_id(id), msgspec.json.encode(record))
                    for id, record in make_records(row.fields, columns)
                ]
            except NoInstructionError as error:
                rejects.add("invalid_record", source.path, None, row=row.number, why=str(error))
            except UnicodeEncodeError:
                rejects.add("foreign_text", source.path, None, row=row.number)
            else:
                for id, text in made:
                    spool.add(id, text, number, row.number)


def _check_id(id: str) -> bytes:
    encoded = id.encode()
    if len(encoded) > MAX_KEY_BYTES:
        raise NoInstructionError(f"its id is longer than {MAX_KEY_BYTES:,} bytes")
    return encoded


def _read(
    source: Source, columns: InstructionColumns, max_bytes: int, advance: Advance
) -> Iterator[Row]:
    if source.kind == Kind.JSON:
        yield from _read_list(source.path, max_bytes, advance)
        return
    is_first = True
    for row in read_rows(source.path, source.kind, max_bytes, advance):
        if is_first and row.fields is not None and "conversations" not in row.fields:
            named = (columns.id, columns.instruction, columns.answer)
            check_columns(source.path, row, *named, *filter(None, [columns.image]))
        is_first = False
        yield row


def _read_list(path: str, max_bytes: int, advance: Advance) -> Iterator[Row]:
    with open(path, "rb", buffering=0) as file:
        read = read_exactly(file.fileno(), path, advance)
        stream = JsonStream(path, read, os.fstat(file.fileno()).st_size, max_bytes)
        if stream.peek() != "[":
            raise DamagedFileError(
                f'{path} is no list of conversations: [{{"id", "image", "conversations"}}, …]'
            )
        for number in stream.items():
            try:
                found: Any = stream.value()
            except NotTextError:
                found = None
            is_whole = isinstance(found, dict)
            yield Row(number, found if is_whole else None)
        stream.end()


def _write(
    path: Path, spool: Spool, database: Database, sources: list[Source], rejects: RejectWriter
) -> int:
    count = 0
    with open(path, "wb") as file:
        file.write(b'{"meta": %s, "data": {' % msgspec.json.encode(_META))
        for one in spool.read(database):
            if one.is_first:
                file.write(
                    b"%s\n%s: %s" % (b"," * bool(count), msgspec.json.encode(one.id), one.text)
                )
                count += 1
            else:
                path_of = sources[one.source].path
                rejects.add("duplicate_instruction", path_of, one.id, row=one.row)
        file.write(b"\n}}\n")
    return count
