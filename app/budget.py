"""A bound on the bytes that are in flight, and on what waits for some."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from app.errors import OverloadedError


class Budget:
    """At most `size_bytes` claimed at a time; at most `max_waiting` claims wait, in their order,
    and none for longer than `wait_seconds`."""

    def __init__(self, size_bytes: int, max_waiting: int, wait_seconds: float) -> None:
        self._size_bytes = size_bytes
        self._free_bytes = size_bytes
        self._max_waiting = max_waiting
        self._wait_seconds = wait_seconds
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    @asynccontextmanager
    async def claim(self, size_bytes: int) -> AsyncIterator[None]:
        """Hold that many bytes, or all there are; raises OverloadedError."""
        size_bytes = min(size_bytes, self._size_bytes)
        await self._take(size_bytes)
        try:
            yield
        finally:
            self._free_bytes += size_bytes
            self._serve()

    async def _take(self, size_bytes: int) -> None:
        if not self._waiting and size_bytes <= self._free_bytes:
            self._free_bytes -= size_bytes
            return
        if len(self._waiting) >= self._max_waiting:
            raise OverloadedError("too many batches wait for memory; try again in a second")
        turn = asyncio.get_running_loop().create_future()
        self._waiting.append((size_bytes, turn))
        try:
            async with asyncio.timeout(self._wait_seconds):
                await turn
        except BaseException as error:
            if turn.done() and not turn.cancelled():
                self._free_bytes += size_bytes  # served, when it could no longer take it
            self._waiting = deque(one for one in self._waiting if one[1] is not turn)
            self._serve()
            if isinstance(error, TimeoutError):
                raise OverloadedError(
                    f"the batches in flight hold all their memory for {self._wait_seconds} s "
                    "already; their clients take them too slowly. Try again in a second"
                ) from error
            raise

    def _serve(self) -> None:
        while self._waiting and self._waiting[0][0] <= self._free_bytes:
            size_bytes, turn = self._waiting.popleft()
            if not turn.done():
                self._free_bytes -= size_bytes
                turn.set_result(None)
