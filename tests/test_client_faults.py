"""The client against servers that fail, stall, lie and come back."""

import asyncio
import shutil
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from email.utils import formatdate
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
from mimicit_client import (
    AnswerError,
    AsyncClient,
    Client,
    ConnectionFailedError,
    InternalError,
    OverloadedError,
    ProblemError,
    Retries,
    Timeouts,
    UnauthorizedError,
    UnknownImageError,
)
from mimicit_client.endpoints import Endpoints
from mimicit_client.request import Answer, Request
from mimicit_client.retries import Fault, Pause, Send, exchange, read_retry_after

pytestmark = pytest.mark.slow

Action = Callable[[socket.socket], bool]
QUICK = Retries(total_seconds=5, first_pause_seconds=0.01, max_pause_seconds=0.05)
BODY = bytes(range(256)) * 400


class FaultyServer:
    """A server that does what its list says, one action a request, and the last one for ever."""

    def __init__(self, *actions: Action, port: int = 0, tls: ssl.SSLContext | None = None) -> None:
        self._listening = socket.create_server(("127.0.0.1", port))
        self._tls = tls
        scheme = "https" if tls else "http"
        self.url = f"{scheme}://127.0.0.1:{self._listening.getsockname()[1]}"
        self.heads: list[str] = []
        self.connections = 0
        self._actions = list(actions)
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listening.accept()
            except OSError:
                return
            self.connections += 1
            self._open.add(connection)
            thread = threading.Thread(target=self._serve, args=(connection,))
            self._threads.append(thread)
            thread.start()

    def _serve(self, connection: socket.socket) -> None:
        try:
            if self._tls:
                connection = self._tls.wrap_socket(connection, server_side=True)
            while head := read_head(connection):
                with self._lock:
                    self.heads.append(head)
                    action = self._actions.pop(0) if len(self._actions) > 1 else self._actions[0]
                if not action(connection):
                    return
        except OSError:
            pass
        finally:
            self._open.discard(connection)
            connection.close()

    def __enter__(self) -> "FaultyServer":
        return self

    def __exit__(self, *_: object) -> None:
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        for connection in list(self._open):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(10)
            assert not thread.is_alive()


def read_head(connection: socket.socket) -> str:
    """The head of a request, its body read too; empty at the end of the connection."""
    data = b""
    while b"\r\n\r\n" not in data:
        piece = connection.recv(65536)
        if not piece:
            return ""
        data += piece
    head, _, body = data.partition(b"\r\n\r\n")
    text = head.decode("latin-1")
    length = next(
        (
            int(line.split(":")[1])
            for line in text.split("\r\n")
            if line.lower().startswith("content-length:")
        ),
        0,
    )
    while len(body) < length:
        body += connection.recv(65536)
    return text


def answer(status: int, body: bytes = b"", **headers: str) -> Action:
    """A whole answer."""

    def act(connection: socket.socket) -> bool:
        named = {"content-length": str(len(body))} | {
            name.replace("_", "-"): value for name, value in headers.items()
        }
        lines = "".join(f"{name}: {value}\r\n" for name, value in named.items())
        connection.sendall(f"HTTP/1.1 {status} X\r\n{lines}\r\n".encode() + body)
        return True

    return act


def problem(status: int, code: str, **headers: str) -> Action:
    """A problem+json of that code."""
    body = b'{"code": "%s", "status": %d, "detail": "what to do"}' % (code.encode(), status)
    return answer(status, body, content_type="application/problem+json", **headers)


