"""Opening a catalog: how long, and what a worker takes of memory, by the number of keys.

Run as a module of its own, with a catalog's folder and its number of keys, it is one measurement.
"""

import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from random import Random

import msgspec

from app.images.stored import Form, decode
from benchmarks.catalogs import find_catalog, index, open_catalog
from benchmarks.data import Data
from benchmarks.report import Goal, Result
from benchmarks.writers import DATASET, small_key_of

_COUNTS = (10_000, 1_000_000, 10_000_000)
_LOOKUPS = 1000
_OPEN_SECONDS = 0.5
_FLAT_MB = 10


class Memory(msgspec.Struct):
    """A process's memory in bytes: its own (anonymous), and all that no other process has."""

    own: int
    unshared: int


class Opened(msgspec.Struct):
    """One measurement, in a process of its own."""

    seconds: float
    imported: Memory
    opened: Memory
    used: Memory


def run(data: Data, quick: bool) -> Iterator[Result]:
    """Index, then open in new processes."""
    result = Result(
        "Opening a catalog",
        f"A new process imports the service, opens the catalog and looks up {_LOOKUPS:,} random "
        "images. Own memory is anonymous memory, which each worker has for itself; unshared (USS) "
        "also counts the pages of the mapped catalog, which other workers and the kernel share. "
        "Images are of six bytes or so; there are as many instructions, but a million at most.",
        (
            *(
                "keys",
                "index s",
                "its CPU s",
                "open ms",
                "own MB: imported",
                "opened",
                "after lookups",
            ),
            *("unshared MB: opened", "after lookups"),
        ),
    )
    used: dict[int, float] = {}
    for count in _COUNTS[: 2 if quick else 3]:
        data_yaml = data.many_keys(count)
        shutil.rmtree(data.catalogs, ignore_errors=True)
        indexed = index(data_yaml, data.catalogs)
        folder = find_catalog(data_yaml, data.catalogs)
        found = [_measure_in_process(folder, count) for _ in range(3 if quick else 7)]
        open_seconds = statistics.median(one.seconds for one in found)
        sizes = [
            statistics.median(getattr(getattr(one, when), kind) for one in found) / 1e6
            for kind, when in (
                *(("own", "imported"), ("own", "opened"), ("own", "used")),
                *(("unshared", "opened"), ("unshared", "used")),
            )
        ]
        used[count] = sizes[2]
        figures = [f"{size:.1f}" for size in sizes]
        times = [
            f"{indexed.seconds:.1f}",
            f"{indexed.cpu_seconds:.1f}",
            f"{open_seconds * 1e3:.1f}",
        ]
        result.rows.append((f"{count:,}", *times, *figures))
        if count == 1_000_000:
            what = f"a catalog of a million keys opens in under {_OPEN_SECONDS} s"
            measured = f"{open_seconds * 1e3:.1f} ms"
            result.goals.append(Goal(what, measured, open_seconds < _OPEN_SECONDS))
    few, many = min(used), max(used)
    growth = used[many] - used[few]
    what = f"memory of a worker is flat from {few:,} to {many:,} keys (within {_FLAT_MB} MB)"
    result.goals.append(Goal(what, f"{growth:+.1f} MB", growth < _FLAT_MB))
    yield result


def _measure_in_process(folder: Path, count: int) -> Opened:
    command = [sys.executable, "-m", "benchmarks.opening", str(folder), str(count)]
    done = subprocess.run(command, capture_output=True, check=True, timeout=120)
    return msgspec.json.decode(done.stdout, type=Opened)


def _measure(folder: Path, count: int) -> Opened:
    imported = _memory()
    start = time.perf_counter()
    catalog = open_catalog(folder)
    seconds = time.perf_counter() - start
    opened = _memory()
    source = catalog.get_dataset(DATASET).images
    assert source is not None
    random = Random(1)
    for _ in range(_LOOKUPS):
        place = source.get_place(small_key_of(random.randrange(count)))
        decode(source.read(place, wait=True), Form(place.form))
    used = _memory()
    catalog.close()
    return Opened(seconds, imported, opened, used)


def _memory() -> Memory:
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()[1:]
    found = {name: int(value.split()[0]) << 10 for name, value in (row.split(":") for row in lines)}
    return Memory(found["Anonymous"], found["Private_Clean"] + found["Private_Dirty"])


if __name__ == "__main__":
    answer = _measure(Path(sys.argv[1]), int(sys.argv[2]))
    sys.stdout.buffer.write(msgspec.json.encode(answer))
