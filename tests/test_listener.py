"""How the workers of a service share its connections."""

import asyncio
import http.client
import os
import resource
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import cast

import psutil
import pytest
from live_server import LiveServer, start_server
from packs import draw_jpeg, record, write_images, write_instructions

from app.listener import Listener, WorkerLoop
from app.shares import Shares

BACKLOG = 100


def write_data(folder: Path) -> Path:
    write_images(folder / "i.parquet", {"K": draw_jpeg(1, 40, 30)})
    write_instructions(folder / "i.json", {"I": record("what", "K")})
    data = folder / "data.yaml"
    data.write_text("IMAGE_TEXT:\n  A: {mimicit_path: i.json, images_path: i.parquet}\n")
    return data


def connect(server: LiveServer) -> http.client.HTTPConnection:
    """A connection that has its first answer."""
    client = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    client.request("GET", "/healthz")
    assert client.getresponse().read()
    return client


def count_connections(server: LiveServer, worker: psutil.Process) -> int:
    found = worker.net_connections(kind="tcp")
    return sum(
        one.status == psutil.CONN_ESTABLISHED and one.laddr.port == server.port for one in found
    )


@contextmanager
def connections(server: LiveServer, count: int) -> Iterator[None]:
    with ExitStack() as stack:
        for _ in range(count):
            stack.callback(connect(server).close)
        yield