def cut_off(connection: socket.socket) -> bool:
    """Half of the announced body."""
    connection.sendall(b"HTTP/1.1 200 X\r\ncontent-length: %d\r\n\r\n" % len(BODY))
    connection.sendall(BODY[: len(BODY) // 2])
    return False


def cut_off_chunks(connection: socket.socket) -> bool:
    """A streamed body that ends without its end."""
    connection.sendall(b"HTTP/1.1 200 X\r\ntransfer-encoding: chunked\r\n\r\n")
    connection.sendall(b"%x\r\n%s\r\n" % (1000, BODY[:1000]))
    return False


def chunks(connection: socket.socket) -> bool:
    """The body as a stream of unknown length."""
    connection.sendall(b"HTTP/1.1 200 X\r\ntransfer-encoding: chunked\r\n\r\n")
    for at in range(0, len(BODY), 1000):
        piece = BODY[at : at + 1000]
        connection.sendall(b"%x\r\n%s\r\n" % (len(piece), piece))
    connection.sendall(b"0\r\n\r\n")
    return True


def no_length(connection: socket.socket) -> bool:
    """A body that ends with the connection, so that nobody knows whether it is whole."""
    connection.sendall(b"HTTP/1.1 200 X\r\n\r\n" + BODY[:1000])
    return False


def hang_up(connection: socket.socket) -> bool:
    """No answer at all."""
    return False


def stall(connection: socket.socket) -> bool:
    """Half of a body, and then nothing until the client leaves."""
    cut_off(connection)
    connection.recv(1)
    return False


def drip(connection: socket.socket) -> bool:
    """The body in small pieces with pauses, each shorter than the read timeout."""
    connection.sendall(b"HTTP/1.1 200 X\r\ncontent-length: 8\r\n\r\n")
    for n in range(8):
        connection.sendall(b"%d" % n)
        time.sleep(0.1)
    return True


OK = answer(200, BODY)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port: int = listening.getsockname()[1]
        return port


@pytest.fixture(params=["blocking", "asyncio"])
def get_image(request: pytest.FixtureRequest) -> Callable[..., bytes]:
    """Asks for an image with a client of its own, of either kind."""

    def ask(url: Any, key: str = "K", **options: Any) -> bytes:
        options = {"retries": QUICK} | options
        if request.param == "blocking":
            with Client(url, **options) as client:
                return client.image(key)

        async def ask_async() -> bytes:
            async with AsyncClient(url, **options) as client:
                return await client.image(key)

        return asyncio.run(ask_async())

    return ask


FAULTS = {
    "cut-off": cut_off,
    "chunks-cut-off": cut_off_chunks,
    "no-length": no_length,
    "hang-up": hang_up,
    "502": answer(502, b"<html>"),
    "504": answer(504),
    "429": answer(429),
    "500-of-a-proxy": answer(500, b"Internal Server Error"),
}


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_a_passing_fault_is_tried_again(get_image: Callable[..., bytes], fault: Action) -> None:
    with FaultyServer(fault, fault, OK) as server:
        assert get_image(server.url) == BODY
        assert len(server.heads) == 3


def test_a_body_of_unknown_length_is_whole(get_image: Callable[..., bytes]) -> None:
    with FaultyServer(chunks) as server:
        assert get_image(server.url) == BODY


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (404, "unknown_image", UnknownImageError),
        (401, "unauthorized", UnauthorizedError),
        (500, "internal_error", InternalError),
        (418, "of_tomorrow", ProblemError),
    ],
)
def test_a_lasting_fault_is_raised_at_once(
    get_image: Callable[..., bytes], status: int, code: str, kind: type[ProblemError]
) -> None:
    with FaultyServer(problem(status, code)) as server:
        with pytest.raises(kind, match="what to do") as raised:
            get_image(server.url)
        assert (raised.value.code, raised.value.status) == (code, status)
        assert len(server.heads) == 1


def test_a_page_of_a_proxy_is_a_problem_too(get_image: Callable[..., bytes]) -> None:
    with (
        FaultyServer(answer(403, b"<html>go away</html>")) as server,
        pytest.raises(ProblemError, match="go away") as raised,
    ):
        get_image(server.url)
    assert raised.value.code == "http_403"


def test_the_attempts_end_with_what_the_service_said(get_image: Callable[..., bytes]) -> None:
    with FaultyServer(problem(503, "overloaded")) as server:
        with pytest.raises(OverloadedError):
            get_image(server.url, retries=Retries(attempts=3, first_pause_seconds=0.01))
        assert len(server.heads) == 3


@pytest.mark.parametrize("as_date", [False, True], ids=["seconds", "date"])
def test_retry_after_is_honoured(get_image: Callable[..., bytes], as_date: bool) -> None:
    # A date has whole seconds: 3 of them are at least 2.
    value = formatdate(time.time() + 3, usegmt=True) if as_date else "2"
    with FaultyServer(problem(503, "overloaded", retry_after=value), OK) as server:
        started = time.monotonic()
        assert get_image(server.url) == BODY
        assert 1.9 < time.monotonic() - started < 4


