"""Clients that ask without a pause, each over one connection."""

import asyncio
import random
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from benchmarks.endurance.connection import (
    Connection,
    CutOffError,
    UnansweredError,
    connect,
)
from benchmarks.endurance.questions import choose_question
from benchmarks.endurance.tally import CUT_OFF, NOT_TAKEN, UNANSWERED, Judge, Tally

_PAUSE_SECONDS = 0.05  # after a connection was refused or cut off


@dataclass(slots=True)
class Load:
    """Clients of one port; `tally` may be put in place of another at any time."""

    port: int
    judge: Judge
    tally: Tally = field(default_factory=Tally)
    is_over: bool = False

    async def ask(self, seed: int) -> None:
        """Ask until it is over."""
        choose = random.Random(seed)
        connection: Connection | None = None
        while not self.is_over:
            question = choose_question(self.judge.packs[0], choose)
            began = time.perf_counter()
            failure = ""
            try:
                connection = connection or await connect(self.port)
                answer = await connection.ask(
                    question.method, question.path, question.headers, question.body
                )
            except UnansweredError:
                failure = UNANSWERED
            except CutOffError:
                failure = CUT_OFF
            except OSError:
                failure = NOT_TAKEN
            else:
                seconds = time.perf_counter() - began
                self.tally.add(self.judge.judge(question, answer), seconds, question, answer)
            if failure:
                self.tally.failed[failure] += 1
                await asyncio.sleep(_PAUSE_SECONDS)
            if connection and (failure or answer.headers.get("connection") == "close"):
                connection.close()
                connection = None
        if connection is not None:
            connection.close()


@asynccontextmanager
async def under_load(port: int, judge: Judge, connections: int) -> AsyncIterator[Load]:
    """So many clients for as long as the block lasts; raises what one of them did."""
    load = Load(port, judge)
    async with asyncio.TaskGroup() as group:
        for seed in range(connections):
            group.create_task(load.ask(seed))
        try:
            yield load
        finally:
            load.is_over = True
