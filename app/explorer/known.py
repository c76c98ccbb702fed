"""What is found out about a catalog once, and kept: it never changes while it is open."""

from asyncio import Lock
from collections.abc import Callable
from typing import Annotated, TypeVar
from weakref import WeakKeyDictionary, WeakSet, finalize

from fastapi import Depends, Request

from app.catalog.catalog import Catalog
from app.catalog.questions import Questions
from app.explorer.survey import Survey
from app.pool import Pool
from app.service import Service
from app.settings import Settings

T = TypeVar("T")
_ANSWERS = 1000  # of some kB each


class Known:
    """The survey of a catalog, and answers that took long."""

    def __init__(self, catalog: Catalog, questions: Questions, threads: Pool) -> None:
        self.questions = questions
        self.survey = Survey(catalog, questions)
        self._threads = threads
        self._answers: dict[object, object] = {}
        self._lock = Lock()

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


class Shelf:
    """What is known of each catalog that a worker has open; `close` it when done.

    They share DuckDB and a thread. What is known of a catalog is dropped with the last request of
    its service, whose survey is stopped by that, so it keeps no old catalog open.
    """

    def __init__(self, settings: Settings) -> None:
        self._questions = Questions(settings.duckdb_memory_bytes, threads=1)
        self._threads = Pool("statistics", 1, settings.max_waiting)
        self._known: WeakKeyDictionary[Service, Known] = WeakKeyDictionary()
        self._surveys: WeakSet[Survey] = WeakSet()

    def get(self, service: Service) -> Known:
        """What is known of the service's catalog."""
        known = self._known.get(service)
        if known is None:
            known = self._known[service] = Known(service.catalog, self._questions, self._threads)
            self._surveys.add(known.survey)
            finalize(service, known.survey.stop).atexit = False
        return known

    def close(self) -> None:
        """Stop what is being found out."""
        for survey in list(self._surveys):
            survey.close()
        self._threads.close()
        self._questions.close()


async def get_known(request: Request) -> Known:
    """What is known of the catalog that the request began with."""
    shelf: Shelf = request.state.shelf
    return shelf.get(request.state.service)


KnownThings = Annotated[Known, Depends(get_known)]
