"""The data YAML that a command is given, and its catalog."""

from pathlib import Path

from app.catalog.build import build_catalog
from app.catalog.limits import BuildLimits
from app.catalog.manifest import Manifest
from app.catalog.units import fingerprint
from app.data_yaml import DataYaml, load_data_yaml
from app.errors import MimicitError
from app.progress import Report
from app.settings import Settings, object_limits
from app.tasks.job import ChooseRunner


def load_mounted(settings: Settings) -> DataYaml:
    """The data YAML that the settings name; raises MimicitError if they name none."""
    if settings.data_yaml is None:
        raise MimicitError("no data YAML is given: write its path behind the command")
    return load_data_yaml(settings.data_yaml, limits=object_limits(settings))


def catalog_folder(data_yaml: DataYaml, settings: Settings) -> Path:
    """The folder, in the settings' catalog_dir, of that data YAML's catalog."""
    path = data_yaml.path.resolve()
    return settings.catalog_dir.expanduser() / f"{path.stem}-{fingerprint(str(path))[:12]}"


def build_limits(settings: Settings) -> BuildLimits:
    """The settings that bound a build."""
    return BuildLimits(
        settings.max_value_bytes,
        settings.max_page_bytes,
        settings.duckdb_memory_bytes,
        settings.task_processes,
        object_limits(settings),
    )


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
