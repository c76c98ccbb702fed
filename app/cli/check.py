"""mimicit check: what is wrong with a data set, before anybody trains on it."""

import sys
from contextlib import closing
from pathlib import Path
from typing import Annotated

import msgspec
import typer
from rich.console import Console

from app.catalog.build import is_fresh
from app.catalog.catalog import Catalog
from app.catalog.questions import Questions
from app.catalog.units import UnitStore, replace_file
from app.check.decode import DecodePictures
from app.check.html import render_html
from app.check.kinds import parse_fail_on
from app.check.report import Report
from app.check.run import Options, check_catalog
from app.check.text import print_report
from app.cli.options import CatalogOption, ClusterOption, ConfigOption, DataArgument
from app.cli.runners import open_runners
from app.data_yaml import DataYaml
from app.descriptors import raise_limit
from app.errors import MimicitError
from app.mounted import build, build_limits, load_mounted, mounted_folder
from app.progress import Report as Tell
from app.progress_lines import show_progress
from app.settings import Settings, load_settings
from app.tasks.job import ChooseRunner

_STDOUT = Path("-")


def check(
    data: DataArgument = None,
    fail_on: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KIND[,KIND…]",
            help="Kinds of problems that exit status 1 comes with: their names, errors, any, none.",
            show_default="errors",
        ),
    ] = None,
    json: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the report as JSON; - is stdout.")
    ] = None,
    html: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the report as a web page.")
    ] = None,
    examples: Annotated[
        int, typer.Option(min=0, max=1000, help="Examples of each kind, at most.")
    ] = 5,
    decode: Annotated[bool, typer.Option("--decode", help="Decode every picture as well.")] = False,
    suggest: Annotated[
        bool, typer.Option("--suggest", help="Propose key rules for missing images.")
    ] = False,
    catalog_dir: CatalogOption = None,
    config: ConfigOption = None,
    cluster: ClusterOption = None,
) -> None:
    """Say what is wrong with a data YAML's files, with counts, examples and advice."""
    try:
        kinds = parse_fail_on(fail_on or ["errors"])
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--fail-on") from error
    if json == html == _STDOUT:
        raise typer.BadParameter("only one of --json and --html can be -")
    raise_limit()
    settings = load_settings(config, data_yaml=data, catalog_dir=catalog_dir)
    data_yaml = load_mounted(settings)
    console = Console(stderr=True, soft_wrap=True)
    with open_runners(settings, cluster) as choose, show_progress(console) as tell:
        report = _check(data_yaml, settings, examples, decode, suggest, choose, tell)
    if json is not None:
        _write(json, msgspec.json.format(msgspec.json.encode(report)) + b"\n")
    if html is not None:
        _write(html, render_html(report).encode())
    if _STDOUT not in (json, html):
        print_report(report, Console(highlight=False))
    raise typer.Exit(1 if report.count_kinds(kinds) else 0)


def _check(
    data_yaml: DataYaml,
    settings: Settings,
    examples: int,
    is_decoding: bool,
    is_suggesting: bool,
    choose: ChooseRunner,
    tell: Tell,
) -> Report:
    folder = mounted_folder(settings)
    if not is_fresh(data_yaml, folder, build_limits(settings)):
        build(data_yaml, settings, tell, choose)
    catalog = Catalog(
        folder,
        max_open_files=settings.max_open_files,
        page_cache_bytes=settings.page_cache_bytes,
        duckdb_memory_bytes=settings.duckdb_memory_bytes,
    )
    decode = DecodePictures(
        settings.max_image_pixels, settings.page_cache_bytes, settings.duckdb_memory_bytes
    )
    options = Options(
        examples,
        decode if is_decoding else None,
        {one.name: one.key_rules for one in data_yaml.datasets} if is_suggesting else None,
    )
    spill_folder = UnitStore(folder / "units").spill_folder
    memory_bytes, threads = settings.duckdb_memory_bytes, settings.task_processes
    with closing(catalog), Questions(memory_bytes, threads, spill_folder) as questions:
        return check_catalog(catalog, str(data_yaml.path), questions, options, choose, tell)


def _write(path: Path, data: bytes) -> None:
    if path == _STDOUT:
        sys.stdout.buffer.write(data)
        sys.stdout.flush()
        return
    try:
        if path.exists() and not path.is_file():
            path.write_bytes(data)  # a pipe or /dev/null, which nothing may take the place of
        else:
            replace_file(path.resolve(), data)
    except OSError as error:
        raise MimicitError(f"{path} can not be written: {error.strerror}") from error
