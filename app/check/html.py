"""A report as one web page: nothing is loaded from elsewhere, nothing runs, all text is escaped."""

from jinja2 import Environment, PackageLoader, StrictUndefined

from app.charts import Bar, draw_bars, draw_histogram
from app.check.report import Report
from app.check.text import printable, spread
from app.histogram import Histogram

_MAX_CHARTS = 100  # datasets with charts: 6 KB each, and nobody looks at more


def render_html(report: Report) -> str:
    """The page."""
    environment = Environment(
        loader=PackageLoader("app.check"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "thousands": _with_commas,
        "megabytes": _megabytes,
        "shown": printable,
        "spread": spread,
    }
    environment.globals |= {"histogram": _chart, "max_charts": _MAX_CHARTS}
    page = environment.get_template("report.html")
    bars = [Bar(one.kind, one.count, one.severity) for one in report.problems]
    chart = draw_bars("Problems by kind", bars, "problems")
    return page.render(report=report, problems_chart=chart, severities=_count_severities(report))


def _chart(title: str, of: Histogram, unit: str) -> str:
    return draw_histogram(title, of.edges, of.counts, unit)


def _count_severities(report: Report) -> dict[str, int]:
    counts = {"error": 0, "warning": 0, "note": 0}
    for problem in report.problems:
        counts[problem.severity] += problem.count
    return counts


def _with_commas(number: float) -> str:
    return f"{number:,.0f}"


def _megabytes(size_bytes: int) -> str:
    return f"{size_bytes / 1e6:,.1f}"
