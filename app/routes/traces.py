"""Requests as spans of OpenTelemetry, which its SDK sends away in batches, on a thread of its own.

Only imported where spans are wanted: then these stand around the front and behind it, and elsewhere
nothing does. What the SDK does is configured by its own environment variables.
"""

from collections.abc import Iterable
from contextvars import ContextVar
from http import HTTPMethod
from threading import Thread

from msgspec import structs
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import (
    Span,
    SpanKind,
    StatusCode,
    Tracer,
    format_span_id,
    format_trace_id,
)
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from starlette.types import ASGIApp, Receive, Scope, Send

from app.logs.format import SPAN_IDS, SpanIds
from app.logs.log import Exchange, Log, TracedExchange

# A collector that is down is tried for half a minute; who stops the service does not wait for that.
_LAST_SECONDS = 5.0

_METHODS = frozenset(method.value for method in HTTPMethod)
_PARENT = frozenset({b"traceparent", b"tracestate"})
_NO_PARENT = Context()
_PROPAGATOR = TraceContextTextMapPropagator()
_SPAN_ONLY = "span"  # in place of a level

# Of the request that is being answered, if it is sampled.
_SPAN: ContextVar[Span | None] = ContextVar("span", default=None)


class Traces:
    """Makes spans and sends them; `close` it when done."""

    def __init__(self, version: str) -> None:
        ours = Resource({"service.name": "mimicit", "service.version": version})
        named = Resource.create(ours.merge(OTELResourceDetector().detect()).attributes)
        self._provider = TracerProvider(resource=named, shutdown_on_exit=False)
        self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        self._tracer = self._provider.get_tracer("mimicit", version)

    def around(self, app: ASGIApp) -> "Traced":
        """The application, its requests being spans."""
        return Traced(app, self._tracer)

    def tell(self, log: Log | None) -> "TracedLog":
        """What the application is to tell of requests in place of the log."""
        return TracedLog(log)

    def close(self) -> None:
        """Send what waits, unless nobody takes it."""
        last = Thread(target=self._provider.shutdown, name="traces", daemon=True)
        last.start()
        last.join(_LAST_SECONDS)


class Traced:
    """Makes a span of each request, a child of the one that it names, and hands it on to `app`."""

    def __init__(self, app: ASGIApp, tracer: Tracer) -> None:
        self._app = app
        self._tracer = tracer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        method = scope["method"] if scope["method"] in _METHODS else "HTTP"
        parent = _find_parent(scope["headers"])
        span = self._tracer.start_span(method, parent, SpanKind.SERVER)
        # Set in any case: a request that was sent behind another one begins in the other's context.
        if not span.is_recording():
            _SPAN.set(None)
            SPAN_IDS.set(None)
            await self._app(scope, receive, send)
            return
        _SPAN.set(span)
        ids = span.get_span_context()
        SPAN_IDS.set(SpanIds(format_trace_id(ids.trace_id), format_span_id(ids.span_id)))
        try:
            await self._app(scope, receive, send)
        finally:
            span.end()


class TracedLog:
    """Tells of each request in its span, if it has one, and in the log, if there is one."""

    def __init__(self, log: Log | None) -> None:
        self._log = log

    def wants(self, status: int, *, is_routine: bool) -> str | None:
        """The level of a request with that status, if it is to be told of anywhere."""
        level = self._log.wants(status, is_routine=is_routine) if self._log is not None else None
        return level or (_SPAN_ONLY if _SPAN.get() is not None else None)

    def exchange(self, one: Exchange, level: str) -> None:
        """Tell of a request."""
        span, ids = _SPAN.get(), SPAN_IDS.get()
        if span is not None and ids is not None:
            _describe(span, one)
            one = TracedExchange(**structs.asdict(one), **ids._asdict())
        if self._log is not None and level != _SPAN_ONLY:
            self._log.exchange(one, level)


def _find_parent(headers: Iterable[tuple[bytes, bytes]]) -> Context:
    given: dict[str, list[str]] = {}
    for name, value in headers:
        if name in _PARENT:
            given.setdefault(name.decode(), []).append(value.decode("latin-1"))
    return _PROPAGATOR.extract(given, _NO_PARENT) if given else _NO_PARENT


def _describe(span: Span, one: Exchange) -> None:
    """Say in the span what became of the request, in the words of OpenTelemetry's conventions, and
    nothing that clients chose but the id: keys are in paths and queries."""
    is_known = one.method in _METHODS
    span.set_attribute("http.request.method", one.method if is_known else "_OTHER")
    span.set_attribute("http.response.status_code", one.status)
    span.set_attribute("http.response.body.size", one.bytes)
    span.set_attribute("mimicit.request_id", one.request_id)
    if one.route is not None:
        span.set_attribute("http.route", one.route)
        span.update_name(f"{one.method if is_known else 'HTTP'} {one.route}")
    if one.status >= 500:
        span.set_attribute("error.type", str(one.status))
        span.set_status(StatusCode.ERROR)
