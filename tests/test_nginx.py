"""nginx with the project's own configuration, before real services and before stand-ins."""

import http.client
import json
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from live_server import start_server
from mimicit_client import Client
from packs import draw_jpeg, record, write_images, write_instructions

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("nginx") is None, reason="nginx is not installed"),
]
CONFIG = Path(__file__).parents[1] / "docker" / "nginx.conf"
REPLICAS = CONFIG.with_name("replicas.conf")
KEYS = [f"K{n}" for n in range(40)]


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port: int = listening.getsockname()[1]
        return port


def write_config(folder: Path, port: int, replicas: Sequence[int]) -> list[str]:
    """The configuration with the two files beside it that a place has; the command without -g."""
    (folder / "written").mkdir()
    shutil.copy(CONFIG, folder)
    (folder / "listen.conf").write_text(f"listen 127.0.0.1:{port};\n")
    parameters = REPLICAS.read_text().splitlines()[0].split(maxsplit=2)[2]
    lines = [f"server 127.0.0.1:{one} {parameters}\n" for one in replicas]
    (folder / "replicas.conf").write_text("".join(lines))
    return ["nginx", "-p", f"{folder / 'written'}/", "-c", str(folder / CONFIG.name)]


@contextmanager
def start_nginx(folder: Path, replicas: Sequence[int]) -> Iterator[int]:
    """nginx on a free port, which it yields."""
    port = free_port()
    command = write_config(folder, port, replicas)
    with open(folder / "log", "w") as log:
        process = subprocess.Popen(
            [*command, "-g", "daemon off;"], stdin=subprocess.DEVNULL, stdout=log, stderr=log
        )
    try:
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.05)
        yield port
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0


