"""Pieces as an answer, which go to the socket as they are; those of a batch a part at a time."""

import logging
from contextlib import AbstractAsyncContextManager, AsyncExitStack

from fastapi import Request, Response
from starlette.types import Receive, Scope, Send

from app.batcher import Batch, GoneError
from app.batches.encoder import Piece
from app.batches.formats import Format
from app.errors import MimicitError
from app.routes.revision import REVALIDATE

_LARGE_BYTES = 1 << 16  # from here on a piece is sent as it is, and not copied

_log = logging.getLogger("mimicit.batches")


class PiecesResponse(Response):
    """Sends pieces, all of which are there."""

    def __init__(self, pieces: list[Piece], content_type: str, cache_control: str) -> None:
        self.status_code = 200
        self.background = None
        length = str(sum(map(len, pieces)))
        self.init_headers(
            {
                "content-type": content_type,
                "content-length": length,
                "cache-control": cache_control,
            }
        )
        self._pieces = pieces

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        await _send_pieces(send, self._pieces)
        await send({"type": "http.response.body", "body": b"", "more_body": False})


class BatchResponse(Response):
    """Sends an open batch, and closes it when the client has taken the last byte or has gone.

    A batch that can not go on in the middle is cut off: its length is not announced, so a client
    sees that it is not whole.
    """

    def __init__(
        self, batch: Batch, format: Format, cache_control: str, stack: AsyncExitStack
    ) -> None:
        headers = {
            "content-type": format.content_type,
            "vary": "accept",
            "x-batch-group": batch.group,
            # One with substitutes may come without them when the file is mended.
            "cache-control": REVALIDATE if batch.substituted != 0 else cache_control,
        }
        if batch.substituted is not None:
            headers["x-batch-substituted"] = str(batch.substituted)
        if batch.rest is None:
            headers["content-length"] = str(sum(map(len, batch.first)))
        self.status_code = 200
        self.background = None
        self.init_headers(headers)
        self._batch = batch
        self._stack = stack

    @classmethod
    async def open(
        cls, opening: AbstractAsyncContextManager[Batch], format: Format, cache_control: str
    ) -> Response:
        """The answer of a batch, opened; raises what opening it does."""
        async with AsyncExitStack() as stack:
            try:
                batch = await stack.enter_async_context(opening)
            except GoneError:
                return Response(status_code=499)  # to nobody; logs and metrics know it from nginx
            return cls(batch, format, cache_control, stack.pop_all())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with self._stack:
            await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
            await _send_pieces(send, self._batch.first)
            if self._batch.rest is not None:
                request = Request(scope, receive)
                try:
                    async for part in self._batch.rest:
                        if await request.is_disconnected():
                            return
                        await _send_pieces(send, part)
                except MimicitError as error:
                    _log.error("%s %s is cut off: %s", scope["method"], scope["path"], error)
                    return
            # The server takes it only when the client has taken the rest: until then memory is
            # held, and counted.
            await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _send_pieces(send: Send, pieces: list[Piece]) -> None:
    """Send them, small neighbours together: most pieces of a record batch are a few bytes, and each
    would be a packet of its own, which costs the client as well."""
    pieces.reverse()
    while pieces:  # taken off the list, so that what is sent is not held
        body = pieces.pop()
        if len(body) < _LARGE_BYTES:
            small = [body]
            while pieces and len(pieces[-1]) < _LARGE_BYTES:
                small.append(pieces.pop())
            body = b"".join(small)
        await send({"type": "http.response.body", "body": body, "more_body": True})
