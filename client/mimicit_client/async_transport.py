"""Sends one request, once, for asyncio: over httpx."""

import ssl
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import pyarrow as pa

from mimicit_client.request import Answer, Request
from mimicit_client.retries import Fault
from mimicit_client.transport import (
    IDLE_SECONDS,
    NO_LENGTH,
    Timeouts,
    allocate,
    describe,
    make_headers,
)


class AsyncTransport:
    """For asyncio."""

    def __init__(self, token: str | None, timeouts: Timeouts) -> None:
        self._http = httpx.AsyncClient(
            headers=make_headers(token),
            timeout=httpx.Timeout(
                timeouts.read_seconds, connect=timeouts.connect_seconds, pool=None
            ),
            # No limit on connections: there are as many as the caller has tasks.
            limits=httpx.Limits(keepalive_expiry=IDLE_SECONDS),
            # Neither proxies nor what else the environment says, as with http.client.
            trust_env=False,
            verify=ssl.create_default_context(),
        )

    async def send(self, url: str, request: Request) -> Answer:
        """The answer, whole; raises Fault if there is none."""
        with _faults():
            async with self._http.stream(
                request.method,
                url + request.target,
                headers=request.headers,
                content=request.body,
            ) as response:
                return Answer(response.status_code, response.headers, await _gather(response))

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()


async def _gather(response: httpx.Response) -> pa.Buffer:
    length = response.headers.get("content-length")
    if length is None:
        if "transfer-encoding" not in response.headers:
            raise httpx.RemoteProtocolError(NO_LENGTH)
        pieces = pa.BufferOutputStream()
        async for piece in response.aiter_raw():
            pieces.write(piece)
        return pieces.getvalue()
    buffer, view = allocate(int(length))
    at = 0
    async for piece in response.aiter_raw():
        view[at : at + len(piece)] = piece
        at += len(piece)
    return buffer


@contextmanager
def _faults() -> Iterator[None]:
    try:
        yield
    except (httpx.ConnectError, httpx.ConnectTimeout) as error:
        raise Fault(f"no connection ({describe(error)})", is_down=True) from error
    except (httpx.TimeoutException, httpx.NetworkError, httpx.RemoteProtocolError) as error:
        raise Fault(f"no whole answer ({describe(error)})", is_down=False) from error
