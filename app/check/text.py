"""A report for a terminal: tables as wide as it is, and no colour where it is none."""

from collections.abc import Iterator, Sequence

from rich.console import Console, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from app.check.kinds import Severity
from app.check.report import DatasetReport, Example, Problem, Report, SourceReport, Suggestion
from app.histogram import Histogram

_STYLES = {Severity.ERROR: "bold red", Severity.WARNING: "yellow", Severity.NOTE: "cyan"}
_MAX_SHARES = 3  # places of a kind that are listed; the JSON has them all
_MAX_CHARS = 200
_INDENT = (0, 0, 0, 2)


def print_report(report: Report, console: Console) -> None:
    """Print the report."""
    console.print(_make_datasets(report.datasets))
    if report.sources:
        console.print(_make_sources(report.sources))
    for source in report.sources:
        for line in _list_slow(source):
            console.print(Padding(line, _INDENT))
    for problem in report.problems:
        console.print()
        for line in _list_lines(problem):
            console.print(line)
    for suggestion in report.suggestions or []:
        console.print()
        for line in _list_suggested(suggestion):
            console.print(line)
    if report.suggestions == []:
        console.print("\nno key rule makes a missing image id resolve")
    console.print()
    console.print(_sum_up(report))


def printable(text: str) -> str:
    """The text with control characters escaped, which would act on a terminal, and not too long."""
    cut = text if len(text) <= _MAX_CHARS else f"{text[:_MAX_CHARS]}…"
    return "".join(one if one.isprintable() else ascii(one)[1:-1] for one in cut)


def _make_datasets(datasets: Sequence[DatasetReport]) -> Table:
    table = Table("dataset", "group", box=None, header_style="bold", pad_edge=False)
    for name in ("instructions", "usable", "draws", "images each", "answer chars"):
        table.add_column(name, justify="right")
    for one in datasets:
        counts = [f"{count:,}" for count in (one.instructions, one.usable, one.draws)]
        spreads = [spread(one.images_per_sample), spread(one.answer_chars)]
        table.add_row(Text(printable(one.name), overflow="fold"), one.group, *counts, *spreads)
    return table


def _make_sources(sources: Sequence[SourceReport]) -> Padding:
    table = Table("images of", "read", box=None, header_style="bold", pad_edge=False)
    for name in ("images", "readable", "MB", "bytes each", "lookup µs"):
        table.add_column(name, justify="right")
    for one in sources:
        lookups = [file.lookup_us for file in one.files if file.lookup_us is not None]
        table.add_row(
            Text(printable(", ".join(one.datasets)), overflow="fold"),
            ", ".join(one.readers),
            f"{one.images:,}",
            f"{one.readable:,}",
            f"{one.stored_bytes / 1e6:,.1f}",
            spread(one.image_bytes),
            f"{max(lookups):,.0f}" if lookups else "",
        )
    return Padding(table, (1, 0, 0, 0))


def spread(histogram: Histogram) -> str:
    """The median, and the greatest if it is another."""
    more = f", max {histogram.greatest:,}" if histogram.greatest > histogram.median else ""
    return f"{histogram.median:,}{more}"


def _list_slow(source: SourceReport) -> Iterator[RenderableType]:
    """Why files are not read in place, once for each reason."""
    reasons: dict[tuple[str, str], list[str]] = {}
    for file in source.files:
        if file.reason is not None:
            reasons.setdefault((file.reader, file.reason), []).append(file.path)
    for (reader, reason), paths in reasons.items():
        more = f" and {len(paths) - 1:,} more" if len(paths) > 1 else ""
        yield _fold(f"{paths[0]}{more}: {reader}, because {reason}")


def _list_lines(problem: Problem) -> Iterator[RenderableType]:
    head = Text()
    head.append(f"{problem.severity} ", _STYLES[problem.severity])
    head.append(f"{problem.kind} {problem.count:,}", "bold")
    head.append(f"  {problem.title}")
    yield head
    for share in problem.where[:_MAX_SHARES] if len(problem.where) > 1 else []:
        yield Padding(_fold(f"{share.count:,} in {', '.join(share.datasets)}"), _INDENT)
    if len(problem.where) > _MAX_SHARES:
        yield Padding(f"and in {len(problem.where) - _MAX_SHARES:,} more", _INDENT)
    for example in problem.examples:
        yield Padding(_fold(_describe(example)), _INDENT)
    if problem.count > len(problem.examples) > 0:
        yield Padding("…", _INDENT)
    yield Padding(Text(problem.advice, "italic"), _INDENT)


def _describe(example: Example) -> str:
    detail = f": {example.detail}" if example.detail else ""
    dataset = f"{example.dataset}  " if example.dataset else ""
    return f"{dataset}{example.name or '(no key)'}{detail}"


def _list_suggested(suggestion: Suggestion) -> Iterator[RenderableType]:
    names = ", ".join(suggestion.datasets)
    yield _fold(
        f"suggested for {names}: {suggestion.missing_before:,} → {suggestion.missing_after:,} "
        f"missing of {suggestion.named:,} image ids"
    )
    yield Padding(Text(suggestion.yaml, no_wrap=True, overflow="ignore"), _INDENT)


def _sum_up(report: Report) -> Text:
    counts = dict.fromkeys(Severity, 0)
    for problem in report.problems:
        counts[problem.severity] += problem.count
    said = ", ".join(
        f"{count:,} {severity}{'s' if count != 1 else ''}" for severity, count in counts.items()
    )
    decoded = "" if report.decoded is None else f"; {report.decoded:,} pictures decoded"
    return Text(f"{said}{decoded}" if report.problems else f"no problems{decoded}")


def _fold(text: str) -> Text:
    return Text(printable(text), overflow="fold")
