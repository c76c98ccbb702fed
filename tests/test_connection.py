"""What a connection may do, with raw sockets: slow ones, large ones, and many."""

import re
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from live_server import LiveServer, image_path, start_server
from packs import draw_jpeg, record, write_images, write_instructions

PATH = image_path("A", "K").encode()
GET = b"GET " + PATH + b" HTTP/1.1\r\nHost: x\r\n"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    folder = tmp_path_factory.mktemp("connection")
    write_images(folder / "a.parquet", {"K": draw_jpeg(1)})
    write_instructions(folder / "a.json", {"I": record("q", "K")})
    (folder / "data.yaml").write_text(
        "IMAGE_TEXT:\n  A: {mimicit_path: a.json, images_path: a.parquet}\n"
        "IMAGE_TEXT_IN_CONTEXT:\n  B: {mimicit_path: b.json, images_path: b.parquet}\n"
    )
    large = {f"L{n}": draw_jpeg(n) + bytes(3_000_000) for n in range(12)}
    write_images(folder / "b.parquet", large)
    write_instructions(folder / "b.json", {f"J{key}": record("q", key) for key in large})
    with start_server(
        folder / "data.yaml",
        folder / "c",
        head_seconds=1,
        body_seconds=2,
        max_head_bytes=20_000,
        max_body_bytes=100_000,
        max_connections=40,
        keep_alive_seconds=4,
    ) as live:
        yield live


def connect(server: LiveServer) -> socket.socket:
    return socket.create_connection(("127.0.0.1", server.port), timeout=15)


def read_all(client: socket.socket) -> bytes:
    """What comes until the end, however that comes."""
    parts = []
    try:
        while part := client.recv(65536):
            parts.append(part)
    except ConnectionResetError:
        pass
    return b"".join(parts)


def drip(client: socket.socket, data: bytes, every_seconds: float) -> bool:
    """Send byte by byte; whether all could be sent."""
    for at in range(len(data)):
        try:
            client.sendall(data[at : at + 1])
        except OSError:
            return False
        time.sleep(every_seconds)
    return True


def test_a_head_that_comes_slowly_is_cut_off(server: LiveServer) -> None:
    for first in (b"", GET + b"\r\n"):  # on a new connection, and on one that was used
        with connect(server) as client:
            if first:
                client.sendall(first)
                while draw_jpeg(1) not in client.recv(65536, socket.MSG_PEEK):
                    time.sleep(0.01)
                client.recv(65536)
            began = time.monotonic()
            drip(client, GET[:20], 0.2)
            assert read_all(client).startswith(b"HTTP/1.1 408 ")
            assert 1 <= time.monotonic() - began < 6
    assert server.get(PATH.decode()).ok


def test_a_connection_that_says_nothing_is_cut_off(server: LiveServer) -> None:
    began = time.monotonic()
    with connect(server) as client:
        assert read_all(client).startswith(b"HTTP/1.1 408 ")
        assert 1 <= time.monotonic() - began < 4


def test_an_idle_connection_stays_for_its_time(server: LiveServer) -> None:
    with connect(server) as client:
        for _ in range(2):
            client.sendall(GET + b"\r\n")
            while draw_jpeg(1) not in client.recv(65536, socket.MSG_PEEK):
                time.sleep(0.01)
            client.recv(65536)
            time.sleep(2.5)  # longer than a head or a body may take
        began = time.monotonic()
        assert read_all(client) == b""
        assert time.monotonic() - began < 4


