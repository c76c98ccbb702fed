"""The application, as a function of its settings and of the catalog's folder."""

import asyncio
import gc
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

from fastapi import FastAPI
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app import __version__
from app.catalog.manifest import get_manifest
from app.errors import MimicitError
from app.explorer import router as explorer
from app.explorer.failures import add_error_pages
from app.explorer.known import Shelf
from app.live import Live
from app.logs.log import Log
from app.metrics.meter import Meter
from app.orders import OrdersFolder, OrdersSource
from app.processes import end_with_parent
from app.routes import batches, datasets, health, images, instructions, metrics, sign_in
from app.routes.docs import add_docs
from app.routes.front import Front, list_templates
from app.routes.guard import Guard
from app.routes.problems import add_problem_handlers
from app.service import Service
from app.settings import Settings

if TYPE_CHECKING:
    from app.routes.traces import Traces


class TracesError(MimicitError):
    """Requests can not be traced."""

    code = "traces"


class State(TypedDict):
    """What the lifespan hands to every request."""

    live: Live
    shelf: Shelf


class PickService:
    """Gives each request the service of the catalog that is served as it begins, to its end."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            scope["state"]["service"] = scope["state"]["live"].service
        await self._app(scope, receive, send)


class StampHeaders:
    """Adds the catalog's revision to every answer, and keeps browsers from guessing types."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        revision = scope["state"]["service"].catalog.revision

        async def stamp(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(raw=message["headers"])
                headers.append("x-catalog-revision", revision)
                headers.append("x-content-type-options", "nosniff")
            await send(message)

        await self._app(scope, receive, stamp)


def load_traces() -> "type[Traces]":
    """What makes spans of requests; raises TracesError if OpenTelemetry is not installed."""
    try:
        from app.routes.traces import Traces
    except ImportError as error:
        raise TracesError(
            "the setting traces needs OpenTelemetry: python -m pip install 'mimicit[otel]'"
        ) from error
    return Traces


def create_app(
    settings: Settings,
    folder: Path,
    orders: OrdersSource | None = None,
    counts: Path | None = None,
    log: Log | None = None,
) -> ASGIApp:
    """The service of the catalog in `folder`: of the manifest that is in it, or of what `orders`
    say, now and later.

    What it counts it keeps in the folder `counts`, with the other workers of the service, and `log`
    is told of requests.

    Raises TracesError. Its lifespan raises CatalogError if there is no catalog.
    """

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[State]:
        manifest = orders.read().manifest if orders else get_manifest(folder)
        meter = Meter(list_templates(app), counts)
        live = Live(Service(folder, settings, meter, manifest), manifest, orders)
        shelf = Shelf(settings)
        gc.freeze()  # what is here stays: looking at it again takes 0.5 ms of every batch
        following = asyncio.create_task(live.follow())
        try:
            yield {"live": live, "shelf": shelf}
        finally:
            following.cancel()
            shelf.close()
            live.close()
            meter.close()
            if traces is not None:
                traces.close()

    guard = Guard(settings)
    traces = load_traces()(__version__) if settings.traces else None
    app = FastAPI(
        title="mimicit",
        version=__version__,
        summary="MIMIC-IT instructions and images, read in place from the files they are in.",
        license_info={"name": "Apache-2.0", "identifier": "Apache-2.0"},
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,  # a key may end in a slash
        # Its own spans and logs would have paths and queries in them, with their keys.
        telemetry={"tracing": False, "metrics": False, "logs": False, "auto_configure": False},
        lifespan=lifespan,
    )
    # Images first: routes are tried in turn, and they are what is asked for most.
    app.include_router(images.create_router(settings))
    app.include_router(batches.create_router(settings))
    app.include_router(instructions.create_router(settings))
    app.include_router(datasets.create_router())
    app.include_router(health.create_router())
    app.include_router(explorer.create_router())
    app.include_router(sign_in.create_router(guard))
    app.include_router(metrics.create_router(__version__))
    add_docs(app)
    add_problem_handlers(app)
    add_error_pages(app)
    if traces is None:
        return PickService(Front(StampHeaders(app), guard, log))
    return PickService(traces.around(Front(StampHeaders(app), guard, traces.tell(log))))


def create_worker_app(settings: Settings, folder: Path, orders: Path, counts: Path) -> ASGIApp:
    """A worker's application. All workers follow the same orders, also one that comes later, and
    none outlives the service."""
    end_with_parent()
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # for the first process, which has it in orders
    log = Log(settings.log_format, settings.log_level)
    log.take_records()
    return create_app(settings, folder, OrdersFolder(orders), counts, log)
