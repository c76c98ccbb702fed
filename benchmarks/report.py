"""What a benchmark found: tables and goals, shown on a terminal and written as Markdown."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from rich.console import Console
from rich.table import Table


@dataclass(frozen=True, slots=True)
class Goal:
    """A goal, what was measured, and whether that meets it."""

    what: str
    measured: str
    is_met: bool


@dataclass(slots=True)
class Result:
    """One benchmark's table: the first column says what, the others are figures."""

    title: str
    about: str
    columns: Sequence[str]
    rows: list[Sequence[str]] = field(default_factory=list)
    goals: list[Goal] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def show(console: Console, result: Result) -> None:
    """Print a result as a table, with its goals and notes below."""
    table = Table(title=result.title, title_justify="left")
    for number, column in enumerate(result.columns):
        table.add_column(column, justify="right" if number else "left")
    for row in result.rows:
        table.add_row(*row)
    console.print(table)
    for goal in result.goals:
        console.print(f"  {_verdict(goal)}: {goal.what}: {goal.measured}", highlight=False)
    for note in result.notes:
        console.print(f"  {note}", highlight=False, markup=False)


def to_markdown(
    title: str,
    command: str,
    machine: Sequence[str],
    results: Sequence[Result],
    caveats: Sequence[str],
) -> str:
    """The whole page: the goals first, then every table."""
    lines = [f"# {title}", "", f"Written by `{command}`."]
    lines += ["", *(f"- {fact}" for fact in machine)]
    goals = [goal for result in results for goal in result.goals]
    if goals:
        lines += ["", "## Goals", ""]
        lines += markdown_table(
            ["goal", "measured", ""],
            [[goal.what, goal.measured, _verdict(goal)] for goal in goals],
        )
    for result in results:
        lines += ["", f"## {result.title}", "", result.about, ""]
        lines += markdown_table(result.columns, result.rows)
        if result.notes:
            lines += ["", *(f"- {note}" for note in result.notes)]
    lines += ["", "## How far to trust this", "", *(f"- {caveat}" for caveat in caveats)]
    return "\n".join(lines) + "\n"


def _verdict(goal: Goal) -> str:
    return "met" if goal.is_met else "MISSED"


def markdown_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """The lines of a table."""
    marks = ["---", *["---:"] * (len(columns) - 1)]
    return [f"| {' | '.join(cells)} |" for cells in (columns, marks, *rows)]
