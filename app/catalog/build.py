"""Builds a catalog: every unit that is not there yet, then the manifest that names them all."""

import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TypeVar

import msgspec

from app.catalog.dataset import DatasetFacts, build_dataset
from app.catalog.holds import add_hold, remove_unheld
from app.catalog.image_source import ImageFacts, build_images
from app.catalog.instructions import InstructionFacts
from app.catalog.limits import BuildLimits
from app.catalog.lock import build_lock
from app.catalog.manifest import (
    DatasetEntry,
    Manifest,
    compute_revision,
    load_manifest,
    save_manifest,
)
from app.catalog.plan import DatasetPlan, SourceUnit, plan_catalog
from app.catalog.sources import build_sources, check_unchanged
from app.catalog.tools import BuildTools
from app.catalog.units import FORMAT_VERSION, UnitStore
from app.data_yaml import DataYaml
from app.errors import CatalogError, SourceError
from app.progress import Progress, Report
from app.tasks.job import ChooseRunner
from app.tasks.processes import choose_runner

T = TypeVar("T")


def is_fresh(data_yaml: DataYaml, folder: Path, limits: BuildLimits) -> bool:
    """Whether the catalog in `folder` is what the data YAML and its files call for now."""
    manifest = load_manifest(folder)
    if manifest is None:
        return False
    store = UnitStore(folder / "units")
    plans = plan_catalog(data_yaml, limits)
    return [_entry(plan) for plan in plans] == manifest.datasets and all(
        map(store.has, manifest.units)
    )


def build_catalog(
    data_yaml: DataYaml,
    folder: Path,
    limits: BuildLimits,
    report: Report,
    *,
    wait_seconds: float,
    choose: ChooseRunner | None = None,
) -> Manifest:
    """Make the catalog in `folder` what the data YAML calls for, and return its manifest.

    Sources are read in processes of this machine, unless `choose` has them read elsewhere. Only
    what is missing or stale is built; the manifest is replaced last, so a reader and a crash
    have the old catalog or the new one. Raises CatalogError, with every source that can not be
    read, and leaves the old catalog in place.
    """
    store = UnitStore(folder / "units")
    choose = choose or partial(choose_runner, limits.processes)
    try:
        with build_lock(folder, lambda who: report(Progress(f"waiting for {who}")), wait_seconds):
            plans = plan_catalog(data_yaml, limits)
            _build_sources(store, plans, limits, choose, report)
            with BuildTools(limits, store.spill_folder) as tools:
                _build_joined(store, plans, tools, report)
            entries = [_entry(plan) for plan in plans]
            revision = compute_revision(data_yaml.meaning(), list(_digests(store, entries)))
            manifest = Manifest(FORMAT_VERSION, revision, entries, int(time.time()))
            add_hold(folder, manifest)
            save_manifest(folder, manifest)
            remove_unheld(folder, manifest)
            return manifest
    except SourceError as error:
        raise CatalogError(f"a source can not be served: {error}") from error
    except OSError as error:
        raise CatalogError(
            f"the catalog in {folder} can not be built: {error.strerror or error} "
            f"({error.filename or 'no file named'})"
        ) from error


def clean_catalog(folder: Path) -> bool:
    """Remove the units that nobody uses any more; whether any that is not served anew is left.

    Raises CatalogError if the catalog is being built, and OSError if units can not be removed.
    """
    with build_lock(folder, lambda _: None, 0):
        manifest = load_manifest(folder)
        return manifest is not None and remove_unheld(folder, manifest)


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
    store: UnitStore,
    plans: list[DatasetPlan],
    limits: BuildLimits,
    choose: ChooseRunner,
    report: Report,
) -> None:
    sources: dict[str, SourceUnit] = {}
    for plan in plans:
        for source in (plan.instructions, *plan.image_files):
            sources[source.name] = source
    missing = [source for name, source in sources.items() if not store.has(name)]
    mistakes = build_sources(store, missing, limits, choose, report)
    if mistakes:
        raise CatalogError("\n".join(["sources that can not be served:", *sorted(mistakes)]))


def _build_joined(
    store: UnitStore, plans: list[DatasetPlan], tools: BuildTools, report: Report
) -> None:
    for plan in plans:
        if plan.images is not None and not store.has(plan.images):
            report(Progress(f"sorting the keys of {plan.dataset.images_path}"))
            units = [store.path(file.name) for file in plan.image_files]
            with store.create(plan.images) as folder:
                build_images(units, tools.joins, folder)
        if not store.has(plan.unit):
            report(Progress(f"joining dataset {plan.dataset.name}"))
            config = plan.dataset.train_config_path
            with store.create(plan.unit) as folder:
                build_dataset(
                    store.path(plan.instructions.name),
                    None if plan.images is None else store.path(plan.images),
                    None if config is None else str(config),
                    tools,
                    folder,
                )
                if config is not None and plan.train_config is not None:
                    check_unchanged(str(config), plan.train_config, tools.objects)