def test_retry_after_is_bounded(get_image: Callable[..., bytes]) -> None:
    bounded = Retries(max_retry_after_seconds=0.3, first_pause_seconds=0.01)
    with FaultyServer(problem(503, "overloaded", retry_after="9999"), OK) as server:
        started = time.monotonic()
        assert get_image(server.url, retries=bounded) == BODY
        assert 0.3 <= time.monotonic() - started < 2


def test_a_refused_connection_fails_in_time(get_image: Callable[..., bytes]) -> None:
    started = time.monotonic()
    with pytest.raises(ConnectionFailedError, match="no connection"):
        get_image(
            f"http://127.0.0.1:{free_port()}",
            retries=Retries(total_seconds=0.5, max_pause_seconds=0.1),
        )
    assert 0.2 < time.monotonic() - started < 1.5


def test_a_service_that_comes_up_later_answers(get_image: Callable[..., bytes]) -> None:
    port = free_port()
    servers: list[FaultyServer] = []
    timer = threading.Timer(0.5, lambda: servers.append(FaultyServer(OK, port=port)))
    timer.start()
    try:
        assert get_image(f"http://127.0.0.1:{port}") == BODY
    finally:
        timer.join()
        servers[0].__exit__()


def test_a_stalled_answer_is_asked_for_again(get_image: Callable[..., bytes]) -> None:
    with FaultyServer(stall, OK) as server:
        assert get_image(server.url, timeouts=Timeouts(read_seconds=0.3)) == BODY
        assert len(server.heads) == 2


def test_a_slow_answer_is_waited_for(get_image: Callable[..., bytes]) -> None:
    with FaultyServer(drip) as server:
        assert get_image(server.url, timeouts=Timeouts(read_seconds=0.5)) == b"01234567"
        assert len(server.heads) == 1


