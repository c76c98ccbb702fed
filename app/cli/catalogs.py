"""The data YAML that a command is given, and its catalog."""

from pathlib import Path

from app.catalog.build import build_catalog
from app.catalog.limits import BuildLimits
from app.catalog.manifest import Manifest
from app.catalog.publish import fetch_catalog, publish_catalog
from app.catalog.units import fingerprint
from app.data_yaml import DataYaml, load_data_yaml
from app.errors import MimicitError
from app.progress import Report
from app.settings import Settings, object_limits
from app.storage import Objects
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


def published_folder(address: str, settings: Settings) -> Path:
    """The folder, in the settings' catalog_dir, of the catalog that is fetched from there."""
    name = f"published-{fingerprint(address.rstrip('/'))[:12]}"
    return settings.catalog_dir.expanduser() / name


def publish(folder: Path, address: str, settings: Settings, report: Report) -> None:
    """Put the catalog in the folder behind the address, as `publish_catalog`."""
    objects = Objects(object_limits(settings))
    publish_catalog(folder, address, objects, report, wait_seconds=settings.build_wait_seconds)


def fetch(folder: Path, address: str, settings: Settings, report: Report) -> None:
    """Make the catalog in the folder the one behind the address, as `fetch_catalog`."""
    objects = Objects(object_limits(settings))
    fetch_catalog(address, folder, objects, report, wait_seconds=settings.build_wait_seconds)


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
