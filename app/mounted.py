"""What the settings have mounted, a data YAML or a published catalog, and the catalog of it."""

from dataclasses import replace
from pathlib import Path

from app.catalog.build import build_catalog, is_fresh
from app.catalog.limits import BuildLimits
from app.catalog.manifest import Manifest, load_manifest
from app.catalog.plan import stamp_sources
from app.catalog.publish import fetch_catalog, publish_catalog, stamp_published
from app.catalog.units import fingerprint
from app.data_yaml import DataYaml, load_data_yaml
from app.errors import MimicitError
from app.progress import Report
from app.settings import Settings, object_limits
from app.storage import Objects
from app.tasks.job import ChooseRunner


def load_mounted(settings: Settings) -> DataYaml:
    """The data YAML that the settings name; raises MimicitError if they name none."""
    return load_data_yaml(_get_data_yaml(settings), limits=object_limits(settings))


def _get_data_yaml(settings: Settings) -> Path:
    if settings.data_yaml is None:
        raise MimicitError("no data YAML is given: write its path behind the command")
    return settings.data_yaml


def mounted_folder(settings: Settings) -> Path:
    """The folder, in the settings' catalog_dir, of the catalog of their data YAML, which need not
    be one, or of the published one; raises MimicitError if they name neither."""
    if settings.catalog is not None:
        name = f"published-{fingerprint(settings.catalog.rstrip('/'))[:12]}"
    else:
        path = _get_data_yaml(settings).resolve()
        name = f"{path.stem}-{fingerprint(str(path))[:12]}"
    return settings.catalog_dir.expanduser() / name


def publish(folder: Path, address: str, settings: Settings, report: Report) -> None:
    """Put the catalog in the folder behind the address, as `publish_catalog`."""
    objects = Objects(object_limits(settings))
    publish_catalog(folder, address, objects, report, wait_seconds=settings.build_wait_seconds)


def fetch(folder: Path, address: str, settings: Settings, report: Report) -> Manifest:
    """Make the catalog in the folder the one behind the address, as `fetch_catalog`."""
    objects = Objects(object_limits(settings))
    return fetch_catalog(address, folder, objects, report, wait_seconds=settings.build_wait_seconds)


def build_limits(settings: Settings) -> BuildLimits:
    """The settings that bound a build."""
    return BuildLimits(
        settings.max_value_bytes,
        settings.max_page_bytes,
        settings.duckdb_memory_bytes,
        settings.task_processes,
        object_limits(settings),
    )


def convert_limits(settings: Settings) -> BuildLimits:
    """The settings that bound each process of a conversion, whose DuckDB has one thread."""
    limits = build_limits(settings)
    return replace(limits, duckdb_memory_bytes=settings.convert_memory_bytes, processes=1)


def build(
    data_yaml: DataYaml, settings: Settings, report: Report, choose: ChooseRunner | None = None
) -> Manifest:
    """Make the catalog what the data YAML calls for, as `build_catalog`."""
    folder = mounted_folder(settings)
    limits = build_limits(settings)
    return build_catalog(
        data_yaml,
        folder,
        limits,
        report,
        wait_seconds=settings.build_wait_seconds,
        choose=choose,
    )


def look(settings: Settings) -> object:
    """What differs whenever what is to be served does; raises MimicitError and OSError."""
    if settings.catalog is not None:
        return stamp_published(settings.catalog, Objects(object_limits(settings)))
    return stamp_sources(load_mounted(settings), build_limits(settings))


def load_current(settings: Settings) -> Manifest | None:
    """The manifest of the catalog that is to be served now, if it is here and made."""
    if settings.catalog is not None:
        return None  # the store says what it is
    data_yaml = load_mounted(settings)
    folder = mounted_folder(settings)
    return load_manifest(folder) if is_fresh(data_yaml, folder, build_limits(settings)) else None


def make_current(settings: Settings, report: Report) -> Manifest:
    """The manifest of the catalog that is to be served now, built or fetched where it has to be."""
    if settings.catalog is not None:
        return fetch(mounted_folder(settings), settings.catalog, settings, report)
    return load_current(settings) or build(load_mounted(settings), settings, report)
