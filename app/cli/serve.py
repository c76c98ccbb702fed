"""mimicit serve: the service, its catalog built first where it has to be."""

import signal
import socket
from contextlib import closing
from pathlib import Path
from typing import Annotated
from urllib.parse import quote

import typer
from rich.console import Console

from app.catalog.catalog import Catalog
from app.cli.options import CatalogOption, ConfigOption, DataArgument, PublishedOption
from app.descriptors import raise_limit
from app.logs.log import Log
from app.mounted import load_current, look, make_current, mounted_folder
from app.progress import Progress
from app.progress_lines import show_progress
from app.reloader import Mounted
from app.settings import Settings, load_settings


def serve(
    data: DataArgument = None,
    host: Annotated[str | None, typer.Option(help="The address to listen on.")] = None,
    port: Annotated[
        int | None, typer.Option(help="The port to listen on; 0 takes a free one.")
    ] = None,
    workers: Annotated[int | None, typer.Option(help="Server processes.")] = None,
    catalog_dir: CatalogOption = None,
    tokens_file: Annotated[
        Path | None, typer.Option(help="A file of bearer tokens, a line `name: token` each.")
    ] = None,
    insecure: Annotated[
        bool | None,
        typer.Option("--insecure", help="Listen on other addresses without tokens, too."),
    ] = None,
    tls_cert: Annotated[Path | None, typer.Option(help="Answer https with it (PEM).")] = None,
    tls_key: Annotated[Path | None, typer.Option(help="Its private key (PEM).")] = None,
    catalog: PublishedOption = None,
    config: ConfigOption = None,
) -> None:
    """Serve a data YAML; its catalog is built first where it is missing or stale."""
    from app import server
    from app.main import load_traces

    raise_limit()
    settings = load_settings(
        config,
        data_yaml=data,
        catalog=catalog,
        host=host,
        port=port,
        workers=workers,
        catalog_dir=catalog_dir,
        tokens_file=tokens_file,
        insecure=insecure,
        tls_cert=tls_cert,
        tls_key=tls_key,
    )
    Log(settings.log_format, settings.log_level).take_records()
    console = Console(stderr=True, soft_wrap=True)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # reloads once it serves, and never ends it
    server.check_exposure(settings)
    if settings.traces:
        load_traces()
    seen = look(settings)
    folder = mounted_folder(settings)
    with server.open_socket(settings) as listening:
        manifest = load_current(settings)
        if manifest is None:
            with server.answering(settings, listening) as tell, show_progress(console) as show:

                def report(progress: Progress) -> None:
                    tell(progress)
                    show(progress)

                manifest = make_current(settings, report)
        _greet(console, settings, folder, listening)
        server.serve(settings, Mounted(folder, manifest, seen, look, make_current), listening)


def _greet(console: Console, settings: Settings, folder: Path, listening: socket.socket) -> None:
    """Say where the service is, and three things to ask it."""
    host, port = listening.getsockname()[:2]
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    scheme = "http" if settings.tls_cert is None else "https"
    url = f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"
    what = settings.catalog or settings.data_yaml
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
