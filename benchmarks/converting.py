"""Converting a legacy images.json: against the format's published script, and against a copy."""

import shutil
import statistics
import sys
from collections.abc import Iterator
from pathlib import Path

import duckdb

from benchmarks.data import Data
from benchmarks.processes import MIMICIT, Run, run_measured, warm
from benchmarks.report import Goal, Result

_FASTER = 5
_MEMORY_SHARE = 20
# The steps of the format's own script for making Parquet of an images.json, without its options.
_PUBLISHED = """
import json, sys
import dask.dataframe as dd
import pandas as pd

with open(sys.argv[1]) as file:
    images = json.load(file)
frame = pd.DataFrame.from_dict(images, orient="index", columns=["base64"])
dd.from_pandas(frame, npartitions=10).to_parquet(sys.argv[2])
"""
# Reading it once and writing it once, to the disk: what no conversion can be faster than.
_COPY = """
import os, sys

buffer = memoryview(bytearray(8 << 20))
with open(sys.argv[1], "rb", 0) as source, open(sys.argv[2], "wb", 0) as sink:
    while count := source.readinto(buffer):
        sink.write(buffer[:count])
    os.fsync(sink.fileno())
"""


def run(data: Data, quick: bool) -> Iterator[Result]:
    """Convert images.json to Parquet, each side a new process, taking turns."""
    source = data.image_set("json").files[0]
    size_mb = source.stat().st_size / 1e6
    target = data.folder / "converted"
    sides = {
        "published script": [sys.executable, "-c", _PUBLISHED, str(source), str(target)],
        "mimicit convert, 1 process": _convert(source, target, 1),
        "mimicit convert, 2 processes": _convert(source, target, 2),
        "a copy of its bytes": [sys.executable, "-c", _COPY, str(source), str(target)],
    }
    runs: dict[str, list[Run]] = {name: [] for name in sides}
    contents = {}
    for _ in range(1 if quick else 3):
        for name, command in sides.items():
            _remove(target)
            warm(source)
            runs[name].append(run_measured(command))
            if name != "a copy of its bytes" and name not in contents:
                contents[name] = _digest(target)
    _remove(target)
    if len(set(contents.values())) != 1:
        raise RuntimeError(f"the sides wrote other images: {contents}")
    yield _tell(size_mb, runs)


def _convert(source: Path, target: Path, processes: int) -> list[str]:
    environment = f"MIMICIT_TASK_PROCESSES={processes}"
    return ["env", environment, *MIMICIT, "convert", "images", str(source), str(target)]


def _tell(size_mb: float, runs: dict[str, list[Run]]) -> Result:
    result = Result(
        "Converting images.json",
        f"An images.json of {size_mb:,.0f} MB to Parquet, Python's own start included; the file is "
        "in the page cache. The script loads it with json, makes a pandas frame and has Dask write "
        "ten parts, which it does not sync; the others do. All MB is the most that the processes "
        "of a side had together.",
        ("side", "seconds", "CPU seconds", "MB/s", "all MB"),
    )
    seconds = {name: statistics.median(one.seconds for one in of) for name, of in runs.items()}
    memory_mb = {name: max(one.total_bytes for one in of) / 1e6 for name, of in runs.items()}
    for name, of in runs.items():
        cpu = statistics.median(one.cpu_seconds for one in of)
        rate = size_mb / seconds[name]
        figures = (f"{seconds[name]:.2f}", f"{cpu:.2f}", f"{rate:,.0f}", f"{memory_mb[name]:,.0f}")
        result.rows.append((name, *figures))
    peer, ours, _, copy = runs
    pairs = zip(runs[peer], runs[ours], strict=True)
    ratios = [theirs.seconds / our.seconds for theirs, our in pairs]
    faster = statistics.median(ratios)
    span = f"{faster:.1f} (rounds {min(ratios):.1f} to {max(ratios):.1f})"
    what = f"converting images.json, {_FASTER} times faster than the published script"
    result.goals.append(Goal(what, span, faster > _FASTER))
    share = memory_mb[peer] / memory_mb[ours]
    what = f"converting images.json, a {_MEMORY_SHARE}th of the script's memory"
    result.goals.append(Goal(what, f"one {share:.1f}th", share > _MEMORY_SHARE))
    times = seconds[ours] / seconds[copy]
    result.notes.append(f"Converting takes {times:.1f} times as long as reading and writing once.")
    return result


def _digest(target: Path) -> tuple[int, int]:
    """How many images there are, and a digest of them that does not depend on their order."""
    parts = sorted(target.rglob("*.parquet")) if target.is_dir() else [target]
    with duckdb.connect() as database:
        relation = database.read_parquet([str(part) for part in parts])
        (key,) = (name for name in relation.columns if name != "base64")
        sql = f'SELECT count(*), bit_xor(hash("{key}", "base64")) FROM relation'
        ((count, digest),) = database.execute(sql).fetchall()
    return count, digest


def _remove(target: Path) -> None:
    if target.is_dir():
        shutil.rmtree(target)
    target.unlink(missing_ok=True)
