"""Something breaks under load, and is mended: what came of the requests meanwhile and after."""

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from benchmarks.endurance.load import Load, under_load
from benchmarks.endurance.tally import Judge, Tally
from benchmarks.report import Goal, Result

COLUMNS = ("broken", "right", "wrong", "failed", "failed after it was mended")
_BEFORE_SECONDS = 0.5
_AFTER_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class Fault:
    """What is broken and mended, both of which may block, and what may fail meanwhile.

    `most` bounds how often, where that is known.
    """

    name: str
    break_it: Callable[[], object]
    mend_it: Callable[[], object]
    allowed: frozenset[str] = frozenset()
    most: int | None = None


def run_faults(
    result: Result,
    faults: Iterable[Fault],
    port: int,
    judge: Judge,
    connections: int,
    seconds: float,
) -> None:
    """Add a row for each fault, and the goals of all of them."""
    tallies = asyncio.run(_run(result, faults, port, judge, connections, seconds))
    count = sum(tally.count for tally in tallies)
    wrong = sum(tally.wrong_count for tally in tallies)
    result.goals.append(
        Goal(f"{result.title}: no wrong answer", f"{wrong:,} of {count:,}", not wrong)
    )
    result.notes += [line for tally in tallies for line in tally.wrong]


async def _run(
    result: Result,
    faults: Iterable[Fault],
    port: int,
    judge: Judge,
    connections: int,
    seconds: float,
) -> list[Tally]:
    tallies = []
    async with under_load(port, judge, connections) as load:
        for fault in faults:
            during, after = await _run_one(fault, load, seconds)
            tallies += [during, after]
            unexplained = {why: n for why, n in during.failed.items() if why not in fault.allowed}
            is_met = not unexplained and not after.failed
            if fault.most is not None:
                is_met = is_met and during.failed.total() <= fault.most
            figures = (f"{during.right_count:,}", f"{during.wrong_count + after.wrong_count:,}")
            failures = (during.describe_failed(), after.describe_failed())
            result.rows.append((fault.name, *figures, *failures))
            result.goals.append(Goal(_describe(fault), ", then ".join(failures), is_met))
    return tallies


def _describe(fault: Fault) -> str:
    if not fault.allowed:
        return f"{fault.name}: no request fails"
    reasons = " or ".join(sorted(fault.allowed))
    most = "" if fault.most is None else f" (at most {fault.most:,})"
    return f"{fault.name}: requests only fail as {reasons}{most}, and none once it is mended"


async def _run_one(fault: Fault, load: Load, seconds: float) -> tuple[Tally, Tally]:
    load.tally = during = Tally()
    await asyncio.sleep(_BEFORE_SECONDS)
    await asyncio.to_thread(fault.break_it)
    await asyncio.sleep(seconds)
    await asyncio.to_thread(fault.mend_it)
    # What was asked before that is answered as it was.
    await asyncio.sleep(_BEFORE_SECONDS)
    load.tally = after = Tally()
    await asyncio.sleep(min(seconds, _AFTER_SECONDS))
    return during, after
