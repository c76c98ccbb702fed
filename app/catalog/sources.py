"""The units that are made by reading one file each: built here, or in processes side by side."""

import multiprocessing
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from functools import partial
from typing import Any

from app.catalog.image_file import index_file
from app.catalog.instructions import build_instructions
from app.catalog.limits import BuildLimits
from app.catalog.plan import SourceUnit
from app.catalog.progress import Progress, Report
from app.catalog.tools import BuildTools
from app.catalog.units import UnitStore, fingerprint_file
from app.errors import CatalogError, SourceError
from app.processes import end_with_parent
from app.storage import changed_while_indexed

# What there has to be beside the largest source, for processes side by side to save more than the
# 0.5 s or more that they take to start: 250 MB at 500 MB/s.
_PARALLEL_BYTES = 256 << 20
_POLL_SECONDS = 0.1


def build_sources(
    store: UnitStore, sources: list[SourceUnit], tools: BuildTools, report: Report
) -> list[str]:
    """Build the units, and say what is wrong with each source that can not be read."""
    total_bytes = sum(source.size_bytes for source in sources)
    largest_bytes = max((source.size_bytes for source in sources), default=0)
    is_parallel = tools.limits.processes > 1 and total_bytes - largest_bytes >= _PARALLEL_BYTES
    run = _run_in_processes if is_parallel else _run_here
    return [mistake for mistake in run(store, sources, tools, total_bytes, report) if mistake]


def _build_source(
    store: UnitStore, source: SourceUnit, tools: BuildTools, advance: Callable[[int], None]
) -> str | None:
    """Build a unit; what is wrong with its source, or None."""
    try:
        with store.create(source.name) as folder:
            if source.is_images:
                columns = (source.key_column, source.value_column)
                index_file(source.path, *columns, tools, folder, advance)
            else:
                build_instructions(source.path, tools, folder, advance)
            check_unchanged(source.path, source.state)
    except SourceError as error:
        return str(error)
    return None


def check_unchanged(path: str, state: str) -> None:
    """Raise DamagedFileError if the file is no longer the one that the unit is named after."""
    if fingerprint_file(path) != state:
        raise changed_while_indexed(path)


def _run_here(
    store: UnitStore,
    sources: list[SourceUnit],
    tools: BuildTools,
    total_bytes: int,
    report: Report,
) -> list[str | None]:
    done_bytes = 0

    def advance(path: str, count: int) -> None:
        nonlocal done_bytes
        done_bytes += count
        report(Progress(f"indexing {path}", min(done_bytes, total_bytes), total_bytes))

    return [
        _build_source(store, source, tools, partial(advance, source.path)) for source in sources
    ]


def _run_in_processes(
    store: UnitStore,
    sources: list[SourceUnit],
    tools: BuildTools,
    total_bytes: int,
    report: Report,
) -> list[str | None]:
    context = multiprocessing.get_context("spawn")
    counter: Any = context.Value("Q", 0)
    processes = min(tools.limits.processes, len(sources))
    one_thread_each = replace(tools.limits, processes=1)
    mistakes: list[str | None] = []
    with ProcessPoolExecutor(
        processes, context, _start_worker, (counter, store, one_thread_each)
    ) as pool:
        # The largest first, so that no long one is left for the end.
        by_size = sorted(sources, key=lambda source: -source.size_bytes)
        pending: set[Future[str | None]] = {pool.submit(_build_in_worker, one) for one in by_size}
        try:
            while pending:
                done, pending = wait(pending, _POLL_SECONDS, FIRST_COMPLETED)
                mistakes += [future.result() for future in done]
                doing = f"indexed {len(sources) - len(pending)} of {len(sources)} files"
                report(Progress(doing, min(counter.value, total_bytes), total_bytes))
        except BrokenProcessPool as error:
            raise CatalogError(
                "a process that was indexing was killed, perhaps for want of memory; "
                "lower index_processes and index again"
            ) from error
        finally:
            pool.shutdown(cancel_futures=True)
    return mistakes


_build_in_worker_with: Callable[[SourceUnit], str | None] | None = None  # set once a process


def _start_worker(counter: Any, store: UnitStore, limits: BuildLimits) -> None:
    """Make the tools of a worker process; it ends with its parent, also with one that is killed."""
    global _build_in_worker_with

    def advance(count: int) -> None:
        with counter.get_lock():
            counter.value += count

    tools = BuildTools(limits, store.spill_folder)
    _build_in_worker_with = partial(_build_source, store, tools=tools, advance=advance)
    end_with_parent()


def _build_in_worker(source: SourceUnit) -> str | None:
    if _build_in_worker_with is None:
        raise CatalogError("this process was not started to build")
    return _build_in_worker_with(source)
