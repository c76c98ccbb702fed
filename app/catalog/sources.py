"""The units that are made by reading one file each."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial

from app.catalog.image_file import index_file
from app.catalog.instructions import build_instructions
from app.catalog.limits import BuildLimits
from app.catalog.plan import SourceUnit
from app.catalog.tools import BuildTools
from app.catalog.units import UnitStore, fingerprint_file
from app.errors import SourceError
from app.progress import Progress, Report
from app.storage import Objects, changed_while_indexed
from app.tasks.here import Here
from app.tasks.job import Advance, ChooseRunner


@dataclass(frozen=True, slots=True)
class _BuildSource:
    """The job of building the unit of a source: what is wrong with the source, or None."""

    store: UnitStore
    limits: BuildLimits

    @contextmanager
    def open(self) -> Iterator[Callable[[SourceUnit, Advance], str | None]]:
        with BuildTools(self.limits, self.store.spill_folder) as tools:
            yield partial(_build_source, self.store, tools)


def build_sources(
    store: UnitStore,
    sources: list[SourceUnit],
    limits: BuildLimits,
    choose: ChooseRunner,
    report: Report,
) -> list[str]:
    """Build the units, and say what is wrong with each source that can not be read."""
    # The largest first, so that no long one is left for the end.
    by_size = sorted(sources, key=lambda source: -source.size_bytes)
    sizes_bytes = [source.size_bytes for source in by_size]
    runner = choose(sizes_bytes)
    if not isinstance(runner, Here):
        limits = replace(limits, processes=1)  # one thread each

    def watch(done: int, done_bytes: int) -> None:
        total_bytes = sum(sizes_bytes)
        doing = f"indexed {done} of {len(sources)} files"
        report(Progress(doing, min(done_bytes, total_bytes), total_bytes))

    found = runner.run(_BuildSource(store, limits), by_size, watch)
    return [mistake for mistake in found if mistake]


def _build_source(
    store: UnitStore, tools: BuildTools, source: SourceUnit, advance: Advance
) -> str | None:
    try:
        with store.create(source.name) as folder:
            if source.is_images:
                columns = (source.key_column, source.value_column)
                index_file(source.path, *columns, tools, folder, advance)
            else:
                build_instructions(source.path, source.key_rules, tools, folder, advance)
            check_unchanged(source.path, source.state, tools.objects)
    except SourceError as error:
        return str(error)
    return None


def check_unchanged(path: str, state: str, objects: Objects) -> None:
    """Raise DamagedFileError if the file is no longer the one that the unit is named after."""
    if fingerprint_file(path, objects) != state:
        raise changed_while_indexed(path)
