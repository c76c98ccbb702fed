"""The `mimicit` command as people start, watch and stop it."""

import http.client
import json
import os
import re
import signal
import socket
import subprocess
import threading
import time
from pathlib import Path

import psutil
import pytest
from live_server import command, environment, image_path, run, start_server, stop
from packs import draw_jpeg, record, write_images, write_instructions

from app.demo import write_demo

pytestmark = pytest.mark.slow


def write_pack(folder: Path, images: int = 4) -> Path:
    write_images(folder / "a.parquet", {f"K{n}": draw_jpeg(n) for n in range(images)})
    write_instructions(folder / "a.json", {"I": record("q", "K0")})
    (folder / "data.yaml").write_text(
        "IMAGE_TEXT:\n  A: {mimicit_path: a.json, images_path: a.parquet}\n"
    )
    return folder / "data.yaml"


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port: int = listening.getsockname()[1]
        return port


def ask(port: int, path: str) -> tuple[int, dict[str, str], bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, {n.lower(): v for n, v in answer.getheaders()}, answer.read()
    finally:
        connection.close()


def test_readyz_says_how_far_the_building_is(tmp_path: Path) -> None:
    data = write_demo(tmp_path / "demo", images=400)
    port = free_port()
    with open(tmp_path / "log", "w") as log:
        process = subprocess.Popen(
            command("serve", data, "--port", str(port), "--catalog-dir", tmp_path / "c"),
            env=environment(MIMICIT_WORKERS="1"),
            stderr=log,
            stdin=subprocess.DEVNULL,
        )
    statuses: list[int] = []
    said: set[str] = set()
    try:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            try:
                status, headers, body = ask(port, "/readyz")
            except ConnectionRefusedError:
                assert not statuses, "the socket was closed after it had been open"
                time.sleep(0.01)
                continue
            statuses.append(status)
            if status == 200:
                break
            progress = json.loads(body)
            said.add(progress["doing"])
            assert progress["status"] == "indexing"
            assert int(headers["retry-after"]) > 0
            assert ask(port, "/healthz")[0] == 200
            status, headers, body = ask(port, "/v1/datasets")
            if status != 200:
                assert status == 503
                assert headers["content-type"] == "application/problem+json"
                assert json.loads(body)["code"] == "not_ready"
            time.sleep(0.01)
        assert statuses[0] == 503
        assert statuses[-1] == 200
        assert any("index" in doing or "join" in doing for doing in said)
    finally:
        assert stop(process) == 0


def test_a_log_gets_plain_lines(tmp_path: Path) -> None:
    done = run("index", write_pack(tmp_path), "--catalog-dir", tmp_path / "c")
    assert done.returncode == 0
    assert "\x1b" not in done.stderr
    assert "\r" not in done.stderr
    assert re.search(r"is built: revision [0-9a-f]{32}", done.stderr)
    again = run("index", tmp_path / "data.yaml", "--catalog-dir", tmp_path / "c")
    assert "is up to date" in again.stderr


def test_the_catalog_is_in_the_cache_folder_and_never_beside_the_data(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    data = write_pack(tmp_path / "data")
    before = sorted((tmp_path / "data").iterdir())
    done = run("index", data, XDG_CACHE_HOME=str(tmp_path / "cache"), HOME=str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert sorted((tmp_path / "data").iterdir()) == before
    assert len(list(tmp_path.glob("**/catalog.json"))) == 1


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("serve",), "no data YAML is given"),
        (("serve", "nowhere.yaml"), "nowhere.yaml"),
        (("index", "{folder}"), "{folder}"),
        (("index", "{mistakes}"), "2 mistakes"),
        (("serve", "{good}", "--port", "70000"), "port"),
        (("serve", "{good}", "--workers", "0"), "workers"),
        (("serve", "{good}", "--config", "nowhere"), "no such settings file"),
        (("demo", "{folder}"), "{folder}"),
    ],
    ids=str,
)
def test_a_mistake_is_one_message_and_status_1(
    tmp_path: Path, words: tuple[str, ...], expected: str
) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "file").write_text("not empty")
    mistakes = tmp_path / "mistakes.yaml"
    mistakes.write_text("IMAGE_TEXT:\n  A: {mimicit_path: no.json, images_path: no.parquet}\n")
    names = {"folder": folder, "mistakes": mistakes, "good": write_pack(tmp_path)}
    done = run(*(word.format(**names) for word in words), MIMICIT_CATALOG_DIR=str(tmp_path / "c"))
    assert done.returncode == 1
    assert expected.format(**names) in done.stderr
    assert "Traceback" not in done.stderr


def test_settings_come_from_the_file_the_environment_and_the_command_line(tmp_path: Path) -> None:
    write_pack(tmp_path)
    (tmp_path / "server.yaml").write_text(f"data_yaml: {tmp_path}/data.yaml\nmax_page_items: x\n")
    done = run("index", "--config", tmp_path / "server.yaml")
    assert done.returncode == 1
    assert "max_page_items" in done.stderr
    done = run(
        "index",
        "--config",
        tmp_path / "server.yaml",
        MIMICIT_MAX_PAGE_ITEMS="7",
        MIMICIT_CATALOG_DIR=str(tmp_path / "c"),
    )
    assert done.returncode == 0, done.stderr
    (tmp_path / "server.yaml").write_text("max_pages: 3\n")
    done = run("index", tmp_path / "data.yaml", "--config", tmp_path / "server.yaml")
    assert done.returncode == 1
    assert "max_pages" in done.stderr


