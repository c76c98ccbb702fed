"""A connection's bounds, which uvicorn does not have: on heads, on slow clients, on bodies nobody
reads, and on how many connections there are."""

import asyncio
from http import HTTPStatus
from typing import Any, NamedTuple, cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from app.answer_transport import AnswerTransport
from app.descriptors import first_beyond
from app.settings import Settings
from app.shares import Shares

# Of the process's descriptors: some are left for files, also when connections take all they can.
_CONNECTIONS_SHARE = 0.875
# After so many it is looked, in 4 µs, whether another worker has fewer connections: one that began
# later than the others would have none for as long as clients keep theirs. Of batches that take
# 0.3 s that is each half minute.
_STAY_REQUESTS = 100
# Longer than a request takes to come that its client sent before it knew.
_LAST_REQUEST_SECONDS = 0.2


class Bounds(NamedTuple):
    """Of a connection: bytes of a request's head and body, and how long each may take to come; and
    of a worker, how many connections, and the first descriptor that is for none of them."""

    head_bytes: int
    body_bytes: int
    head_seconds: float
    body_seconds: float
    connections: int
    descriptors: int


def bounds_of(settings: Settings) -> Bounds:
    """The settings' bounds."""
    return Bounds(
        settings.max_head_bytes,
        settings.max_body_bytes,
        settings.head_seconds,
        settings.body_seconds,
        settings.max_connections,
        first_beyond(_CONNECTIONS_SHARE),
    )


# What a connection waits for: plain numbers, which are compared several times a request.
_IDLE, _HEAD, _BODY = range(3)


class _RefusedError(Exception):
    """The request is not taken: the parser stops."""


class _Trailers(list[tuple[bytes, bytes]]):
    """Headers behind a body, which nobody reads: they are passed over, up to a bound."""

    left_bytes = 0

    def append(self, header: tuple[bytes, bytes]) -> None:
        self.left_bytes -= len(header[0]) + len(header[1])
        if self.left_bytes < 0:
            raise _RefusedError


class BoundedProtocol(HttpToolsProtocol):
    """uvicorn's protocol with bounds; what is over them is answered plainly, and the connection
    closed. One timer looks after a connection, and none after each request; super() would take
    longer than the methods do."""

    def __init__(self, bounds: Bounds, **given: Any) -> None:
        super().__init__(**given)
        self._bounds = bounds
        self._stage = _HEAD
        self._since: float | None = None  # what is due is due since then
        self._messages = 0
        self._head_bytes = 0
        self._body_bytes = 0
        self._may_be_large = False
        self._refusal = HTTPStatus.BAD_REQUEST
        self._is_ending = False
        self._trailers = _Trailers()
        self.shares: Shares | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._since = self.loop.time()
        descriptor = transport.get_extra_info("socket").fileno()
        bounds = self._bounds
        if len(self.connections) > bounds.connections or descriptor >= bounds.descriptors:
            self._refuse(HTTPStatus.SERVICE_UNAVAILABLE)
        else:
            self._look_later()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        if self.shares is not None:
            self.shares.remove()

    def data_received(self, data: bytes) -> None:
        stage, messages = self._stage, self._messages
        self._may_be_large = self._head_bytes + len(data) > self._bounds.head_bytes
        HttpToolsProtocol.data_received(self, data)
        if self._stage is _IDLE:
            return
        if self._since is None:
            self._since = self.loop.time()
        if self._stage is _HEAD:
            if messages == self._messages:
                self._head_bytes += len(data)
            else:  # of what came with the end of another request it is not known how much is head
                is_alone = stage is not _BODY and messages + 1 == self._messages
                self._head_bytes = len(data) if is_alone else 0
            if self._head_bytes > self._bounds.head_bytes:
                self._refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)

    def on_message_begin(self) -> None:
        self._stage, self._since = _HEAD, None
        self._messages += 1
        HttpToolsProtocol.on_message_begin(self)

    def on_headers_complete(self) -> None:
        self._stage, self._since = _BODY, None
        self._head_bytes = self._body_bytes = 0
        if self._may_be_large:
            size = len(self.url) + sum(len(name) + len(value) for name, value in self.headers)
            if size > self._bounds.head_bytes:
                self._refusal = HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE
                raise _RefusedError
        HttpToolsProtocol.on_headers_complete(self)
        if self.scope["method"] != "HEAD":
            answered = AnswerTransport(self.transport, self.cycle)
            self.cycle.transport = cast(asyncio.Transport, answered)
        self.headers = self._trailers
        self._trailers.left_bytes = self._bounds.head_bytes
        if self._is_ending or (self._messages % _STAY_REQUESTS == 0 and self._is_one_too_many()):
            self.cycle.keep_alive = False

    def on_body(self, body: bytes) -> None:
        self._body_bytes += len(body)
        if self.cycle.response_complete and self._body_bytes > self._bounds.body_bytes:
            self.transport.close()  # it has its answer, and goes on sending
            return
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._stage, self._since = _IDLE, None
        HttpToolsProtocol.on_message_complete(self)

    def send_400_response(self, msg: str) -> None:
        """What uvicorn says when the parser stops."""
        self._refuse(self._refusal)

    def shutdown(self) -> None:
        """End the connection with the answer that is on its way, or the next one; if none is asked
        for in a moment, then without: where a request lies unread, closing resets it."""
        self._is_ending = True
        if self.cycle is not None and not self.cycle.response_complete:
            self.cycle.keep_alive = False
        else:
            self.loop.call_later(_LAST_REQUEST_SECONDS, self._close_idle)

    def _close_idle(self) -> None:
        if self.cycle is None or self.cycle.response_complete:
            self.transport.close()

    def _is_one_too_many(self) -> bool:
        return self.shares is not None and self.shares.is_another_due()

    def _look_later(self) -> None:
        seconds = min(self._bounds.head_seconds, self._bounds.body_seconds) / 2
        self.loop.call_later(seconds, self._look)

    def _look(self) -> None:
        """Cut the client off if what it has begun to send is overdue."""
        if self.transport.is_closing():
            return
        if self._is_overdue():
            self._refuse(HTTPStatus.REQUEST_TIMEOUT)
        else:
            self._look_later()

    def _is_overdue(self) -> bool:
        if self._since is None:
            return False
        is_head = self._stage is _HEAD
        is_asked = self.cycle is not None and not self.cycle.response_complete
        if self.pipeline or (is_head and is_asked):
            return False  # it still takes the answer to a request before
        allowed = self._bounds.head_seconds if is_head else self._bounds.body_seconds
        return self.loop.time() - self._since >= allowed

    def _refuse(self, status: HTTPStatus) -> None:
        """Say why, unless an answer is on its way, and close the connection."""
        if self.transport.is_closing():
            return
        # `cycle` is the last request that came; one before it may be the one that is answered.
        is_last = self.cycle is None or self.cycle.response_complete
        if not self.pipeline and (is_last or not self.cycle.response_started):
            text = f"{status.phrase}\n"
            lines = (
                f"HTTP/1.1 {status} {status.phrase}",
                "content-type: text/plain; charset=utf-8",
                f"content-length: {len(text)}",
                "retry-after: 1",
                "connection: close",
            )
            self.transport.write("\r\n".join([*lines, "", text]).encode())
        self.transport.close()
