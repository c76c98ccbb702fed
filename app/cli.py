"""The command line: serve, index, demo."""

import os
import signal
import socket
import sys
from contextlib import closing
from pathlib import Path
from typing import Annotated
from urllib.parse import quote

import typer
from rich.console import Console

from app.catalog.build import build_catalog, is_fresh
from app.catalog.catalog import Catalog
from app.catalog.limits import BuildLimits
from app.catalog.manifest import Manifest, load_manifest
from app.catalog.progress import Progress, Report
from app.catalog.units import fingerprint
from app.data_yaml import DataYaml, load_data_yaml
from app.demo import write_demo
from app.errors import CatalogError, MimicitError
from app.processes import raise_open_files
from app.progress_lines import show_progress
from app.settings import Settings, load_settings

_DATA_HELP = "The data YAML."
_CONFIG_HELP = "A settings file, as config/server.yaml. MIMICIT_CONFIG names one as well."

app = typer.Typer(
    help="Serve multimodal instruction data over HTTP, read in place from the files it is in.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

DataArgument = Annotated[Path | None, typer.Argument(metavar="DATA.yaml", help=_DATA_HELP)]
ConfigOption = Annotated[Path | None, typer.Option(help=_CONFIG_HELP)]
CatalogOption = Annotated[Path | None, typer.Option(help="Where catalogs are kept.")]


def main() -> None:
    """Run the command; a fact that stops it is one message and exit status 1."""
    # A container's first process gets no signal that it has no handler for. What was being built
    # is left as a crash leaves it: the next build clears it away.
    signal.signal(signal.SIGTERM, lambda *_: os._exit(128 + signal.SIGTERM))
    try:
        app()
    except MimicitError as error:
        Console(stderr=True, soft_wrap=True).print(
            f"mimicit: {error}", markup=False, highlight=False
        )
        sys.exit(1)


@app.command()
def serve(
    data: DataArgument = None,
    host: Annotated[str | None, typer.Option(help="The address to listen on.")] = None,
    port: Annotated[
        int | None, typer.Option(help="The port to listen on; 0 takes a free one.")
    ] = None,
    workers: Annotated[int | None, typer.Option(help="Server processes.")] = None,
    catalog_dir: CatalogOption = None,
    config: ConfigOption = None,
) -> None:
    """Serve a data YAML; its catalog is built first where it is missing or stale."""
    from app import server

    raise_open_files()
    settings = load_settings(
        config, data_yaml=data, host=host, port=port, workers=workers, catalog_dir=catalog_dir
    )
    console = Console(stderr=True, soft_wrap=True)
    data_yaml = _load(settings)
    folder = catalog_folder(data_yaml, settings)
    with server.open_socket(settings) as listening:
        if not is_fresh(data_yaml, folder, build_limits(settings)):
            with server.answering(listening) as tell, show_progress(console) as show:

                def report(progress: Progress) -> None:
                    tell(progress)
                    show(progress)

                _build(data_yaml, settings, report)
        _greet(console, data_yaml, folder, listening)
        manifest = load_manifest(folder)
        if manifest is None:
            raise CatalogError(f"the catalog in {folder} was removed while it was to be served")
        server.serve(settings, folder, manifest, listening)


@app.command()
def index(
    data: DataArgument = None,
    catalog_dir: CatalogOption = None,
    config: ConfigOption = None,
) -> None:
    """Build the catalog of a data YAML, reading only what is new or has changed."""
    settings = load_settings(config, data_yaml=data, catalog_dir=catalog_dir)
    console = Console(stderr=True, soft_wrap=True)
    data_yaml = _load(settings)
    folder = catalog_folder(data_yaml, settings)
    if is_fresh(data_yaml, folder, build_limits(settings)):
        console.print(f"{folder} is up to date")
        return
    with show_progress(console) as show:
        manifest = _build(data_yaml, settings, show)
    console.print(f"{folder} is built: revision {manifest.revision}", highlight=False)


@app.command()
def demo(
    folder: Annotated[Path, typer.Argument(help="The folder to make; it must not be there yet.")],
    images: Annotated[int, typer.Option(min=1, help="How many pictures to draw.")] = 120,
    seed: Annotated[int, typer.Option(help="Another seed draws other pictures.")] = 0,
) -> None:
    """Make a demo data set: pictures drawn here, and true questions and answers about them."""
    console = Console(stderr=True, soft_wrap=True)
    try:
        path = write_demo(folder, images=images, seed=seed)
    except OSError as error:
        raise MimicitError(str(error)) from error
    console.print(f"{path} is written; next: mimicit serve {path}", highlight=False)


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
        settings.index_processes,
    )


def _load(settings: Settings) -> DataYaml:
    if settings.data_yaml is None:
        raise MimicitError("no data YAML is given: mimicit serve DATA.yaml")
    return load_data_yaml(settings.data_yaml)


def _build(data_yaml: DataYaml, settings: Settings, report: Report) -> Manifest:
    folder = catalog_folder(data_yaml, settings)
    limits = build_limits(settings)
    return build_catalog(
        data_yaml, folder, limits, report, wait_seconds=settings.build_wait_seconds
    )


def _greet(console: Console, data_yaml: DataYaml, folder: Path, listening: socket.socket) -> None:
    """Say where the service is, and three things to ask it."""
    host, port = listening.getsockname()[:2]
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    url = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
    console.print(f"serving {data_yaml.path} at {url}", highlight=False, markup=False)
    for what, path in _list_examples(data_yaml, folder):
        console.print(f"  {what:<13} {url}{path}", highlight=False, markup=False)


def _list_examples(data_yaml: DataYaml, folder: Path) -> list[tuple[str, str]]:
    instructions = f"/v1/datasets/{quote(data_yaml.datasets[0].name, safe='')}/instructions?limit=3"
    examples = [("instructions", instructions)]
    catalog = Catalog(folder, max_open_files=1, page_cache_bytes=0, duckdb_memory_bytes=1)
    with closing(catalog):
        for dataset in catalog.datasets.values():
            keys = dataset.images.list_keys("", "", 1) if dataset.images else []
            if keys:
                path = f"{quote(dataset.name, safe='')}/images/{quote(keys[0][0], safe='')}"
                examples.append(("an image", f"/v1/datasets/{path}"))
                break
    return [*examples, ("API pages", "/docs")]
