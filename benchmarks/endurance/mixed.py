"""Mixed load for a long time: nothing wrong, nothing failed, and memory that does not grow."""

import asyncio
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.endurance.load import under_load
from benchmarks.endurance.pack import write_pack
from benchmarks.endurance.tally import Judge, Tally, median
from benchmarks.endurance.watch import own_bytes
from benchmarks.report import Goal, Result
from benchmarks.servers import Server, mimicit

_PARTS = 10
_WORKERS = 2
# Of the memory that is held after the first tenth, in which caches fill.
_MOST_GROWTH = 0.05
_COLUMNS = ("seconds", "requests/s", "right", "wrong", "failed", "p50 ms", "p99 ms", "MB held")


def run(seconds: float, connections: int, pictures: int) -> Iterator[Result]:
    """One server under one load."""
    result = Result(
        "Mixed load",
        f"{connections} connections ask two workers for pictures, parts and other sizes of them, "
        "lookups, instructions, batches, pages and metrics, and compare every answer with what was "
        "written. Held is the memory of the service's processes without mapped files, the median "
        "of each tenth. The clients share the cores with the service.",
        _COLUMNS,
    )
    with tempfile.TemporaryDirectory() as name:
        pack = write_pack(Path(name) / "data", pictures)
        catalogs = Path(name) / "catalogs"
        with mimicit(pack.data_yaml, catalogs, workers=_WORKERS) as server:
            parts = asyncio.run(_measure(server, Judge([pack]), seconds, connections))
    step = seconds / _PARTS
    for number, (tally, held) in enumerate(parts):
        figures = (
            f"{tally.count / step:,.0f}",
            f"{tally.right_count:,}",
            f"{tally.wrong_count:,}",
            tally.describe_failed(),
            f"{tally.quantile_ms(0.5):.1f}",
            f"{tally.quantile_ms(0.99):.1f}",
            f"{held / 1e6:.0f}",
        )
        result.rows.append((f"{number * step:.0f} to {(number + 1) * step:.0f}", *figures))
    _judge(result, [tally for tally, _ in parts], [held for _, held in parts])
    yield result


async def _measure(
    server: Server, judge: Judge, seconds: float, connections: int
) -> list[tuple[Tally, float]]:
    parts = []
    async with under_load(server.port, judge, connections) as load:
        for _ in range(_PARTS):
            load.tally = Tally()
            end = time.monotonic() + seconds / _PARTS
            held = []
            while time.monotonic() < end:
                await asyncio.sleep(min(1.0, seconds / _PARTS / 4))
                held.append(own_bytes(server.process))
            parts.append((load.tally, median(held)))
    return parts


def _judge(result: Result, tallies: list[Tally], held: list[float]) -> None:
    count = sum(tally.count for tally in tallies)
    wrong = sum(tally.wrong_count for tally in tallies)
    failed = sum(tally.failed.total() for tally in tallies)
    result.goals.append(Goal("mixed load: no wrong answer", f"{wrong:,} of {count:,}", not wrong))
    result.goals.append(
        Goal("mixed load: no failed request", f"{failed:,} of {count:,}", not failed)
    )
    growth = held[-1] / held[1] - 1
    measured = f"{growth:+.1%} from the second tenth to the last"
    result.goals.append(Goal("mixed load: memory is flat", measured, growth <= _MOST_GROWTH))
    result.notes += [line for tally in tallies for line in tally.wrong]
