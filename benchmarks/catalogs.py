"""The service's own catalogs of the data sets, made by its command line."""

from pathlib import Path

from app.catalog.catalog import Catalog
from app.mounted import mounted_folder
from app.settings import load_settings
from benchmarks.processes import MIMICIT, Run, run_measured


def index(data_yaml: Path, catalogs: Path) -> Run:
    """Run `mimicit index` on the data YAML."""
    return run_measured([*MIMICIT, "index", str(data_yaml), "--catalog-dir", str(catalogs)])


def find_catalog(data_yaml: Path, catalogs: Path) -> Path:
    """The folder in which `index` puts the catalog."""
    return mounted_folder(load_settings(data_yaml=data_yaml, catalog_dir=catalogs))


def open_catalog(folder: Path) -> Catalog:
    """A catalog opened with the limits that a worker has by default."""
    settings = load_settings()
    return Catalog(
        folder,
        max_open_files=settings.max_open_files,
        page_cache_bytes=settings.page_cache_bytes,
        duckdb_memory_bytes=settings.duckdb_memory_bytes,
    )
