"""Builds a catalog: every unit that is not there yet, then the manifest that names them all."""

import multiprocessing
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import partial
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from app.catalog.dataset import DatasetFacts, build_dataset
from app.catalog.image_file import index_file
from app.catalog.image_source import ImageFacts, build_images
from app.catalog.instructions import InstructionFacts, build_instructions
from app.catalog.limits import BuildLimits
from app.catalog.lock import build_lock
from app.catalog.manifest import (
    DatasetEntry,
    Manifest,
    compute_revision,
    load_manifest,
    save_manifest,
)
from app.catalog.plan import DatasetPlan, plan_catalog
from app.catalog.progress import Progress, Report
from app.catalog.units import FORMAT_VERSION, UnitStore
from app.data_yaml import DataYaml
from app.errors import CatalogError, SourceError

# Below this a second process takes longer to start than the work takes.
_PARALLEL_BYTES = 64 << 20
_POLL_SECONDS = 0.1

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class _Task:
    """A unit to be made by reading one file."""

    name: str
    path: str
    size_bytes: int
    key_column: str | None = None
    value_column: str | None = None


def is_fresh(data_yaml: DataYaml, folder: Path, limits: BuildLimits) -> bool:
    """Whether the catalog in `folder` is what the data YAML and its files call for now."""
    manifest = load_manifest(folder)
    if manifest is None:
        return False
    store = UnitStore(folder / "units")
    plans = plan_catalog(data_yaml, limits)
    return [_entry(plan) for plan in plans] == manifest.datasets and all(
        store.has(name) for entry in manifest.datasets for name in entry.units
    )


def build_catalog(
    data_yaml: DataYaml,
    folder: Path,
    limits: BuildLimits,
    report: Report,
    *,
    wait_seconds: float,
) -> Manifest:
    """Make the catalog in `folder` what the data YAML calls for, and return its manifest.

    Only what is missing or stale is built; the manifest is replaced last, so a reader and a crash
    have the old catalog or the new one. Raises CatalogError, with every source that can not be
    read, and leaves the old catalog in place.
    """
    store = UnitStore(folder / "units")
    try:
        with build_lock(folder, lambda who: report(Progress(f"waiting for {who}")), wait_seconds):
            before = load_manifest(folder)
            kept = {name for entry in before.datasets for name in entry.units} if before else set()
            plans = plan_catalog(data_yaml, limits)
            _build_sources(store, plans, limits, report)
            _build_joined(store, plans, limits, report)
            entries = [_entry(plan) for plan in plans]
            revision = compute_revision(data_yaml.meaning(), list(_digests(store, entries)))
            manifest = Manifest(FORMAT_VERSION, revision, entries)
            save_manifest(folder, manifest)
            # A server that runs may still open the catalog before this one: it stays once more.
            store.remove_all_but(kept.union(*(entry.units for entry in entries)))
            return manifest
    except SourceError as error:
        raise CatalogError(f"a source can not be served: {error}") from error
    except OSError as error:
        raise CatalogError(
            f"the catalog in {folder} can not be built: {error.strerror or error} "
            f"({error.filename or 'no file named'})"
        ) from error


def _entry(plan: DatasetPlan) -> DatasetEntry:
    dataset = plan.dataset
    return DatasetEntry(
        dataset.name,
        dataset.group,
        dataset.num_samples,
        dataset.task_description,
        plan.instructions.name,
        [file.name for file in plan.image_files],
        plan.images,
        plan.unit,
    )


def _digests(store: UnitStore, entries: list[DatasetEntry]) -> Iterator[str]:
    for entry in entries:
        yield _facts(store, entry.instructions, InstructionFacts).digest
        yield _facts(store, entry.images, ImageFacts).digest if entry.images else ""
        yield _facts(store, entry.unit, DatasetFacts).digest


def _facts(store: UnitStore, name: str, kind: type[T]) -> T:
    return msgspec.json.decode((store.path(name) / "unit.json").read_bytes(), type=kind)


