"""What stands before the application: it sees each request and its answer, counts and logs it."""

import logging
from collections.abc import Iterator
from functools import partial
from time import perf_counter_ns
from typing import Protocol

from fastapi import FastAPI, Request, Response
from fastapi.responses import RedirectResponse
from fastapi.routing import iter_route_contexts
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.errors import MimicitError, UnauthorizedError
from app.logs.format import REQUEST_ID
from app.logs.log import Exchange
from app.routes import warm_images
from app.routes.guard import Guard, find_sign_in
from app.routes.problems import answer_fact
from app.routes.request_ids import RequestIds
from app.service import Service

# Asked every few seconds by what watches the service.
_ROUTINE = frozenset({"/healthz", "/readyz", "/metrics"})

_MAX_TARGET_BYTES = 2000  # a key of 1,000 bytes, percent-encoded in part

_log = logging.getLogger("mimicit.requests")


class Listener(Protocol):
    """What is told of requests, as `Log` is."""

    def wants(self, status: int, *, is_routine: bool) -> str | None:
        """The level of a request with that status, if it is to be told of."""

    def exchange(self, one: Exchange, level: str) -> None:
        """Tell of a request."""


class Front:
    """Answers warm images itself, and hands the other requests on to `app`; what goes wrong there
    is logged, and goes no further.

    It is asked 9,000 times a second, of which each microsecond of its own takes 1 %.
    """

    def __init__(self, app: ASGIApp, guard: Guard, log: Listener | None = None) -> None:
        self._app = app
        self._guard = guard
        self._log = log
        self._ids = RequestIds()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        service: Service = scope["state"]["service"]
        meter = service.meter
        began = perf_counter_ns()
        in_flight = meter.begin()
        template, status, sent_bytes = None, 500, 0  # of one that fails: the server says so
        who, given_id, token, cookie = "", None, None, None
        for name, value in scope["headers"]:
            if name == b"x-request-id":
                given_id = value
            elif name == b"authorization":
                token = value
            elif name == b"cookie":
                cookie = value
        request_id = self._ids.take(given_id)
        id_header = (b"x-request-id", request_id.encode())
        try:
            try:
                who = self._guard.admit(scope, in_flight, token, cookie)
                scope["state"]["is_known"] = bool(who) or not self._guard.tokens.are_needed
                warm, app = warm_images.read(scope, service), self._app
            except MimicitError as error:
                warm, app = None, partial(_refuse, error)
            if warm is None:
                is_head = scope["method"] == "HEAD"
                asked = _as_get(scope) if is_head else scope
                answer = _Answer(send, id_header, has_body=not is_head)
                try:
                    await _hand_on(app, asked, receive, answer, request_id)
                finally:
                    template = getattr(asked.get("route"), "path_format", None)
                    status, sent_bytes = answer.status, answer.sent_bytes
            else:
                headers, data = warm
                headers.append(id_header)
                template, status, sent_bytes = warm_images.TEMPLATE, 200, len(data)
                await send({"type": "http.response.start", "status": 200, "headers": headers})
                await send({"type": "http.response.body", "body": data})
        finally:
            took_ns = perf_counter_ns() - began
            meter.end(template, status, took_ns, sent_bytes)
            log = self._log
            if log is not None and (level := log.wants(status, is_routine=template in _ROUTINE)):
                client = scope["client"]
                exchange = Exchange(
                    request_id=request_id,
                    method=scope["method"],
                    target=_target(scope),
                    route=template,
                    status=status,
                    seconds=took_ns / 1e9,
                    bytes=sent_bytes,
                    client=client[0] if client else None,
                    token=who or None,
                )
                log.exchange(exchange, level)


def _target(scope: Scope) -> str:
    """Path and query as they were sent, the beginning of long ones."""
    target: bytes = scope["raw_path"]
    if scope["query_string"]:
        target += b"?" + scope["query_string"]
    return target[:_MAX_TARGET_BYTES].decode("ascii", "backslashreplace")


def _as_get(scope: Scope) -> Scope:
    """HEAD as GET, whose body the server leaves out, and without the range, which is GET's alone
    (RFC 9110, 9.3.2 and 14.2)."""
    headers = [(name, value) for name, value in scope["headers"] if name != b"range"]
    return {**scope, "method": "GET", "headers": headers}


async def _hand_on(
    app: ASGIApp, scope: Scope, receive: Receive, answer: "_Answer", request_id: str
) -> None:
    """Have the application answer; what goes wrong there is logged."""
    scope["state"]["request_id"] = request_id
    REQUEST_ID.set(request_id)
    try:
        await app(scope, receive, answer.send)
    except Exception:
        _log.exception("%s %s failed", scope["method"], scope["path"])


async def _refuse(error: MimicitError, scope: Scope, receive: Receive, send: Send) -> None:
    """Answer with the error; a person who may not see a page is shown where to sign in."""
    request = Request(scope)
    sign_in = find_sign_in(scope) if isinstance(error, UnauthorizedError) else None
    response: Response = await answer_fact(request, error)
    if sign_in is not None:
        response = RedirectResponse(sign_in, 303, {"cache-control": "no-store"})
    response.headers["x-content-type-options"] = "nosniff"
    await response(scope, receive, send)


class _Answer:
    """Passes an answer on with its request's id, and remembers its status and length."""

    __slots__ = ("_has_body", "_id_header", "_send", "sent_bytes", "status")

    def __init__(self, send: Send, id_header: tuple[bytes, bytes], *, has_body: bool) -> None:
        self._send = send
        self._has_body = has_body
        self._id_header = id_header
        self.status = 500
        self.sent_bytes = 0

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.body":
            if self._has_body:
                self.sent_bytes += len(message.get("body", b""))
        elif message["type"] == "http.response.start":
            self.status = message["status"]
            message = {**message, "headers": [*message.get("headers", ()), self._id_header]}
        await self._send(message)


def list_templates(app: FastAPI) -> Iterator[str]:
    """The templates of the application's routes, as requests are counted by them."""
    for route in iter_route_contexts(app.routes):
        if route.path_format is not None:
            yield route.path_format
