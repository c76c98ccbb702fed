"""The mimicit command: what it can do, and how it ends."""

import os
import signal
import sys
from typing import Annotated

import typer
from rich.console import Console

from app import __version__
from app.cli.check import check
from app.cli.convert import convert
from app.cli.demo import demo
from app.cli.index import index
from app.cli.reload import reload
from app.cli.repack import repack
from app.cli.serve import serve
from app.errors import MimicitError

app = typer.Typer(
    help="Serve multimodal instruction data over HTTP, read in place from the files it is in.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def _say_version(is_asked: bool) -> None:
    if is_asked:
        typer.echo(f"mimicit {__version__}")
        raise typer.Exit


_Version = Annotated[
    bool,
    typer.Option(
        "--version", help="Print the version and exit.", is_eager=True, callback=_say_version
    ),
]


@app.callback()
def _take_options(version: _Version = False) -> None:
    pass


for command in (serve, reload, index, check, repack, demo):
    app.command()(command)
app.add_typer(convert, name="convert")


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
