"""The command line of the benchmarks."""

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from benchmarks import (
    batch_memory,
    batches,
    converting,
    indexing,
    lookup,
    opening,
    resizing,
    serving,
)
from benchmarks.data import Data
from benchmarks.machine import describe
from benchmarks.report import Result, show, to_markdown

_COMMAND = "python -m benchmarks --large --write docs/benchmarks.md"
_CAVEATS = (
    "One machine, virtual and shared with other work: trust the ratios, which are measured in one "
    "run with the two sides taking turns, more than the times.",
    "Files are read into the page cache before they are measured; the machine drops it at times, "
    "and then a read waits for a disk. Where that can be seen, it is counted.",
    "Pictures are random bytes, which compress as little as JPEG does, but where they are resized; "
    "nowhere else is decoding them to pixels part of a figure.",
    "wrk sends the next request when it has the last answer, so its latencies are those of a "
    "server that is as busy as it can be, and do not show what waits in front of it.",
)


class Name(StrEnum):
    """The benchmarks."""

    LOOKUP = "lookup"
    INDEX = "index"
    CONVERT = "convert"
    HTTP = "http"
    OPEN = "open"
    BATCHES = "batches"
    RESIZING = "resizing"
    MEMORY = "memory"


app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def main(
    names: Annotated[list[Name] | None, typer.Argument(help="Which; by default all.")] = None,
    size_mb: Annotated[
        int | None, typer.Option(min=50, help="Stored size of a data set: 2000, or 200 if quick.")
    ] = None,
    folder: Annotated[
        Path | None, typer.Option(help="Keep the data here, for the next run. [default: removed]")
    ] = None,
    quick: Annotated[bool, typer.Option(help="Less of everything; proves that it runs.")] = False,
    large: Annotated[bool, typer.Option(help="Also index 3 GB of instructions.")] = False,
    write: Annotated[Path | None, typer.Option(help="Write the results as Markdown.")] = None,
) -> None:
    """Measure the service against its goals and its peers."""
    console = Console(stderr=True, width=120)
    machine = describe()
    results: list[Result] = []
    temporary = tempfile.TemporaryDirectory(prefix="mimicit-bench-") if folder is None else None
    with temporary or nullcontext(str(folder)) as name:
        size = size_mb or (200 if quick else 2000)
        data = Data(Path(name).resolve(), size, lambda what: console.print(f"({what})"))
        runs: dict[Name, Callable[[], Iterator[Result]]] = {
            Name.LOOKUP: lambda: lookup.run(data, quick),
            Name.INDEX: lambda: indexing.run(data, quick, large),
            Name.CONVERT: lambda: converting.run(data, quick),
            Name.HTTP: lambda: serving.run(data, quick),
            Name.OPEN: lambda: opening.run(data, quick),
            Name.BATCHES: lambda: batches.run(data, quick),
            Name.RESIZING: lambda: resizing.run(data, quick),
            Name.MEMORY: lambda: batch_memory.run(data, quick),
        }
        for chosen in names or list(Name):
            for result in runs[chosen]():
                show(console, result)
                results.append(result)
                if write is not None:  # each time, so that what is measured is not lost
                    load = f"Load average at the end: {os.getloadavg()[0]:.1f}."
                    facts = [*machine, f"Data sets of {size:,} MB{', quick' * quick}. {load}"]
                    write.parent.mkdir(parents=True, exist_ok=True)
                    write.write_text(to_markdown("Benchmarks", _COMMAND, facts, results, _CAVEATS))


if __name__ == "__main__":
    app()