@pytest.mark.parametrize("pieces", [1, 20, 300])
@pytest.mark.parametrize(
    "head",
    [
        b"GET /" + b"a" * 1_000_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        GET + b"X-Large: " + b"b" * 1_000_000 + b"\r\n\r\n",
        GET + b"".join(b"X-%d: 1\r\n" % n for n in range(100_000)) + b"\r\n",
        GET + b"X-Large: " + b"b" * 20_100 + b"\r\n\r\n",
        GET + b"X" * 1_000_000,
    ],
    ids=["line", "header", "many", "just over", "name"],
)
def test_a_large_head_is_431(server: LiveServer, head: bytes, pieces: int) -> None:
    with connect(server) as client:
        size = -(-len(head) // pieces)
        try:
            for at in range(0, len(head), size):
                client.sendall(head[at : at + size])
        except OSError:
            pass  # it closed in the middle
        answer = read_all(client)
        # A reset may overtake the answer when data are still on their way.
        assert answer.startswith(b"HTTP/1.1 431 ") or (not answer and len(head) > 100_000)
    assert server.get(PATH.decode()).ok


def test_a_head_just_within_is_answered_also_behind_others(server: LiveServer) -> None:
    large = GET + b"X-Large: " + b"b" * 19_000 + b"\r\n"
    with connect(server) as client:
        client.sendall((large + b"\r\n") * 9 + large + b"Connection: close\r\n\r\n")
        assert read_all(client).count(b"HTTP/1.1 200 ") == 10


def send_on(client: socket.socket, data: bytes) -> int:
    """Send it again and again, until that fails; how many bytes were sent, up to 100 MB."""
    sent = 0
    try:
        while sent < 100_000_000:
            client.sendall(data)
            sent += len(data)
    except OSError:
        pass
    return sent


def post(length: str, body: bytes = b"") -> bytes:
    return f"POST /v1/images:lookup HTTP/1.1\r\nHost: x\r\n{length}\r\n\r\n".encode() + body


def test_a_body_that_comes_slowly_is_cut_off(server: LiveServer) -> None:
    for head in (post("Content-Length: 50"), post("Transfer-Encoding: chunked", b"20\r\n")):
        with connect(server) as client:
            client.sendall(head)
            began = time.monotonic()
            drip(client, b"{" + b" " * 15, 0.3)
            assert read_all(client).startswith(b"HTTP/1.1 408 ")
            assert 2 <= time.monotonic() - began < 8


@pytest.mark.parametrize(
    "head",
    [post("Transfer-Encoding: chunked"), GET + b"Transfer-Encoding: chunked\r\n\r\n"],
    ids=["that is read", "that nobody reads"],
)
def test_a_body_without_end_is_closed(server: LiveServer, head: bytes) -> None:
    chunk = b"1000\r\n" + b" " * 4096 + b"\r\n"
    with connect(server) as client:
        client.sendall(head)
        # What the systems' buffers hold between the two is sent, too.
        assert send_on(client, chunk) < 20_000_000
    assert server.get(PATH.decode()).ok


def test_trailers_without_end_are_closed(server: LiveServer) -> None:
    trailers = b"".join(b"x-%d: %s\r\n" % (n, b"a" * 1000) for n in range(100))
    with connect(server) as client:
        client.sendall(post("Transfer-Encoding: chunked", b"2\r\n{}\r\n0\r\n"))
        assert send_on(client, trailers) < 20_000_000
    assert server.get(PATH.decode()).ok


def test_a_few_trailers_are_passed_over(server: LiveServer) -> None:
    with connect(server) as client:
        body = b"2\r\n{}\r\n0\r\nx-a: 1\r\nx-b: 2\r\n\r\n"
        client.sendall(
            post("Transfer-Encoding: chunked", body) + GET + b"Connection: close\r\n\r\n"
        )
        answers = read_all(client)
        assert answers.startswith(b"HTTP/1.1 422 ")
        assert answers.endswith(draw_jpeg(1))


def test_a_declared_body_that_is_too_large_is_413(server: LiveServer) -> None:
    with connect(server) as client:
        client.sendall(post("Content-Length: 100000000", b" " * 120_000))
        assert client.recv(65536).startswith(b"HTTP/1.1 413 ")


def test_more_connections_than_there_may_be_are_503(server: LiveServer) -> None:
    with ExitStack() as stack:
        clients = [stack.enter_context(connect(server)) for _ in range(40)]
        for client in clients:
            client.sendall(GET + b"\r\n")
            client.recv(10)
        with connect(server) as late:
            assert read_all(late).startswith(b"HTTP/1.1 503 ")
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        try:
            if server.get(PATH.decode()).ok:
                return
        except OSError:
            pass
        time.sleep(0.1)
    raise AssertionError("no connection was taken any more")


@pytest.mark.parametrize(
    "garbage", [b"\0" * 100, b"GET\r\n\r\n", b"\x16\x03\x01\x02\x00", b"GET / HTTP/9.9\r\n\r\n"]
)
def test_what_is_no_http_is_400(server: LiveServer, garbage: bytes) -> None:
    with connect(server) as client:
        client.sendall(garbage)
        assert read_all(client).startswith(b"HTTP/1.1 400 ")


def test_nothing_is_written_into_an_answer_on_its_way(server: LiveServer) -> None:
    query = b"group=IMAGE_TEXT_IN_CONTEXT&batch_size=12&format=tar"
    batch = b"GET /v1/batches/0?" + query + b" HTTP/1.1\r\nHost: x\r\n\r\n"
    with connect(server) as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        client.sendall(batch)
        head, _, body = client.recv(65536).partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 ")
        client.sendall(GET + b"\r\nNONSENSE\0\r\n\r\n")
        body += read_all(client)
    length = re.search(rb"content-length: (\d+)", head)
    assert length is not None
    assert 65536 < len(body) < int(length[1])  # it is cut off
    assert b"HTTP/1.1 " not in body


def test_an_answer_comes_with_its_head(server: LiveServer) -> None:
    body = draw_jpeg(1)
    with connect(server) as client:
        for _ in range(50):  # two writes would often be two reads
            client.sendall(GET + b"\r\n")
            head, _, rest = client.recv(65536).partition(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200 ")
            assert rest == body


def test_a_body_is_asked_for_before_the_answer(server: LiveServer) -> None:
    body = b'{"dataset":"A","keys":["K"]}'
    with connect(server) as client:
        for _ in range(2):
            client.sendall(post(f"Content-Length: {len(body)}\r\nExpect: 100-continue"))
            assert client.recv(65536) == b"HTTP/1.1 100 Continue\r\n\r\n"
            client.sendall(body)
            assert client.recv(65536).startswith(b"HTTP/1.1 200 ")


def test_answers_without_a_body_are_sent(server: LiveServer) -> None:
    etag = server.get(PATH.decode()).headers["etag"].encode()
    head = b"HEAD " + PATH + b" HTTP/1.1\r\nHost: x\r\n\r\n"
    known = GET + b"If-None-Match: " + etag + b"\r\n\r\n"
    with connect(server) as client:
        client.sendall(head + known + head + known + GET + b"Connection: close\r\n\r\n")
        answers = read_all(client).split(b"HTTP/1.1 ")
    assert [one[:3] for one in answers] == [b"", b"200", b"304", b"200", b"304", b"200"]
    assert answers[-1].endswith(draw_jpeg(1))
    assert all(one.endswith(b"\r\n\r\n") for one in answers[1:-1])


def test_slow_clients_are_in_nobodys_way(server: LiveServer) -> None:
    with ExitStack() as stack:
        for _ in range(25):
            stack.enter_context(connect(server)).sendall(GET[:30])
        began = time.monotonic()
        assert all(server.get(PATH.decode()).ok for _ in range(20))
        assert time.monotonic() - began < 3
