"""What is found out about a catalog once, and kept: it never changes while it is open."""

from asyncio import Lock
from collections.abc import Callable
from typing import Annotated, TypeVar

from fastapi import Depends, Request

from app.catalog.questions import Questions
from app.explorer.survey import Survey
from app.pool import Pool
from app.service import Service

T = TypeVar("T")
_ANSWERS = 1000  # of some kB each


class Known:
    """The survey of a worker's catalog, and answers that took long; `close` it when done."""

    def __init__(self, service: Service) -> None:
        settings = service.settings
        self.questions = Questions(settings.duckdb_memory_bytes, threads=1)
        self.survey = Survey(service.catalog, self.questions)
        self._threads = Pool("statistics", 1, settings.max_waiting)
        self._answers: dict[object, object] = {}
        self._lock = Lock()

    def close(self) -> None:
        """Stop what is being found out."""
        self.survey.close()
        self._threads.close()
        self.questions.close()

    async def run(self, call: Callable[[], T]) -> T:
        """What the call returns, one at a time; raises OverloadedError."""
        return await self._threads.run(call)

    async def get(self, name: object, call: Callable[[], T]) -> T:
        """What the call returned when this name was first asked for; raises OverloadedError."""
        if name in self._answers:
            return self._answers[name]  # type: ignore[return-value]
        async with self._lock:
            if name not in self._answers:
                if len(self._answers) >= _ANSWERS:
                    del self._answers[next(iter(self._answers))]
                self._answers[name] = await self._threads.run(call)
            found: T = self._answers[name]  # type: ignore[assignment]
            return found


async def get_known(request: Request) -> Known:
    """What the worker knows, as the lifespan yields it."""
    known: Known = request.state.known
    return known


KnownThings = Annotated[Known, Depends(get_known)]
