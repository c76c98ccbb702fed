"""Clients of a service: `Client` blocks, `AsyncClient` is awaited. What they ask is `calls`."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from functools import wraps
from types import TracebackType
from typing import Concatenate, ParamSpec, Self, TypeVar

from mimicit_client import calls
from mimicit_client.async_transport import AsyncTransport
from mimicit_client.retries import DEFAULT_RETRIES, Fault, Flow, Pause, Retries
from mimicit_client.transport import DEFAULT_TIMEOUTS, Timeouts, Transport

P = ParamSpec("P")
T = TypeVar("T")


def _blocking(
    call: Callable[Concatenate[calls.Session, P], Flow[T]],
) -> Callable[Concatenate["Client", P], T]:
    @wraps(call)
    def method(client: "Client", /, *args: P.args, **kwargs: P.kwargs) -> T:
        return client.run(call(client, *args, **kwargs))

    return method


def _awaited(
    call: Callable[Concatenate[calls.Session, P], Flow[T]],
) -> Callable[Concatenate["AsyncClient", P], Awaitable[T]]:
    @wraps(call)
    async def method(client: "AsyncClient", /, *args: P.args, **kwargs: P.kwargs) -> T:
        return await client.run(call(client, *args, **kwargs))

    return method


class Client(calls.Session):
    """A blocking client; threads may share it, forked processes may not.

    `url` is the service's URL, or several of replicas, which share the load and stand in for each
    other. `token` is sent as a bearer token. Every method raises ProblemError for what the service
    refuses, ConnectionFailedError if no URL answers and AnswerError if something else does.
    """

    def __init__(
        self,
        url: str | Sequence[str],
        token: str | None = None,
        *,
        timeouts: Timeouts = DEFAULT_TIMEOUTS,
        retries: Retries = DEFAULT_RETRIES,
    ) -> None:
        """Connects to nothing yet; raises ValueError for what is no URL."""
        super().__init__(url, retries)
        self._transport = Transport(token, timeouts)

    datasets = _blocking(calls.datasets)
    instruction = _blocking(calls.instruction)
    image = _blocking(calls.image)
    images = _blocking(calls.images)
    plan = _blocking(calls.plan)
    batch = _blocking(calls.batch)

    def run(self, flow: Flow[T], wait: Callable[[float], object] = time.sleep) -> T:
        """Do what the flow asks for; what `wait` raises between two attempts ends it."""
        try:
            effect = next(flow)
            while True:
                if isinstance(effect, Pause):
                    wait(effect.seconds)
                    effect = flow.send(None)
                    continue
                try:
                    answer = self._transport.send(effect.url, effect.request)
                except Fault as fault:
                    effect = flow.throw(fault)
                else:
                    effect = flow.send(answer)
        except StopIteration as stop:
            result: T = stop.value
            return result

    def close(self) -> None:
        """Close the connections."""
        self._transport.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class AsyncClient(calls.Session):
    """The same for asyncio: the methods of Client, to be awaited."""

    def __init__(
        self,
        url: str | Sequence[str],
        token: str | None = None,
        *,
        timeouts: Timeouts = DEFAULT_TIMEOUTS,
        retries: Retries = DEFAULT_RETRIES,
    ) -> None:
        """Connects to nothing yet; raises ValueError for what is no URL."""
        super().__init__(url, retries)
        self._transport = AsyncTransport(token, timeouts)

    datasets = _awaited(calls.datasets)
    instruction = _awaited(calls.instruction)
    image = _awaited(calls.image)
    images = _awaited(calls.images)
    plan = _awaited(calls.plan)
    batch = _awaited(calls.batch)

    async def run(self, flow: Flow[T]) -> T:
        """Do what the flow asks for."""
        try:
            effect = next(flow)
            while True:
                if isinstance(effect, Pause):
                    await asyncio.sleep(effect.seconds)
                    effect = flow.send(None)
                    continue
                try:
                    answer = await self._transport.send(effect.url, effect.request)
                except Fault as fault:
                    effect = flow.throw(fault)
                else:
                    effect = flow.send(answer)
        except StopIteration as stop:
            result: T = stop.value
            return result

    async def close(self) -> None:
        """Close the connections."""
        await self._transport.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()
