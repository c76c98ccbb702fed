"""Takes connections so that workers that listen on one socket have about equally many.

uvloop takes whatever it sees first: of 16 clients that came together one worker of two often had
all, and of ten minutes of load nearly all. A socket for each worker would share them by chance, and
those of a worker that is busy, or starts again, would wait for it.
"""

import asyncio
import errno
import os
import socket
import ssl as tls
import time
from collections.abc import Callable
from pathlib import Path

import uvloop

from app.connection import BoundedProtocol
from app.shares import Shares

# A worker that is idle looks every 10 µs, and the one that is due takes it in 100. One that is busy
# looks a pass of its loop later, and then takes it: when it waited for 16 passes, some of 256 that
# came together had their first answer half a second later. A timer would be a millisecond, in which
# clients that ask once a connection got half the answers.
_YIELD_SECONDS = 0.0003
# Of descriptors or memory: what is asked for once more at once is refused once more at once.
_EXHAUSTED = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}
_EXHAUSTED_SECONDS = 1.0


class WorkerLoop(uvloop.Loop):
    """uvloop, but for how a server takes its connections; workers that share them name one file."""

    def __init__(self, shares: Path) -> None:
        super().__init__()
        self._shares = shares

    async def create_server(  # type: ignore[override]
        self,
        protocol_factory: Callable[[], BoundedProtocol],
        *,
        sock: socket.socket,
        ssl: tls.SSLContext | None,
        backlog: int,
    ) -> "Listener":
        """A server of the connections to a socket that listens, as uvicorn's worker asks for it."""
        return Listener(self, protocol_factory, sock, ssl, backlog, Shares(self._shares))


class Listener:
    """Takes what comes, and leaves it for a moment to another worker that has fewer connections.

    Closing it takes those that wait, at most `backlog`, for a last request each: closing the socket
    would reset them.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        protocol_factory: Callable[[], BoundedProtocol],
        sock: socket.socket,
        ssl: tls.SSLContext | None,
        backlog: int,
        shares: Shares,
    ) -> None:
        self._loop = loop
        self._protocol_factory = protocol_factory
        self._sock = sock
        self._ssl = ssl
        self._backlog = backlog
        self._shares = shares
        self._due_since = 0.0  # when it was first left to another, or 0
        self._is_closed = False
        self._connecting: set[asyncio.Task[None]] = set()
        sock.setblocking(False)
        self._listen()

    def close(self) -> None:
        """Take what waits, and no more."""
        self._is_closed = True
        self._shares.leave()
        self._loop.remove_reader(self._sock)
        for _ in range(self._backlog):
            if not self._take():
                break

    async def wait_closed(self) -> None:
        """The connections have ends of their own."""

    def _listen(self) -> None:
        if not self._is_closed:
            self._loop.add_reader(self._sock, self._take_share)

    def _take_share(self) -> None:
        if self._shares.is_another_due():
            now = time.monotonic()
            self._due_since = self._due_since or now
            if now - self._due_since < _YIELD_SECONDS:
                os.sched_yield()
                return
        self._due_since = 0.0
        self._take()

    def _take(self) -> bool:
        try:
            connection, _ = self._sock.accept()
        except OSError as error:  # or another worker has it, or it is over
            if error.errno in _EXHAUSTED:
                self._loop.remove_reader(self._sock)
                self._loop.call_later(_EXHAUSTED_SECONDS, self._listen)
            return False
        self._shares.add()
        task = self._loop.create_task(self._connect(connection))
        self._connecting.add(task)
        task.add_done_callback(self._connecting.discard)
        return True

    async def _connect(self, connection: socket.socket) -> None:
        connect = self._loop.connect_accepted_socket
        try:
            _, protocol = await connect(self._make_protocol, connection, ssl=self._ssl)
        except OSError:  # a handshake that failed, which is the client's; ssl.SSLError is one
            self._shares.remove()
        else:
            if self._is_closed:
                protocol.shutdown()

    def _make_protocol(self) -> BoundedProtocol:
        protocol = self._protocol_factory()
        protocol.shares = self._shares
        return protocol
