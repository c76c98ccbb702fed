"""Runs the service: builds the catalog while /readyz says how far it is, then starts the workers.

One listening socket is open from the start to the end, so no connection is ever refused.
"""

import asyncio
import ipaddress
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

import uvicorn

from app.connection import BoundedProtocol, bounds_of
from app.errors import MimicitError
from app.listener import WorkerLoop
from app.main import create_worker_app
from app.orders import OrdersFolder
from app.progress import Progress
from app.reloader import Mounted
from app.routes.guard import Guard
from app.running import announce
from app.settings import Settings, with_session_key
from app.waiting import WaitingApp
from app.workers import Workers


class ServeError(MimicitError):
    """The service can not go on."""

    code = "serve"


class ListenError(MimicitError):
    """The address can not be listened on."""

    code = "listen"


def check_exposure(settings: Settings) -> None:
    """Raise TokensError if the tokens can not be used, and ListenError if the certificate can not,
    or if others than this machine would be answered without any token."""
    if settings.tls_key is not None and settings.tls_cert is None:
        raise ListenError("a key needs its certificate: give --tls-cert too")
    if settings.tls_cert is not None:
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(
                settings.tls_cert, settings.tls_key
            )
        except OSError as error:  # ssl.SSLError is one
            given = " and ".join(str(one) for one in (settings.tls_cert, settings.tls_key) if one)
            raise ListenError(f"{given} can not be used for https ({error})") from error
    guard = Guard(settings)
    if guard.tokens.are_needed or settings.insecure or _is_this_machine(settings.host):
        return
    raise ListenError(
        f"{settings.host} is not this machine alone, and no tokens are given: whoever reaches it "
        "would read everything. Give --tokens-file (or MIMICIT_TOKENS), or --insecure if something "
        "in front asks people who they are"
    )


def _is_this_machine(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def open_socket(settings: Settings) -> socket.socket:
    """A socket listening on the settings' address; raises ListenError."""
    try:
        family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
        listening = socket.create_server(
            (settings.host, settings.port), family=family, backlog=2048
        )
    except OSError as error:
        raise ListenError(
            f"{settings.host}:{settings.port} can not be listened on ({error.strerror or error}); "
            "choose another with --host and --port"
        ) from error
    if hasattr(socket, "TCP_USER_TIMEOUT"):  # Linux; connections take it over from the listener
        stall_ms = settings.stall_seconds * 1000
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, stall_ms)
    listening.set_inheritable(True)
    return listening


@contextmanager
def answering(settings: Settings, listening: socket.socket) -> Iterator[Callable[[Progress], None]]:
    """Answer /healthz and /readyz on a thread; yields what takes the progress to tell of."""
    app = WaitingApp(is_open=not Guard(settings).tokens.are_needed)
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        http=_protocol(settings),
        ws="none",
        lifespan="off",
        timeout_graceful_shutdown=1,
        **_tls(settings),
    )
    server = uvicorn.Server(config)
    # A duplicate, because the server closes what it is given.
    thread = threading.Thread(target=server.run, args=([listening.dup()],), daemon=True)
    thread.start()
    try:
        yield app.report
    finally:
        server.should_exit = True
        thread.join()


def serve(settings: Settings, mounted: Mounted, listening: socket.socket) -> None:
    """Serve what is mounted until told to stop, with a process for each worker.

    Raises ServeError if a worker can not start.
    """
    settings = with_session_key(settings)  # one for all workers
    with TemporaryDirectory(prefix="mimicit-") as shared, announce(mounted.folder, Path(shared)):
        counts = Path(shared) / "counts"
        counts.mkdir()
        _run(settings, mounted, OrdersFolder(Path(shared)), counts, listening)


def _run(
    settings: Settings,
    mounted: Mounted,
    orders: OrdersFolder,
    counts: Path,
    listening: socket.socket,
) -> None:
    config = uvicorn.Config(
        partial(create_worker_app, settings, mounted.folder, orders.folder, counts),
        factory=True,
        workers=settings.workers,
        log_config=None,
        loop=_loop(orders.folder / "connections"),
        http=_protocol(settings),
        ws="none",
        lifespan="on",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=settings.keep_alive_seconds,
        timeout_graceful_shutdown=settings.shutdown_seconds,
        **_tls(settings),
    )
    workers = Workers(config, listening, mounted, settings, orders)
    workers.reloader.start()
    try:
        workers.run()
    finally:
        workers.reloader.close()
    if workers.could_not_start:
        raise ServeError("a worker could not start; what it said is above")


def _protocol(settings: Settings) -> type[asyncio.Protocol]:
    # A class, to uvicorn: it calls it, and passes it on to the workers.
    return cast(type[asyncio.Protocol], partial(BoundedProtocol, bounds_of(settings)))


def _loop(shares: Path) -> str:
    # As the protocol.
    return cast(str, partial(WorkerLoop, shares))


def _tls(settings: Settings) -> dict[str, Any]:
    return {"ssl_certfile": settings.tls_cert, "ssl_keyfile": settings.tls_key}