def test_the_configuration_has_no_mistake(tmp_path: Path) -> None:
    command = write_config(tmp_path, 18080, [18081, 18082])
    done = subprocess.run([*command, "-t"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "warn" not in done.stderr
    assert "test is successful" in done.stderr


class StandIn(ThreadingHTTPServer):
    """A replica that notes what it is asked, and answers with its name or as it is told."""

    daemon_threads = True

    def __init__(self, name: str) -> None:
        self.name = name
        self.asked: list[tuple[str, str]] = []
        self.connections = 0
        self.status = 200
        self.refused = "nothing"  # what of a path is answered 503
        super().__init__(("127.0.0.1", 0), _Handler)
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def get_request(self) -> tuple[Any, Any]:
        self.connections += 1
        return super().get_request()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: StandIn

    def do_GET(self) -> None:
        self.rfile.read(int(self.headers.get("content-length", 0)))
        self.server.asked.append((self.command, self.path))
        if not self.server.status:  # no answer at all
            self.close_connection = True
            return
        body = self.server.name.encode()
        is_refused = self.server.refused in self.path
        self.send_response(503 if is_refused else self.server.status)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_POST = do_PUT = do_GET

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def stand_ins(folder: Path, count: int = 2) -> Iterator[tuple[int, list[StandIn]]]:
    with ExitStack() as stack:
        found = [stack.enter_context(StandIn(f"replica {number}")) for number in range(count)]
        port = stack.enter_context(start_nginx(folder, [one.server_port for one in found]))
        yield port, found
        for one in found:
            one.shutdown()


class Asker:
    """One connection to nginx."""

    def __init__(self, port: int) -> None:
        self.connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)

    def __enter__(self) -> "Asker":
        return self

    def __exit__(self, *_: object) -> None:
        self.connection.close()

    def ask(self, path: str, method: str = "GET", body: bytes | None = None) -> tuple[int, bytes]:
        self.connection.request(method, path, body)
        answer = self.connection.getresponse()
        return answer.status, answer.read()


def test_a_picture_is_always_asked_of_the_same_replica(tmp_path: Path) -> None:
    with stand_ins(tmp_path, 3) as (port, replicas), Asker(port) as asker:
        path = "/v1/datasets/A/images/IMG_%d"
        homes = {n: asker.ask(path % n)[1] for n in range(150)}
        assert min(Counter(homes.values()).values()) > 25
        for n, home in homes.items():
            assert asker.ask(f"{path % n}?width=224&height=224")[1] == home
        # Without one of them only its own pictures move.
        replicas[2].status = 0
        moved = {n: asker.ask(path % n)[1] for n in range(150)}
        assert {n for n in moved if moved[n] != homes[n]} == {
            n for n, home in homes.items() if home == b"replica 2"
        }
        others = Counter(asker.ask("/v1/batches/0")[1] for _ in range(60))
        assert set(others) == {b"replica 0", b"replica 1"}
        assert min(others.values()) > 10


def test_paths_arrive_as_they_are_and_connections_are_kept(tmp_path: Path) -> None:
    paths = ["/v1/images/a%2Fb//c/%2E%2E/..", "/v1/images/%C3%BC%20%25", "/v1/images/" + "K" * 3000]
    with stand_ins(tmp_path, 1) as (port, (replica,)), Asker(port) as asker:
        for path in paths * 20:
            assert asker.ask(path)[0] == 200
        assert [path for _, path in replica.asked] == paths * 20
        assert replica.connections <= 4  # one for each of nginx's own processes


@pytest.mark.parametrize("status", [0, 502, 503])
def test_another_replica_answers_for_one_that_does_not(tmp_path: Path, status: int) -> None:
    with stand_ins(tmp_path) as (port, replicas), Asker(port) as asker:
        replicas[0].status = status
        for n in range(30):
            assert asker.ask(f"/v1/images/{n}") == (200, b"replica 1")
            assert asker.ask("/v1/images:lookup", "POST", b"{}") == (200, b"replica 1")
        assert {method for method, _ in replicas[0].asked} == {"GET", "POST"}
        # Not what is no read, if there should be such a thing once.
        replicas[0].asked.clear()
        answers = {asker.ask("/v1/other", "POST", b"{}")[0] for _ in range(20)}
        assert answers == {200, status or 502}


def test_what_every_replica_refuses_takes_nothing_else_down(tmp_path: Path) -> None:
    with stand_ins(tmp_path) as (port, replicas), Asker(port) as asker:
        for replica in replicas:
            replica.refused = "/A/"
        for n in range(100):
            assert asker.ask(f"/v1/datasets/A/images/{n}")[0] == 503
            assert asker.ask(f"/v1/datasets/B/images/{n}")[0] == 200


def test_what_is_too_large_and_what_is_not_for_others_is_refused(tmp_path: Path) -> None:
    with stand_ins(tmp_path, 1) as (port, (replica,)):
        lookup = "/v1/images:lookup"
        with Asker(port) as asker:
            assert asker.ask(lookup, "POST", bytes(2 << 20))[0] == 200
            assert asker.ask("/metrics")[0] == 404
        with Asker(port) as asker, suppress(ConnectionError):  # it may close before it is all sent
            assert asker.ask(lookup, "POST", bytes((2 << 20) + 1))[0] == 413
        assert [path for _, path in replica.asked] == [lookup]


def test_a_replica_that_is_killed_under_load_loses_no_request(tmp_path: Path) -> None:
    pictures = {key: draw_jpeg(n) + bytes(200_000) for n, key in enumerate(KEYS)}
    write_images(tmp_path / "a.parquet", pictures)
    write_instructions(tmp_path / "a.json", {f"I{key}": record("q", key) for key in KEYS})
    data = tmp_path / "data.yaml"
    data.write_text("IMAGE_TEXT:\n  A: {mimicit_path: a.json, images_path: a.parquet}\n")
    (tmp_path / "nginx").mkdir()
    errors: list[BaseException] = []
    done = [0] * 8
    is_over = threading.Event()

    def ask(number: int) -> None:
        try:
            with Client(f"http://127.0.0.1:{port}") as client:
                while not is_over.is_set():
                    key = KEYS[done[number] % len(KEYS)]
                    match done[number] % 3:
                        case 0:
                            assert client.image(key, "A") == pictures[key]
                        case 1:
                            assert client.images([key], "A")[0].data == pictures[key]
                        case 2:
                            found = client.batch(0, batch_size=8, seed=done[number])
                            for ids, images in zip(
                                found.table["image_ids"].to_pylist(),
                                found.table["images"].to_pylist(),
                                strict=True,
                            ):
                                assert images == [pictures[one] for one in ids]
                    done[number] += 1
        except BaseException as error:
            errors.append(error)

    with (
        start_server(data, tmp_path / "c", batch_part_bytes=500_000) as one,
        start_server(data, tmp_path / "c", batch_part_bytes=500_000) as other,
        start_nginx(tmp_path / "nginx", [one.port, other.port]) as port,
    ):
        threads = [threading.Thread(target=ask, args=(number,)) for number in range(len(done))]
        for thread in threads:
            thread.start()
        time.sleep(3)
        before = sum(done)
        one.process.kill()  # its worker ends with it, in the middle of what it was sending
        time.sleep(5)
        after = sum(done)
        is_over.set()
        for thread in threads:
            thread.join()
        assert not errors
        assert before > 20
        assert after - before > 20
        lines = (tmp_path / "nginx" / "log").read_text().splitlines()
        logged = [json.loads(line) for line in lines if line.startswith("{")]
        assert any(", " in line["replicas"] for line in logged)  # nginx asked the other