def _build_sources(
    store: UnitStore, plans: list[DatasetPlan], limits: BuildLimits, report: Report
) -> None:
    tasks: dict[str, _Task] = {}
    for plan in plans:
        source = plan.instructions
        tasks[source.name] = _Task(source.name, source.path, source.size_bytes)
        columns = (plan.dataset.key_column, plan.dataset.value_column)
        for file in plan.image_files:
            tasks[file.name] = _Task(file.name, file.path, file.size_bytes, *columns)
    missing = [task for name, task in tasks.items() if not store.has(name)]
    total_bytes = sum(task.size_bytes for task in missing)
    is_parallel = min(limits.processes, len(missing)) > 1 and total_bytes >= _PARALLEL_BYTES
    run = _run_in_processes if is_parallel else _run_here
    mistakes = run(store, missing, limits, total_bytes, report)
    if mistakes:
        raise CatalogError("\n".join(["sources that can not be served:", *sorted(mistakes)]))


def _build_source(
    store: UnitStore, task: _Task, limits: BuildLimits, advance: Callable[[int], None]
) -> str | None:
    """Build a unit; what is wrong with its source, or None."""
    try:
        with store.create(task.name) as folder:
            if task.name.startswith("file-"):
                index_file(task.path, task.key_column, task.value_column, limits, folder, advance)
            else:
                build_instructions(task.path, limits, folder, advance)
    except SourceError as error:
        return str(error)
    return None


def _run_here(
    store: UnitStore, tasks: list[_Task], limits: BuildLimits, total_bytes: int, report: Report
) -> list[str]:
    mistakes = []
    done_bytes = 0

    def advance(path: str, count: int) -> None:
        nonlocal done_bytes
        done_bytes += count
        report(Progress(f"indexing {path}", min(done_bytes, total_bytes), total_bytes))

    for task in tasks:
        mistakes.append(_build_source(store, task, limits, partial(advance, task.path)))
    return [mistake for mistake in mistakes if mistake]


def _run_in_processes(
    store: UnitStore, tasks: list[_Task], limits: BuildLimits, total_bytes: int, report: Report
) -> list[str]:
    context = multiprocessing.get_context("spawn")
    counter: Any = context.Value("Q", 0)
    one_each = BuildLimits(
        limits.max_value_bytes, limits.max_page_bytes, limits.duckdb_memory_bytes, 1
    )
    with ProcessPoolExecutor(
        min(limits.processes, len(tasks)), context, _start_worker, (counter,)
    ) as pool:
        # The largest first, so that no long one is left for the end.
        by_size = sorted(tasks, key=lambda task: -task.size_bytes)
        pending: set[Future[str | None]] = {
            pool.submit(_build_in_worker, store, task, one_each) for task in by_size
        }
        mistakes = []
        try:
            while pending:
                done, pending = wait(pending, _POLL_SECONDS, FIRST_COMPLETED)
                mistakes += [future.result() for future in done]
                count = len(tasks) - len(pending)
                report(
                    Progress(
                        f"indexed {count} of {len(tasks)} files",
                        min(counter.value, total_bytes),
                        total_bytes,
                    )
                )
        except BrokenProcessPool as error:
            raise CatalogError(
                "a process that was indexing was killed, perhaps for want of memory; "
                "lower index_processes and index again"
            ) from error
        finally:
            pool.shutdown(cancel_futures=True)
    return [mistake for mistake in mistakes if mistake]


_counter: Any = None  # of the worker process, which has no other way to be handed it


def _start_worker(counter: Any) -> None:
    global _counter
    _counter = counter
    parent = multiprocessing.parent_process()
    if parent is not None:  # a worker would otherwise outlive a parent that is killed
        threading.Thread(target=_exit_with, args=(parent,), daemon=True).start()


def _exit_with(parent: BaseProcess) -> None:
    parent.join()
    os._exit(1)


def _build_in_worker(store: UnitStore, task: _Task, limits: BuildLimits) -> str | None:
    def advance(count: int) -> None:
        with _counter.get_lock():
            _counter.value += count

    return _build_source(store, task, limits, advance)


def _build_joined(
    store: UnitStore, plans: list[DatasetPlan], limits: BuildLimits, report: Report
) -> None:
    for plan in plans:
        if plan.images is not None and not store.has(plan.images):
            report(Progress(f"sorting the keys of {plan.dataset.images_path}"))
            units = [store.path(file.name) for file in plan.image_files]
            with store.create(plan.images) as folder:
                build_images(units, limits, folder)
        if not store.has(plan.unit):
            report(Progress(f"joining dataset {plan.dataset.name}"))
            config = plan.dataset.train_config_path
            with store.create(plan.unit) as folder:
                build_dataset(
                    store.path(plan.instructions.name),
                    None if plan.images is None else store.path(plan.images),
                    None if config is None else str(config),
                    limits,
                    folder,
                    lambda _: None,
                )
