"""mimicit index: build a catalog ahead of serving."""

from typing import Annotated

import typer
from rich.console import Console

from app import mounted
from app.catalog.build import is_fresh
from app.cli.options import CatalogOption, ClusterOption, ConfigOption, DataArgument
from app.cli.runners import open_runners
from app.mounted import build, build_limits, load_mounted, mounted_folder
from app.progress_lines import show_progress
from app.settings import load_settings


def index(
    data: DataArgument = None,
    catalog_dir: CatalogOption = None,
    config: ConfigOption = None,
    cluster: ClusterOption = None,
    publish: Annotated[
        str | None,
        typer.Option(help="Put the catalog there for `serve --catalog`, such as s3://bucket/name."),
    ] = None,
) -> None:
    """Build the catalog of a data YAML, reading only what is new or has changed."""
    settings = load_settings(config, data_yaml=data, catalog_dir=catalog_dir)
    console = Console(stderr=True, soft_wrap=True)
    data_yaml = load_mounted(settings)
    folder = mounted_folder(settings)
    if is_fresh(data_yaml, folder, build_limits(settings)):
        console.print(f"{folder} is up to date")
    else:
        with open_runners(settings, cluster) as choose, show_progress(console) as show:
            manifest = build(data_yaml, settings, show, choose)
        console.print(f"{folder} is built: revision {manifest.revision}", highlight=False)
    if publish is not None:
        with show_progress(console) as show:
            mounted.publish(folder, publish, settings, show)
        console.print(f"published at {publish}", highlight=False, markup=False)