def wait_for_two(server: LiveServer) -> list[psutil.Process]:
    """The workers of a server, once both have taken connections."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        workers = server.list_workers()
        with connections(server, 16):
            if len(workers) == 2 and all(count_connections(server, one) for one in workers):
                return workers
    raise AssertionError(f"one of {workers} takes none")


@pytest.mark.slow
def test_workers_share_connections_and_one_that_is_busy_delays_none(tmp_path: Path) -> None:
    with start_server(write_data(tmp_path), tmp_path / "c", workers=2) as server:
        busy, idle = wait_for_two(server)
        fewest = []
        for _ in range(9):
            with ExitStack() as stack:
                for _ in range(16):  # at once
                    client = stack.enter_context(socket.socket())
                    client.setblocking(False)
                    client.connect_ex(("127.0.0.1", server.port))
                counts = [0]
                while sum(counts) < 16:
                    time.sleep(0.1)
                    counts = [count_connections(server, one) for one in (busy, idle)]
                fewest.append(min(counts))
            time.sleep(0.1)  # until both know that they are gone
        # As uvloop takes them, it is 5 of 16, and 0 if the machine is busy.
        assert sorted(fewest)[4] >= 6
        with ExitStack() as stack:
            busy.suspend()
            try:
                began = time.monotonic()
                stack.enter_context(connections(server, 30))
                assert time.monotonic() - began < 5
                assert count_connections(server, idle) == 30
            finally:
                busy.resume()
            stack.enter_context(connections(server, 30))
            assert count_connections(server, busy) >= 10


@pytest.mark.slow
def test_connections_that_stay_come_to_a_worker_that_has_few(tmp_path: Path) -> None:
    with start_server(write_data(tmp_path), tmp_path / "c", workers=2) as server, ExitStack() as st:
        late, first = wait_for_two(server)
        late.suspend()
        try:
            clients = [connect(server) for _ in range(40)]
        finally:
            late.resume()
        for client in clients:
            st.callback(client.close)
        assert count_connections(server, late) == 0
        for _ in range(300):  # none of which fails
            for client in clients:
                client.request("GET", "/healthz")
                answer = client.getresponse()
                assert answer.status == 200
                answer.read()
        counts = sorted(count_connections(server, one) for one in (late, first))
        assert sum(counts) == 40
        assert counts[0] >= 10


class Echo(asyncio.Protocol):
    """Says that it was told to end."""

    def __init__(self) -> None:
        self.shares: Shares | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # which uvloop's is not a class of

    def connection_lost(self, exc: Exception | None) -> None:
        assert self.shares is not None
        self.shares.remove()

    def data_received(self, data: bytes) -> None:
        self.transport.write(data)

    def shutdown(self) -> None:
        self.transport.write(b"bye")
        self.transport.close()


@contextmanager
def listening() -> Iterator[tuple[socket.socket, Callable[[], socket.socket]]]:
    """A socket that listens, and what connects to it."""
    with socket.create_server(("127.0.0.1", 0), backlog=BACKLOG) as server, ExitStack() as stack:

        def connect() -> socket.socket:
            found = socket.create_connection(server.getsockname(), timeout=10)
            return stack.enter_context(found)

        yield server, connect


async def listen(sock: socket.socket) -> Listener:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, WorkerLoop)
    return await loop.create_server(Echo, sock=sock, ssl=None, backlog=BACKLOG)  # type: ignore[arg-type]


async def receive(client: socket.socket) -> bytes:
    return await asyncio.to_thread(client.recv, 100)


def test_what_waits_when_it_closes_is_told_so_and_not_reset(tmp_path: Path) -> None:
    async def close_at_once() -> list[bytes]:
        with listening() as (sock, connect):
            clients = [connect() for _ in range(20)]
            listener = await listen(sock)
            listener.close()
            sock.close()
            return [await receive(client) for client in clients]

    with asyncio.Runner(loop_factory=partial(WorkerLoop, tmp_path / "shares")) as runner:
        assert runner.run(close_at_once()) == [b"bye"] * 20


@contextmanager
def no_descriptor_left() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest = os.dup(0)
    os.close(lowest)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_connections_wait_for_descriptors(tmp_path: Path) -> None:
    async def run_out() -> tuple[float, list[bytes]]:
        with listening() as (sock, connect):
            clients = [connect() for _ in range(4)]
            listener = await listen(sock)
            with no_descriptor_left():
                began = time.process_time()
                await asyncio.sleep(0.5)
                took = time.process_time() - began
            for client in clients:
                client.send(b"late")
            answers = [await receive(client) for client in clients]
            listener.close()
            return took, answers

    with asyncio.Runner(loop_factory=partial(WorkerLoop, tmp_path / "shares")) as runner:
        took_seconds, answers = runner.run(run_out())
    assert answers == [b"late"] * 4
    assert took_seconds < 0.25  # it does not ask again all the time


def test_a_handshake_that_fails_counts_no_longer(tmp_path: Path) -> None:
    path = tmp_path / "shares"

    async def fail() -> bool:
        loop = asyncio.get_running_loop()
        shares = Shares(path)
        with listening() as (sock, connect):
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            listener = Listener(loop, Echo, sock, context, BACKLOG, shares)  # type: ignore[arg-type]
            for _ in range(20):
                client = connect()
                client.send(b"GET / HTTP/1.1\r\n\r\n")
                while await receive(client):  # an alert, and the end
                    pass
            due = shares.is_another_due()
            listener.close()
            return due

    with (
        another(path, 1),
        asyncio.Runner(loop_factory=partial(WorkerLoop, tmp_path / "none")) as runner,
    ):
        assert not runner.run(fail())


TAKE_SLOT = (
    "import pathlib, sys, app.shares\n"
    "shares = app.shares.Shares(pathlib.Path(sys.argv[1]))\n"
    "for _ in range(int(sys.argv[2])): shares.add()\n"
    "print(flush=True)\n"
    "input()\n"
    "shares.leave()\n"
)


@contextmanager
def another(path: Path, connections: int) -> "Iterator[subprocess.Popen[str]]":
    """Another worker, that has so many connections."""
    words = [sys.executable, "-c", TAKE_SLOT, str(path), str(connections)]
    pipe = subprocess.PIPE
    with subprocess.Popen(words, stdin=pipe, stdout=pipe, text=True) as process:
        assert process.stdout is not None
        process.stdout.readline()
        try:
            yield process
        finally:
            process.kill()


def test_who_has_fewer_is_due(tmp_path: Path) -> None:
    path = tmp_path / "shares"
    own = Shares(path)
    for _ in range(50):
        own.add()
    assert not own.is_another_due()  # it is alone
    with another(path, 10) as process:
        assert own.is_another_due()
        with another(path, 45):
            assert own.is_another_due()
        process.communicate("leave\n")
    assert not own.is_another_due()
    with another(path, 45):
        assert not own.is_another_due()


def test_a_slot_is_taken_over_from_a_worker_that_was_killed(tmp_path: Path) -> None:
    path = tmp_path / "shares"
    own = Shares(path)
    for _ in range(50):
        own.add()
    with another(path, 10) as killed:
        killed.kill()
        killed.wait()
    assert own.is_another_due()  # nobody knows yet
    with another(path, 50) as process:
        assert not own.is_another_due()
        process.communicate("leave\n")
