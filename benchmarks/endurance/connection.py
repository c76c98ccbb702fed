"""A keep-alive HTTP connection of an event loop, with answers as they come."""

import asyncio
from dataclasses import dataclass
from typing import NamedTuple

_SECONDS = 60.0
_LIMIT_BYTES = 1 << 16


class UnansweredError(Exception):
    """The connection ended before the first byte of an answer: to ask again is safe."""


class CutOffError(Exception):
    """The connection ended in the middle of an answer, or nothing came for a minute."""


class Answer(NamedTuple):
    """An answer, whole; names of headers are lower case."""

    status: int
    headers: dict[str, str]
    body: bytes


@dataclass(slots=True)
class Connection:
    """One connection; `close` it when done."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def ask(
        self, method: str, path: str, headers: dict[str, str] | None = None, body: bytes = b""
    ) -> Answer:
        """The answer to a request; raises UnansweredError and CutOffError."""
        lines = [f"{method} {path} HTTP/1.1", "Host: 127.0.0.1"]
        lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
        if body:
            lines.append(f"Content-Length: {len(body)}")
        request = "\r\n".join(lines).encode() + b"\r\n\r\n" + body
        try:
            async with asyncio.timeout(_SECONDS):
                status, found = _parse(await self._read_head(request))
                return Answer(status, found, await self._read_body(method, status, found))
        except (OSError, EOFError) as error:  # TimeoutError is an OSError
            raise CutOffError from error

    async def _read_head(self, request: bytes) -> bytes:
        try:
            self.writer.write(request)
            await self.writer.drain()
            return await self.reader.readuntil(b"\r\n\r\n")
        except asyncio.IncompleteReadError as error:
            if error.partial:
                raise
            raise UnansweredError from error
        except ConnectionError as error:
            raise UnansweredError from error

    async def _read_body(self, method: str, status: int, headers: dict[str, str]) -> bytes:
        if method == "HEAD" or status in (204, 304):
            return b""
        if "content-length" in headers:
            return await self.reader.readexactly(int(headers["content-length"]))
        parts = []
        while size := int(await self.reader.readuntil(b"\r\n"), 16):
            parts.append(await self.reader.readexactly(size))
            await self.reader.readexactly(2)
        await self.reader.readuntil(b"\r\n")
        return b"".join(parts)

    def close(self) -> None:
        """Close it at once."""
        self.writer.transport.abort()


def _parse(head: bytes) -> tuple[int, dict[str, str]]:
    status, *fields = head.decode("latin-1").rstrip().split("\r\n")
    headers = (field.partition(":") for field in fields)
    return int(status.split(" ", 2)[1]), {name.lower(): value.strip() for name, _, value in headers}


async def connect(port: int) -> Connection:
    """A connection to that port of this machine; raises OSError."""
    return Connection(*await asyncio.open_connection("127.0.0.1", port, limit=_LIMIT_BYTES))
