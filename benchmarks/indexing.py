"""Building catalogs: megabytes a second, and what each process takes of memory."""

import shutil
import statistics
from collections.abc import Iterator
from pathlib import Path

from app.data_yaml import list_image_files, load_data_yaml
from benchmarks.catalogs import find_catalog, index, open_catalog
from benchmarks.data import Data
from benchmarks.processes import warm
from benchmarks.report import Goal, Result

_RATE_MB = 500
_MEMORY_MB = 1000
_RATE_GOALS = ("pandas", "dask", "json")
_KINDS = {  # of image sets, and what they are called
    "pandas": "pandas' file",
    "dask": "Dask's parts",
    "json": "images.json of the same pictures",
    "one-page": "pandas' file of a single page",
    "zstd": "pandas' file, ZSTD",
}


def run(data: Data, quick: bool, large: bool) -> Iterator[Result]:
    """Index every kind of source with `mimicit index`, a new process and catalog each time."""
    result = Result(
        "Indexing",
        "`mimicit index` from start to end, Python's own start included; the files are in the page "
        "cache. Peak MB is the kernel's high-water mark of the largest process, own MB the same "
        "without mapped files (sampled), all MB the most that the processes had together (what "
        "they share counts for each). On a busy machine CPU seconds say more than seconds.",
        (
            "source",
            "MB",
            "seconds",
            "CPU seconds",
            "MB/s",
            "peak MB",
            "own MB",
            "all MB",
            "read",
        ),
    )
    rounds = 1 if quick else 3
    for kind, called in _KINDS.items():
        _measure(result, called, data, data.image_set(kind).data_yaml, rounds, kind in _RATE_GOALS)
    for size_mb in (30 if quick else 300, *([3000] if large else [])):
        called = f"instructions, {size_mb:,} MB"
        rounds = 1 if size_mb > 300 else rounds
        _measure(result, called, data, data.instructions(size_mb), rounds, False)
    yield result


def _measure(
    result: Result, called: str, data: Data, data_yaml: Path, rounds: int, is_rate_goal: bool
) -> None:
    size_mb = sum(path.stat().st_size for path in _sources(data_yaml)) / 1e6
    runs = []
    for _ in range(rounds):
        shutil.rmtree(data.catalogs, ignore_errors=True)
        warm(data_yaml.parent)
        runs.append(index(data_yaml, data.catalogs))
    seconds = statistics.median(run.seconds for run in runs)
    largest_mb = max(run.largest_bytes for run in runs) / 1e6
    own_mb = max(run.largest_own_bytes for run in runs) / 1e6
    total_mb = max(run.total_bytes for run in runs) / 1e6
    rate = size_mb / seconds
    result.rows.append(
        (
            called,
            f"{size_mb:,.0f}",
            f"{seconds:.2f}",
            f"{statistics.median(run.cpu_seconds for run in runs):.2f}",
            f"{rate:,.0f}",
            f"{largest_mb:,.0f}",
            f"{own_mb:,.0f}",
            f"{total_mb:,.0f}",
            _how_read(data_yaml, data.catalogs),
        )
    )
    if is_rate_goal:
        what = f"indexing {called}, over {_RATE_MB} MB/s"
        result.goals.append(Goal(what, f"{rate:,.0f} MB/s", rate > _RATE_MB))
    what = f"indexing {called}, under {_MEMORY_MB:,} MB a process"
    result.goals.append(Goal(what, f"{largest_mb:,.0f} MB", largest_mb < _MEMORY_MB))


def _sources(data_yaml: Path) -> list[Path]:
    (dataset,) = load_data_yaml(data_yaml).datasets
    images = list_image_files(dataset.images_path) if dataset.images_path else []
    return [Path(dataset.mimicit_path), *images]


def _how_read(data_yaml: Path, catalogs: Path) -> str:
    catalog = open_catalog(find_catalog(data_yaml, catalogs))
    (dataset,) = catalog.datasets.values()
    files = dataset.images.facts.files if dataset.images else []
    readers = {file.reader.replace("_", " ") for file in files}
    # Where DuckDB can not read a file within its memory, and so no sample of it is compared.
    if any(file.value_column and not file.is_compared for file in files):
        readers.add("not compared")
    catalog.close()
    return ", ".join(sorted(readers)) or "table"
