"""mimicit serve: the service, its catalog built first where it has to be."""

import socket
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Annotated
from urllib.parse import quote

import typer
from rich.console import Console

from app.catalog.build import is_fresh
from app.catalog.catalog import Catalog
from app.catalog.manifest import load_manifest
from app.cli.catalogs import (
    build,
    build_limits,
    catalog_folder,
    fetch,
    load_mounted,
    published_folder,
)
from app.cli.options import CatalogOption, ConfigOption, DataArgument
from app.errors import CatalogError
from app.processes import raise_open_files
from app.progress import Progress, Report
from app.progress_lines import show_progress
from app.settings import load_settings

Prepare = Callable[[Report], object]  # makes the catalog what is to be served


def serve(
    data: DataArgument = None,
    host: Annotated[str | None, typer.Option(help="The address to listen on.")] = None,
    port: Annotated[
        int | None, typer.Option(help="The port to listen on; 0 takes a free one.")
    ] = None,
    workers: Annotated[int | None, typer.Option(help="Server processes.")] = None,
    catalog_dir: CatalogOption = None,
    config: ConfigOption = None,
    catalog: Annotated[
        str | None,
        typer.Option(help="Serve the catalog that `index --publish` put there, and no data YAML."),
    ] = None,
) -> None:
    """Serve a data YAML; its catalog is built first where it is missing or stale."""
    from app import server

    raise_open_files()
    settings = load_settings(
        config, data_yaml=data, host=host, port=port, workers=workers, catalog_dir=catalog_dir
    )
    console = Console(stderr=True, soft_wrap=True)
    if catalog is None:
        data_yaml = load_mounted(settings)
        folder = catalog_folder(data_yaml, settings)
        what, is_ready = str(data_yaml.path), is_fresh(data_yaml, folder, build_limits(settings))
        prepare: Prepare = partial(build, data_yaml, settings)
    else:
        folder = published_folder(catalog, settings)
        what, is_ready = catalog, False
        prepare = partial(fetch, folder, catalog, settings)
    with server.open_socket(settings) as listening:
        if not is_ready:
            with server.answering(listening) as tell, show_progress(console) as show:

                def report(progress: Progress) -> None:
                    tell(progress)
                    show(progress)

                prepare(report)
        _greet(console, what, folder, listening)
        manifest = load_manifest(folder)
        if manifest is None:
            raise CatalogError(f"the catalog in {folder} was removed while it was to be served")
        server.serve(settings, folder, manifest, listening)


def _greet(console: Console, what: str, folder: Path, listening: socket.socket) -> None:
    """Say where the service is, and three things to ask it."""
    host, port = listening.getsockname()[:2]
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    url = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
    console.print(f"serving {what} at {url}", highlight=False, markup=False)
    for called, path in _list_examples(folder):
        console.print(f"  {called:<13} {url}{path}", highlight=False, markup=False)


def _list_examples(folder: Path) -> list[tuple[str, str]]:
    catalog = Catalog(folder, max_open_files=1, page_cache_bytes=0, duckdb_memory_bytes=1)
    with closing(catalog):
        first = quote(next(iter(catalog.datasets)), safe="")
        examples = [("instructions", f"/v1/datasets/{first}/instructions?limit=3")]
        for dataset in catalog.datasets.values():
            keys = dataset.images.list_keys("", "", 1) if dataset.images else []
            if keys:
                path = f"{quote(dataset.name, safe='')}/images/{quote(keys[0][0], safe='')}"
                examples.append(("an image", f"/v1/datasets/{path}"))
                break
    return [*examples, ("API pages", "/docs")]
