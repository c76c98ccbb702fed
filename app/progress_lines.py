"""Progress on a terminal as a bar, and in a log as plain lines."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.progress import Progress as Bar

from app.progress import Progress, Report

_LINE_SECONDS = 5.0  # a log wants to know that it goes on, not how every file goes


@contextmanager
def show_progress(console: Console) -> Iterator[Report]:
    """Yields what takes the progress to show."""
    if not console.is_terminal:
        yield _lines(console)
        return
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Bar(*columns, console=console, transient=True) as bar:
        task = bar.add_task("starting", total=None)

        def show(progress: Progress) -> None:
            total = progress.total_bytes or None
            bar.update(task, description=progress.doing, completed=progress.done_bytes, total=total)

        yield show


def _lines(console: Console) -> Report:
    last_seconds = 0.0
    last_doing = ""

    def show(progress: Progress) -> None:
        nonlocal last_seconds, last_doing
        now = time.monotonic()
        is_news = progress.doing != last_doing and not progress.total_bytes
        if not is_news and now - last_seconds < _LINE_SECONDS:
            return
        last_seconds, last_doing = now, progress.doing
        done, total = progress.done_bytes, progress.total_bytes
        share = f": {done / 1e6:,.0f} of {total / 1e6:,.0f} MB" if total else ""
        console.print(f"{progress.doing}{share}", highlight=False, markup=False)

    return show