def test_a_connection_is_used_again_and_survives_being_closed() -> None:
    def ok_and_close(connection: socket.socket) -> bool:
        OK(connection)
        return False

    with FaultyServer(OK, OK, ok_and_close, OK) as server, Client(server.url) as client:
        for connections in (1, 1, 1, 2):
            assert client.image("K") == BODY
            assert server.connections == connections
            time.sleep(0.05)


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl makes the certificate")
def test_https_is_trusted_only_with_its_certificate(
    get_image: Callable[..., bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key, certificate = tmp_path / "key", tmp_path / "certificate"
    words = (
        "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=x "
        f"-addext subjectAltName=IP:127.0.0.1 -keyout {key} -out {certificate}"
    )
    subprocess.run(words.split(), check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    with FaultyServer(OK, tls=context) as server:
        with pytest.raises(ConnectionFailedError, match="CERTIFICATE_VERIFY_FAILED"):
            get_image(server.url, retries=Retries(attempts=1))
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        assert get_image(server.url) == BODY
        with Client(server.url) as client:
            before = server.connections
            assert [client.image("K"), client.image("K")] == [BODY, BODY]
            assert server.connections == before + 1


def test_a_lookup_is_tried_again_too() -> None:
    found = answer(200, b'{"items": [{"key": "K", "base64": "AAEC", "content_type": "x"}]}')
    with (
        FaultyServer(cut_off, answer(503), found) as server,
        Client(server.url, retries=QUICK) as client,
    ):
        assert client.images(["K"], "A")[0].data == b"\0\1\2"
        assert [head.split()[0] for head in server.heads] == ["POST"] * 3


def test_what_is_no_answer_of_the_service_is_said() -> None:
    with FaultyServer(answer(200, b"hello")) as server, Client(server.url) as client:
        with pytest.raises(AnswerError, match="no JSON object"):
            client.datasets()
        with pytest.raises(AnswerError, match="no Arrow stream"):
            client.batch(0, batch_size=1)
    with FaultyServer(answer(200, b"{}")) as server, Client(server.url) as client:
        with pytest.raises(AnswerError, match="without items"):
            client.datasets()
        with pytest.raises(AnswerError):
            client.plan(batch_size=1)


def test_the_token_is_sent_and_not_shown() -> None:
    with FaultyServer(OK) as server, Client(server.url, "s3cret") as client:
        client.image("K")
        assert "authorization: Bearer s3cret" in server.heads[0]
        assert "s3cret" not in repr(client)


@pytest.mark.parametrize(
    "key",
    ["..", ".", "a/../b", "../../etc/passwd", "/a/", "a b", "ü/日本", "100%", "%2E", "?q#f;&=+",
     "a\nb\0", "\\'\"", "//x", "K" * 900, "a:b@c"],
    ids=lambda key: ascii(key)[:20],
)  # fmt: skip
def test_a_key_arrives_as_it_is(get_image: Callable[..., bytes], key: str) -> None:
    with FaultyServer(OK) as server:
        get_image(f"{server.url}/under/", key)
        target = server.heads[0].split()[1]
    sent = target.removeprefix("/under/v1/images/")
    assert unquote(sent) == key
    assert sent not in (".", "..")
    assert not set(sent) & set("/?# ")


def test_two_urls_share_the_load_and_stand_in_for_each_other() -> None:
    with FaultyServer(OK) as one, FaultyServer(OK) as other:
        with Client([one.url, other.url]) as client:
            for _ in range(20):
                client.image("K")
            assert len(one.heads) == len(other.heads) == 10
        with Client([one.url, f"http://127.0.0.1:{free_port()}"]) as client:
            started = time.monotonic()
            for _ in range(20):
                assert client.image("K") == BODY
            assert time.monotonic() - started < 1
            assert len(one.heads) == 30


def test_a_busy_url_is_left_for_another_without_a_pause() -> None:
    busy = problem(503, "overloaded", retry_after="20")
    with FaultyServer(busy) as one, FaultyServer(OK) as other:
        with Client([one.url, other.url]) as client:
            started = time.monotonic()
            for _ in range(4):
                assert client.image("K") == BODY
            assert time.monotonic() - started < 1
        assert len(other.heads) == 4


def test_a_url_that_comes_back_is_asked_again() -> None:
    port = free_port()
    with FaultyServer(OK) as one, Client([one.url, f"http://127.0.0.1:{port}"]) as client:
        for _ in range(4):
            client.image("K")
        with FaultyServer(OK, port=port) as other:
            deadline = time.monotonic() + 10
            while not other.heads and time.monotonic() < deadline:
                client.image("K")
                time.sleep(0.05)
            assert other.heads


def _drive(retries: Retries, outcomes: Iterator[Answer | Fault]) -> list[float]:
    """The pauses of a request to one URL, with nothing waited for."""
    pauses: list[float] = []
    flow = exchange(Request("/v1/x"), Endpoints("http://h"), retries)
    effect = next(flow)
    try:
        while True:
            if isinstance(effect, Pause):
                pauses.append(effect.seconds)
                effect = flow.send(None)
                continue
            assert effect == Send("http://h", Request("/v1/x"))
            outcome = next(outcomes)
            effect = flow.throw(outcome) if isinstance(outcome, Fault) else flow.send(outcome)
    except (StopIteration, ConnectionFailedError):
        return pauses


def test_pauses_are_drawn_from_a_growing_range() -> None:
    def faults() -> Iterator[Fault]:
        while True:
            yield Fault("x", is_down=True)

    retries = Retries(attempts=12, first_pause_seconds=0.1, max_pause_seconds=10)
    runs = [_drive(retries, faults()) for _ in range(200)]
    for attempt, pauses in enumerate(zip(*runs, strict=True)):
        limit = min(10, 0.1 * 2**attempt)
        assert 0 <= min(pauses) < 0.1 * limit
        assert 0.9 * limit < max(pauses) <= limit
    assert len(runs[0]) == 11


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (None, 0),
        ("3", 3),
        ("-3", 0),
        ("9" * 400, 86_400),
        ("soon", 0),
        ("", 0),
        ("Wed, 21 Oct 2015 07:28:00 GMT", 0),
        ("Wed, 21 Oct 0000 07:28:00 GMT", 0),
    ],
)
def test_retry_after_is_a_number_or_a_date(value: str | None, seconds: float) -> None:
    assert read_retry_after(value) == seconds


@pytest.mark.parametrize("url", ["", "127.0.0.1:8000", "ftp://h", "http://", "http://h?x=1", []])
def test_what_is_no_url_is_refused(url: Any) -> None:
    with pytest.raises(ValueError, match="URL"):
        Client(url)
