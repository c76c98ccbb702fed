"""What a conversion did, told; what it could not do is exit status 3."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import typer
from rich.console import Console

from app.cli.runners import open_runners
from app.convert.images import Converted, convert_images
from app.convert.options import ImageOptions
from app.progress_lines import show_progress
from app.settings import Settings

_REJECTED_STATUS = 3


def run_conversion(
    inputs: Sequence[str],
    destination: Path,
    options: ImageOptions,
    settings: Settings,
    cluster: str | None,
) -> None:
    """Convert, and say how it goes and what was done."""
    console = Console(stderr=True, soft_wrap=True)
    with open_runners(settings, cluster) as choose, show_progress(console) as show:
        converted = convert_images(inputs, destination, options, choose, show)
    _print_converted(console, converted)


def _print_converted(console: Console, converted: Converted) -> None:
    """Say what was written; raises typer.Exit if something was rejected."""

    def say(line: str) -> None:
        console.print(line, highlight=False, markup=False)

    if converted.thrown_away:
        say(
            f"the sources or options are not those of the run before: {converted.thrown_away} "
            "partitions of it were thrown away"
        )
    parts = converted.partitions
    kept = converted.kept_partitions
    files = f"{parts} files" if parts > 1 else "1 file"
    before = f", {kept} of them written by an earlier run" if kept else ""
    say(
        f"{converted.path}: {converted.images:,} images, {converted.size_bytes:,} bytes, "
        f"{files}{before}"
    )
    if converted.is_verified:
        say("every image was compared with its source, and is the same")
    if converted.passed_over:
        say(f"passed over, by suffix, as no pictures: {list_counts(converted.passed_over)}")
    end_with(console, converted.rejected, converted.rejected_path)


def end_with(console: Console, rejected: Mapping[str, int], path: Path | None) -> None:
    """Say what was rejected, if anything was; raises typer.Exit then."""
    if path is not None:
        line = f"rejected: {list_counts(rejected)}; {path} names them all"
        console.print(line, highlight=False, markup=False)
        raise typer.Exit(_REJECTED_STATUS)


def list_counts(counts: Mapping[str, int]) -> str:
    """The counts by name, the largest first."""
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return ", ".join(f"{name} {count:,}" for name, count in ordered)