def test_a_port_in_use_is_said(tmp_path: Path) -> None:
    data = write_pack(tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        done = run("serve", data, "--port", port, "--catalog-dir", tmp_path / "c")
    assert done.returncode == 1
    assert f"127.0.0.1:{port} can not be listened on" in done.stderr


def test_a_worker_that_dies_is_replaced(tmp_path: Path) -> None:
    with start_server(write_pack(tmp_path), tmp_path / "c", workers=2) as server:
        victims = server.list_workers()
        assert len(victims) == 2
        for victim in victims:
            victim.kill()
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            try:
                assert server.get(image_path("A", "K1")).body == draw_jpeg(1)
                break
            except OSError:
                time.sleep(0.1)
        else:
            raise AssertionError("no worker came back")


def test_a_worker_that_can_not_start_leaves_the_others(tmp_path: Path) -> None:
    shared = tmp_path / "tmp"
    shared.mkdir()
    picture = image_path("A", "K1")
    with start_server(write_pack(tmp_path), tmp_path / "c", workers=2, tmpdir=shared) as server:
        deadline = time.monotonic() + 60
        while b"mimicit_workers 2" not in server.get("/metrics").body:
            assert time.monotonic() < deadline
        (counts,) = shared.glob("mimicit-*/counts")
        counts.rename(shared / "kept")
        counts.touch()  # where it would have its own
        server.list_workers()[0].kill()
        while server.log.read_text().count("and is started again") < 2:
            assert server.get(picture).ok
            assert time.monotonic() < deadline
        counts.unlink()
        (shared / "kept").rename(counts)
        while b"mimicit_workers 2" not in server.get("/metrics").body:
            assert time.monotonic() < deadline


def test_a_worker_that_hangs_delays_no_stop(tmp_path: Path) -> None:
    with start_server(write_pack(tmp_path), tmp_path / "c", workers=2, shutdown_seconds=1) as live:
        while len(live.list_workers()) < 2:
            pass
        time.sleep(1)  # it has been asked whether it is alive
        live.list_workers()[0].suspend()
        time.sleep(1)
        began = time.monotonic()
        live.process.terminate()
        assert live.process.wait(30) == 0
        assert time.monotonic() - began < 15  # 1, and 5 to end
        assert "hangs after 6 s, and is killed" in live.log.read_text()


def test_workers_end_with_a_parent_that_is_killed(tmp_path: Path) -> None:
    with start_server(write_pack(tmp_path), tmp_path / "c", workers=2) as server:
        children = psutil.Process(server.process.pid).children(recursive=True)
        server.process.kill()
        server.process.wait()
        gone, alive = psutil.wait_procs(children, timeout=15)
        assert not [child for child in alive if child.status() != psutil.STATUS_ZOMBIE]
        assert gone or alive
        with socket.create_server(("127.0.0.1", server.port)):
            pass


def test_every_worker_serves_the_catalog_that_the_service_began_with(tmp_path: Path) -> None:
    data = write_pack(tmp_path)
    with start_server(data, tmp_path / "c") as server:
        revision = server.get_json("/readyz")["revision"]
        write_instructions(tmp_path / "a.json", {"J": record("another", "K0")})
        assert run("index", data, "--catalog-dir", tmp_path / "c").returncode == 0
        for worker in server.list_workers():
            worker.kill()
        server.wait_until_ready()
        assert server.get_json("/readyz")["revision"] == revision
        assert server.get("/v1/datasets/A/instructions/I").status == 200


def test_sigterm_ends_an_index_at_once(tmp_path: Path) -> None:
    data = write_demo(tmp_path / "demo", images=600)
    process = subprocess.Popen(
        command("index", data, "--catalog-dir", tmp_path / "c"),
        env=environment(),
        stderr=subprocess.PIPE,
        text=True,
        stdin=subprocess.DEVNULL,
    )
    assert process.stderr is not None
    assert process.stderr.readline().startswith("index")
    process.send_signal(signal.SIGTERM)
    assert process.wait(5) == 128 + signal.SIGTERM
    process.stderr.close()


def test_stopping_finishes_what_is_in_flight(tmp_path: Path) -> None:
    with start_server(write_pack(tmp_path), tmp_path / "c") as server:
        with socket.create_connection(("127.0.0.1", server.port), timeout=10) as client:
            body = json.dumps({"dataset": "A", "keys": ["K1"]}).encode()
            head = f"POST /v1/images:lookup HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}"
            client.sendall(head.encode() + b"\r\n\r\n" + body[:5])
            time.sleep(0.3)
            server.process.send_signal(signal.SIGTERM)
            time.sleep(0.7)
            client.sendall(body[5:])
            assert client.recv(100).startswith(b"HTTP/1.1 200")
        assert server.process.wait(20) == 0


def test_a_connection_ends_with_an_answer_when_the_service_stops(tmp_path: Path) -> None:
    """Who asks without a pause is told to go, and never finds the connection reset."""
    with start_server(write_pack(tmp_path), tmp_path / "c") as server:
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
        stopping = threading.Timer(0.3, server.process.send_signal, [signal.SIGTERM])
        stopping.start()
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            connection.request("GET", image_path("A", "K1"))
            answer = connection.getresponse()
            assert answer.read() == draw_jpeg(1)
            if answer.headers.get("connection") == "close":
                break
        else:
            raise AssertionError("it was not told to go")
        connection.close()
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", server.port), timeout=10)
        assert server.process.wait(20) == 0


def test_a_read_only_data_folder_is_enough(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    data = write_pack(tmp_path / "data")
    for path in (data.parent, *data.parent.iterdir()):
        path.chmod(path.stat().st_mode & ~0o222)
    try:
        with start_server(data, tmp_path / "c") as server:
            assert server.get(image_path("A", "K1")).body == draw_jpeg(1)
    finally:
        os.chmod(data.parent, 0o755)
