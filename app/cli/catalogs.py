"""The data YAML that a command is given, and its catalog."""

from dataclasses import replace
from pathlib import Path

from app.catalog.build import build_catalog, is_fresh
from app.catalog.limits import BuildLimits
from app.catalog.manifest import Manifest, load_manifest
from app.catalog.plan import stamp_sources
from app.catalog.units import fingerprint
from app.data_yaml import DataYaml, load_data_yaml
from app.errors import MimicitError
from app.progress import Report
from app.settings import Settings
from app.tasks.job import ChooseRunner


def load_mounted(settings: Settings) -> DataYaml:
    """The data YAML that the settings name; raises MimicitError if they name none."""
    if settings.data_yaml is None:
        raise MimicitError("no data YAML is given: write its path behind the command")
    return load_data_yaml(settings.data_yaml)


def catalog_folder(data_yaml: DataYaml, settings: Settings) -> Path:
    """The folder, in the settings' catalog_dir, of that data YAML's catalog."""
    return folder_of(data_yaml.path, settings)


def folder_of(data_yaml: Path, settings: Settings) -> Path:
    """The folder of the catalog of the data YAML of that path, which need not be one."""
    path = data_yaml.resolve()
    return settings.catalog_dir.expanduser() / f"{path.stem}-{fingerprint(str(path))[:12]}"


def build_limits(settings: Settings) -> BuildLimits:
    """The settings that bound a build."""
    return BuildLimits(
        settings.max_value_bytes,
        settings.max_page_bytes,
        settings.duckdb_memory_bytes,
        settings.task_processes,
    )


def convert_limits(settings: Settings) -> BuildLimits:
    """The settings that bound each process of a conversion, whose DuckDB has one thread."""
    limits = build_limits(settings)
    return replace(limits, duckdb_memory_bytes=settings.convert_memory_bytes, processes=1)


def build(
    data_yaml: DataYaml, settings: Settings, report: Report, choose: ChooseRunner | None = None
) -> Manifest:
    """Make the catalog what the data YAML calls for, as `build_catalog`."""
    folder = catalog_folder(data_yaml, settings)
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
    """What differs whenever the data YAML or a file it names does; raises MimicitError, OSError."""
    return stamp_sources(load_mounted(settings))


def build_again(settings: Settings, report: Report) -> Manifest:
    """The manifest of the catalog that the data YAML calls for now, built where it has to be."""
    data_yaml = load_mounted(settings)
    folder = catalog_folder(data_yaml, settings)
    manifest = load_manifest(folder)
    if manifest is not None and is_fresh(data_yaml, folder, build_limits(settings)):
        return manifest
    return build(data_yaml, settings, report)
