"""The command line of the endurance runs."""

from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from benchmarks.endurance import connections, faults, mixed, store
from benchmarks.machine import describe
from benchmarks.report import Result, show, to_markdown

_COMMAND = "python -m benchmarks.endurance --write docs/endurance.md"
_CAVEATS = (
    "One machine, virtual and shared with other work; the clients are one process of it, and take "
    "more of the cores than the service does.",
    "What the death of a replica does behind nginx and on Ray Serve, and of a machine, is not here "
    "but in `tests/test_nginx.py` and `tests/test_serve_cluster.py`: no wrong answer, and no "
    "request of `mimicit_client` lost.",
)
_PICTURES = 1000


class Name(StrEnum):
    """The runs."""

    MIXED = "mixed"
    CONNECTIONS = "connections"
    FAULTS = "faults"
    STORE = "store"


app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def main(
    names: Annotated[list[Name] | None, typer.Argument(help="Which; by default all.")] = None,
    seconds: Annotated[int, typer.Option(min=10, help="Of the mixed load.")] = 600,
    write: Annotated[Path | None, typer.Option(help="Write the results as Markdown.")] = None,
) -> None:
    """Put load on the service, break what is beneath it, and count what is not right."""
    console = Console(stderr=True, width=140)
    runs = {
        Name.MIXED: lambda: mixed.run(seconds, connections=256, pictures=_PICTURES),
        Name.CONNECTIONS: lambda: connections.run(30, idle=5000, slow=500, pictures=_PICTURES),
        Name.FAULTS: lambda: faults.run(10, connections=64, pictures=_PICTURES),
        Name.STORE: lambda: store.run(10, connections=16, pictures=100),
    }
    results: list[Result] = []
    for name in names or list(Name):
        found: Iterator[Result] = runs[name]()
        for result in found:
            show(console, result)
            results.append(result)
            if write is not None:
                page = to_markdown("Endurance", _COMMAND, describe(), results, _CAVEATS)
                write.write_text(page)
    if not all(goal.is_met for result in results for goal in result.goals):
        raise typer.Exit(1)


if __name__ == "__main__":
    app()
