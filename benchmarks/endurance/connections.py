"""Thousands of idle connections, and hundreds of slow ones, beside normal traffic."""

import asyncio
import os
import resource
import socket
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from unittest import mock

from benchmarks.endurance.connection import Connection, CutOffError, UnansweredError, connect
from benchmarks.endurance.load import Load, under_load
from benchmarks.endurance.pack import write_pack
from benchmarks.endurance.tally import Judge, Tally
from benchmarks.endurance.watch import own_bytes
from benchmarks.report import Goal, Result
from benchmarks.servers import Server, mimicit

_WORKERS = 2
_NORMAL = 16
_SETTINGS = {"MIMICIT_KEEP_ALIVE_SECONDS": "3600"}  # else the idle ones are closed after 30 s
_HEAD = b"GET /v1/datasets HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Slow: " + b"x" * 1000
_DRIP_SECONDS = 0.5
_OPEN_AT_ONCE = 50  # of connections that are made: fewer than a listener's queue holds
_READ_BYTES = 4096  # of a receive buffer, so that answers stay with the service
_COLUMNS = ("beside", "requests/s", "right", "wrong", "failed", "p50 ms", "p99 ms", "MB held")


def run(seconds: float, idle: int, slow: int, pictures: int) -> Iterator[Result]:
    """Normal traffic alone, beside idle connections, and beside slow ones too."""
    result = Result(
        "Idle and slow connections",
        f"{_NORMAL} connections ask as in the mixed load, for {seconds:.0f} s each time, two "
        "workers. An idle connection has had one answer and asks for no more, and may stay for an "
        "hour (keep_alive_seconds). Of the slow ones "
        f"half send a request of a byte each {_DRIP_SECONDS} s, again and again as they are "
        "answered 408; the other half ask for a batch of pictures and take 4 KB of it a second.",
        _COLUMNS,
    )
    _raise_open_files(idle + slow + 500)
    with tempfile.TemporaryDirectory() as name:
        pack = write_pack(Path(name) / "data", pictures)
        catalogs = Path(name) / "catalogs"
        with (
            mock.patch.dict(os.environ, _SETTINGS),
            mimicit(pack.data_yaml, catalogs, workers=_WORKERS) as server,
        ):
            asyncio.run(_measure(result, server, Judge([pack]), seconds, idle, slow))
    yield result


def _raise_open_files(count: int) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < count:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(count, hard), hard))


async def _measure(
    result: Result, server: Server, judge: Judge, seconds: float, idle: int, slow: int
) -> None:
    async with AsyncExitStack() as stack:
        load = await stack.enter_async_context(under_load(server.port, judge, _NORMAL))
        alone = await _take(result, "nobody", server, load, seconds)
        resting = await stack.enter_async_context(_idle(server.port, idle))
        beside_idle = await _take(result, f"{idle:,} idle", server, load, seconds)
        await stack.enter_async_context(_slow(server.port, slow))
        both = await _take(result, f"{idle:,} idle, {slow:,} slow", server, load, seconds)
        answered = await _ask_all(resting)
    wrong = alone.wrong_count + beside_idle.wrong_count + both.wrong_count
    failed = (alone.failed + beside_idle.failed + both.failed).total()
    times = both.quantile_ms(0.99) / max(alone.quantile_ms(0.99), 1e-9)
    result.goals += [
        Goal("idle and slow connections: no wrong answer", f"{wrong:,}", not wrong),
        Goal("idle and slow connections: no failed request", f"{failed:,}", not failed),
        Goal("idle connections are answered afterwards", f"{answered:,}", answered == idle),
        Goal("p99 beside all of them at most twice that beside nobody", f"{times:.2f}", times <= 2),
    ]
    result.notes += [*alone.wrong, *beside_idle.wrong, *both.wrong]


async def _take(result: Result, beside: str, server: Server, load: Load, seconds: float) -> Tally:
    load.tally = tally = Tally()
    await asyncio.sleep(seconds)
    figures = (
        f"{tally.count / seconds:,.0f}",
        f"{tally.right_count:,}",
        f"{tally.wrong_count:,}",
        tally.describe_failed(),
        f"{tally.quantile_ms(0.5):.1f}",
        f"{tally.quantile_ms(0.99):.1f}",
        f"{own_bytes(server.process) / 1e6:.0f}",
    )
    result.rows.append((beside, *figures))
    return tally


@asynccontextmanager
async def _idle(port: int, count: int) -> AsyncIterator[list[Connection]]:
    found: list[Connection] = []
    free = asyncio.Semaphore(_OPEN_AT_ONCE)

    async def open_one() -> None:
        async with free:
            connection = await connect(port)
            await connection.ask("GET", "/healthz")
            found.append(connection)

    await asyncio.gather(*(open_one() for _ in range(count)))
    try:
        yield found
    finally:
        for connection in found:
            connection.close()


async def _ask_all(connections: list[Connection]) -> int:
    """How many of them are answered still."""
    right = 0
    for connection in connections:
        try:
            right += (await connection.ask("GET", "/healthz")).status == 200
        except (UnansweredError, CutOffError):
            continue
    return right


@asynccontextmanager
async def _slow(port: int, count: int) -> AsyncIterator[None]:
    tasks = [
        asyncio.create_task(_send_slowly(port) if number % 2 else _read_slowly(port))
        for number in range(count)
    ]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _send_slowly(port: int) -> None:
    """Send heads a byte at a time, for ever: each is answered 408 and closed."""
    while True:
        connection: Connection | None = None
        try:
            connection = await connect(port)
            for at in range(len(_HEAD)):
                connection.writer.write(_HEAD[at : at + 1])
                await connection.writer.drain()
                await asyncio.sleep(_DRIP_SECONDS)
        except OSError:
            await asyncio.sleep(_DRIP_SECONDS)
        finally:
            if connection is not None:
                connection.close()


async def _read_slowly(port: int) -> None:
    """Take batches 4 KB a second, for ever: each stays with the service for most of its time."""
    loop = asyncio.get_running_loop()
    while True:
        with socket.socket() as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _READ_BYTES)
            client.setblocking(False)
            try:
                await loop.sock_connect(client, ("127.0.0.1", port))
                path = b"/v1/groups/IMAGE_TEXT/batches/0?batch_size=16&format=tar"
                await loop.sock_sendall(client, b"GET " + path + b" HTTP/1.1\r\nHost: x\r\n\r\n")
                while await loop.sock_recv(client, _READ_BYTES):
                    await asyncio.sleep(1)
            except OSError:
                await asyncio.sleep(1)
