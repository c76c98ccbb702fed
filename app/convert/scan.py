"""The first pass: each source is indexed or listed, so that a unit says where its pictures are."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import msgspec

from app.catalog.image_file import index_file
from app.catalog.sources import check_unchanged
from app.catalog.tools import BuildTools
from app.catalog.units import UnitStore, fingerprint, fingerprint_local
from app.convert.folder import list_folder
from app.convert.listing import ListFacts, Notes, write_listing
from app.convert.named import list_named
from app.convert.options import ImageOptions
from app.convert.rejects import RejectWriter
from app.convert.scratch import scratch_folder
from app.convert.sources import Kind, Source
from app.convert.tar import list_tar
from app.storage import check_still, stamp_file
from app.tasks.job import Advance


@dataclass(frozen=True, slots=True)
class ScanItem:
    """A source and the name of its unit."""

    name: str
    source: Source


@dataclass(frozen=True, slots=True)
class ScanSource:
    """The job of writing the unit of a source."""

    store: UnitStore
    scratch: Path
    options: ImageOptions

    @contextmanager
    def open(self) -> Iterator[Callable[[ScanItem, Advance], None]]:
        with (
            scratch_folder(self.scratch) as folder,
            BuildTools(self.options.limits, folder) as tools,
        ):
            yield partial(_scan, self.store, self.options, tools)


def name_unit(source: Source, options: ImageOptions, run: str) -> str:
    """The name of a source's unit, which says what it is made from.

    What lies in many files is listed anew by every run, since none of them tells that another has
    changed. Raises OSError.
    """
    bounds = (options.limits.max_value_bytes, options.limits.max_page_bytes)
    if source.kind.is_indexed:
        columns = (options.key_column, options.value_column)
        return f"file-{fingerprint(fingerprint_local(source.path), source.kind, bounds, columns)}"
    if source.kind == Kind.TAR:
        return f"tar-{fingerprint(fingerprint_local(source.path))}"
    return f"list-{fingerprint(source.path, run)}"


def _scan(
    store: UnitStore, options: ImageOptions, tools: BuildTools, item: ScanItem, advance: Advance
) -> None:
    source = item.source
    with store.create(item.name) as folder:
        if source.kind.is_indexed:
            state = fingerprint_local(source.path)
            columns = (options.key_column, options.value_column)
            index_file(source.path, *columns, tools, folder, advance)
            check_unchanged(source.path, state, tools.objects)
        else:
            _list(source, options, tools, folder, advance)


def _list(
    source: Source, options: ImageOptions, tools: BuildTools, folder: Path, advance: Advance
) -> None:
    stamp = stamp_file(source.path)
    with RejectWriter(folder / "rejected.jsonl") as rejects:
        notes = Notes(rejects)
        if source.kind == Kind.FOLDER:
            batches = list_folder(source.path, notes, tools.joins)
        elif source.kind == Kind.TAR:
            batches = list_tar(source.path, notes, advance)
        else:
            batches = list_named(source, options, notes, advance)
        rows, digest = write_listing(folder, batches)
    check_still(stamp)
    facts = ListFacts(
        path=source.path,
        size_bytes=stamp.size_bytes,
        mtime_ns=stamp.mtime_ns,
        rows=rows,
        digest=digest,
        passed_over=dict(sorted(notes.passed_over.items())),
        rejected=dict(rejects.counts),
    )
    (folder / "unit.json").write_bytes(msgspec.json.encode(facts))
