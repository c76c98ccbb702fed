"""Sends one request, once, and blocks.

Over http.client, which reads a body of known length straight into its place: a batch of 19 MB takes
it 5 ms of processor time, where httpx takes 14, most of them with the interpreter's lock held.
"""

import http.client
import ssl
import threading
import time
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

import pyarrow as pa

from mimicit_client.request import Answer, Request
from mimicit_client.retries import Fault

# The service closes an idle connection after 30 s: leave it before that.
IDLE_SECONDS = 25.0
NO_LENGTH = "of no length: where it ends it may be cut off"
_PIECE_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Timeouts:
    """What a request may take, in seconds."""

    connect_seconds: float = 5.0
    """A connection within a data centre takes milliseconds; a host that is gone takes all of it."""
    read_seconds: float = 60.0
    """For the next bytes, not for all: a batch from a cold network disk begins after seconds."""


DEFAULT_TIMEOUTS = Timeouts()


def make_headers(token: str | None) -> dict[str, str]:
    """The headers of every request."""
    # identity: pictures do not compress, and the length has to be known before the body.
    headers = {"accept-encoding": "identity", "user-agent": "mimicit-client"}
    return headers if token is None else headers | {"authorization": f"Bearer {token}"}


def describe(error: Exception) -> str:
    """An error and its kind, which some have nothing beside."""
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


def allocate(length: int) -> tuple[pa.Buffer, memoryview]:
    """A buffer for a body of that length, and the view to fill it through."""
    # Arrow's own memory: aligned to 64 bytes, as its columns want it, and not cleared.
    buffer = pa.allocate_buffer(length)
    return buffer, memoryview(buffer).cast("B")


class Transport:
    """Blocking; threads may share it, forked processes may not."""

    def __init__(self, token: str | None, timeouts: Timeouts) -> None:
        self._headers = make_headers(token)
        self._timeouts = timeouts
        self._lock = threading.Lock()
        self._idle: defaultdict[str, list[_Connection]] = defaultdict(list)
        self._tls: ssl.SSLContext | None = None
        self._is_closed = False

    def send(self, url: str, request: Request) -> Answer:
        """The answer, whole; raises Fault if there is none."""
        connection = self._take(url)
        try:
            answer = connection.ask(request, self._headers)
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            raise Fault(f"no whole answer ({describe(error)})", is_down=False) from error
        except BaseException:
            connection.close()
            raise
        with self._lock:
            if connection.is_open and not self._is_closed:
                self._idle[url].append(connection)
                return answer
        connection.close()
        return answer

    def _take(self, url: str) -> "_Connection":
        with self._lock:
            idle = self._idle[url]
            while idle:
                connection = idle.pop()
                if connection.is_usable():
                    return connection
                connection.close()
            if self._tls is None and url.startswith("https:"):
                self._tls = ssl.create_default_context()
        try:
            return _Connection(url, self._timeouts, self._tls)
        except (OSError, http.client.HTTPException) as error:
            raise Fault(f"no connection ({describe(error)})", is_down=True) from error

    def close(self) -> None:
        """Close the connections: those that a request still uses when it is done."""
        with self._lock:
            self._is_closed = True
            for connections in self._idle.values():
                while connections:
                    connections.pop().close()


class _Connection:
    """A connection that is open, to a service under that URL."""

    def __init__(self, url: str, timeouts: Timeouts, tls: ssl.SSLContext | None) -> None:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
        seconds = timeouts.connect_seconds
        self._prefix = parts.path
        self._http = (
            http.client.HTTPSConnection(host, port, timeout=seconds, context=tls)
            if parts.scheme == "https"
            else http.client.HTTPConnection(host, port, timeout=seconds)
        )
        try:
            self._http.connect()
        except BaseException:
            self._http.close()
            raise
        self._read_seconds = timeouts.read_seconds
        self._http.sock.settimeout(self._read_seconds)
        self._idle_since = time.monotonic()

    @property
    def is_open(self) -> bool:
        return self._http.sock is not None

    def is_usable(self) -> bool:
        """Whether the service has not closed it, and is not about to."""
        if time.monotonic() - self._idle_since > IDLE_SECONDS:
            return False
        # Nothing is due: a byte or an end that can be read means that it is over.
        self._http.sock.settimeout(0)
        try:
            self._http.sock.recv(1)
        except (BlockingIOError, ssl.SSLWantReadError):
            self._http.sock.settimeout(self._read_seconds)
            return True
        except OSError:
            pass
        return False

    def ask(self, request: Request, headers: Mapping[str, str]) -> Answer:
        """The answer, whole; raises OSError and HTTPException."""
        self._http.putrequest(
            request.method, self._prefix + request.target, skip_accept_encoding=True
        )
        for name, value in (dict(headers) | request.headers).items():
            self._http.putheader(name, value)
        if request.body is not None:
            self._http.putheader("content-length", str(len(request.body)))
        self._http.endheaders(request.body)
        with self._http.getresponse() as response:
            body = _read_all(response)
            named = {name.lower(): value for name, value in response.getheaders()}
            self._idle_since = time.monotonic()
            return Answer(response.status, named, body)

    def close(self) -> None:
        self._http.close()


def _read_all(response: http.client.HTTPResponse) -> pa.Buffer:
    length = response.length
    if length is None:
        if not response.chunked:
            raise http.client.HTTPException(NO_LENGTH)
        pieces = pa.BufferOutputStream()
        piece = memoryview(bytearray(_PIECE_BYTES))
        while size := response.readinto(piece):
            pieces.write(piece[:size])
        return pieces.getvalue()
    buffer, view = allocate(length)
    at = 0
    while at < length:
        size = response.readinto(view[at:])
        if not size:
            raise http.client.IncompleteRead(b"", length - at)
        at += size
    return buffer
