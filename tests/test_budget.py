"""The bound on bytes in flight: in order, given back whatever happens, and never exceeded."""

import asyncio
import random

import pytest

from app.budget import Budget
from app.errors import OverloadedError


async def hold(budget: Budget, size: int, gate: asyncio.Event, order: list[int]) -> None:
    async with budget.claim(size):
        order.append(size)
        await gate.wait()


def test_claims_wait_in_their_order() -> None:
    async def run() -> None:
        budget = Budget(10, max_waiting=5, wait_seconds=5)
        gate, order = asyncio.Event(), list[int]()
        tasks = []
        for size in (6, 7, 1):  # 1 would fit, and does not overtake
            tasks.append(asyncio.create_task(hold(budget, size, gate, order)))
            await asyncio.sleep(0)
        assert order == [6]
        gate.set()
        await asyncio.gather(*tasks)
        assert order == [6, 7, 1]

    asyncio.run(run())


def test_a_claim_over_all_of_it_runs_alone() -> None:
    async def run() -> None:
        budget = Budget(10, max_waiting=1, wait_seconds=5)
        gate, order = asyncio.Event(), list[int]()
        async with budget.claim(1000):
            waiting = asyncio.create_task(hold(budget, 1, gate, order))
            await asyncio.sleep(0)
            assert order == []
        gate.set()
        await waiting
        assert order == [1]

    asyncio.run(run())


def test_more_than_may_wait_are_refused_at_once() -> None:
    async def run() -> None:
        budget = Budget(10, max_waiting=1, wait_seconds=30)
        gate, order = asyncio.Event(), list[int]()
        tasks = [asyncio.create_task(hold(budget, 10, gate, order)) for _ in range(2)]
        await asyncio.sleep(0)
        with pytest.raises(OverloadedError, match="too many"):
            async with budget.claim(1):
                pass
        gate.set()
        await asyncio.gather(*tasks)

    asyncio.run(run())


def test_a_claim_that_waits_too_long_is_refused_and_holds_nothing() -> None:
    async def run() -> None:
        budget = Budget(10, max_waiting=5, wait_seconds=0.01)
        async with budget.claim(10):
            with pytest.raises(OverloadedError, match="too slowly"):
                async with budget.claim(1):
                    pass
        async with budget.claim(10):
            pass

    asyncio.run(run())


def test_whatever_is_cancelled_nothing_is_lost() -> None:
    async def run() -> None:
        random.seed(1)
        budget = Budget(100, max_waiting=1000, wait_seconds=30)
        held = most = 0

        async def claim(size: int) -> None:
            nonlocal held, most
            async with budget.claim(size):
                held += size
                most = max(most, held)
                try:
                    await asyncio.sleep(random.random() / 200)
                finally:
                    held -= size

        tasks = [asyncio.create_task(claim(random.randint(1, 60))) for _ in range(300)]
        for task in random.sample(tasks, 150):
            await asyncio.sleep(random.random() / 1000)
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert 60 < most <= 100
        async with asyncio.timeout(1), budget.claim(100):
            pass

    asyncio.run(run())
