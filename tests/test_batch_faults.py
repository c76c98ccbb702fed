"""Batches where things go wrong: rot on disk, pictures that do not decode, clients that leave or
stall, answers too large to hold."""

import http.client
import io
import os
import random
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
from batch_answers import list_samples, read_arrow
from live_server import Answer, LiveServer, start_server
from packs import draw_jpeg, record, write_images, write_instructions
from PIL import Image

pytestmark = pytest.mark.slow

SAMPLES = 60


def write_pack(folder: Path, pictures: dict[str, bytes], num_samples: int = -1) -> Path:
    """A dataset with an instruction for each picture; each picture in a file of its own page."""
    write_images(folder / "images.json", pictures)
    records = {f"I{n:03}": record("what?", key) for n, key in enumerate(pictures)}
    write_instructions(folder / "i.json", records)
    (folder / "data.yaml").write_text(
        "IMAGE_TEXT:\n  SET: {mimicit_path: i.json, images_path: images.json, "
        f"num_samples: {num_samples}}}\n"
    )
    return folder / "data.yaml"


def rot(path: Path, key: str) -> None:
    """Change some bytes of the key's value in place; size and time stay as they were."""
    stat = path.stat()
    data = path.read_bytes()
    at = data.index(f'"{key}": "'.encode()) + len(key) + 40
    path.write_bytes(data[:at] + b"AAAAAAAAAAAA" + data[at + 12 :])
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))


@contextmanager
def serve(data: Path, **settings: object) -> Iterator[LiveServer]:
    with start_server(data, data.parent / "c", **settings) as live:  # type: ignore[arg-type]
        yield live


def small_pictures() -> dict[str, bytes]:
    return {f"P{n:03}": draw_jpeg(n, 60, 60) for n in range(SAMPLES)}


def test_a_rotten_picture_gives_way_to_the_next_of_its_dataset(tmp_path: Path) -> None:
    data = write_pack(tmp_path, small_pictures())
    path = f"/v1/groups/IMAGE_TEXT/batches/0?batch_size={SAMPLES}"
    with serve(data) as server:
        before = list_samples([read_arrow(server.get(path).body)])
        bad = ["P007", "P031"]
        for key in bad:
            rot(tmp_path / "images.json", key)
        revision = server.get("/v1/plan").headers["x-catalog-revision"]
        answer = server.get(f"{path}&revision={revision}")
        assert answer.status == 200
        assert answer.headers["x-batch-substituted"] == "2"
        assert answer.headers["cache-control"] == "no-cache"
        after = list_samples([read_arrow(answer.body)])
        good = {row["id"]: row for row in before}
        assert len(after) == SAMPLES
        for old, new in zip(before, after, strict=True):
            if old["image_ids"][0] in bad:
                assert new["substituted_for"] == old["id"]
                assert new["image_ids"][0] not in bad
                assert new | {"substituted_for": None} == good[new["id"]]
            else:
                assert new == old
        # Twice the same, and the same in the other formats.
        assert server.get(path).body == answer.body
        text = server.get(f"{path}&format=ndjson")
        assert text.headers["x-batch-substituted"] == "2"
        assert text.body.count(b'"substituted_for":"') == 2
        failed = server.get(f"{path}&on_error=fail")
        assert (failed.status, failed.code) == (503, "source_changed")
        assert failed.headers["retry-after"] == "30"
        assert "on_error" in failed.json()["detail"]
        # Every batch without them goes on.
        assert server.get(path.replace("0?", "0?context=true&images=none&on_error=fail&")).ok
        for key in [f"P{n:03}" for n in range(40, 45)]:
            rot(tmp_path / "images.json", key)
        too_many = server.get(path)
        assert (too_many.status, too_many.code) == (503, "source_changed")
        assert f"7 samples of a batch of {SAMPLES}" in too_many.json()["detail"]


def test_a_dataset_that_is_gone_fails_the_batch(tmp_path: Path) -> None:
    data = write_pack(tmp_path, small_pictures())
    with serve(data) as server:
        assert server.get("/v1/batches/0").ok
        (tmp_path / "images.json").unlink()
        assert server.get("/v1/batches/0").code == "source_changed"
        assert server.get("/v1/batches/0?images=none").ok


def test_a_picture_that_does_not_decode_gives_way_where_it_is_resized(tmp_path: Path) -> None:
    pictures = small_pictures() | {"P011": draw_jpeg(11, 90, 90)[:-400], "P012": b"no picture"}
    data = write_pack(tmp_path, pictures)
    path = f"/v1/groups/IMAGE_TEXT/batches/0?batch_size={SAMPLES}"
    with serve(data, batch_part_bytes=20_000) as server:
        original = server.get(path)
        assert original.headers["x-batch-substituted"] == "0"
        for how in ("size=32", "size=32&pixels=true"):
            answer = server.get(f"{path}&{how}")
            # Of several parts: decoding them all beforehand, to count, would double the work.
            assert "x-batch-substituted" not in answer.headers
            assert find_substituted(answer) == {"I011", "I012"}
        with pytest.raises(http.client.IncompleteRead):
            server.get(f"{path}&size=32&on_error=fail")
    with serve(data) as server:
        answer = server.get(f"{path}&size=32")
        assert answer.headers["x-batch-substituted"] == "2"
        assert find_substituted(answer) == {"I011", "I012"}
        failed = server.get(f"{path}&size=32&on_error=fail")
        assert (failed.status, failed.code) == (422, "image_unreadable")


def find_substituted(answer: Answer) -> set[str]:
    """Whose places others take in a batch of all samples."""
    rows = list_samples([read_arrow(answer.body)])
    assert len(rows) == SAMPLES
    return {row["substituted_for"] for row in rows} - {None}


def test_a_batch_in_parts_holds_the_same(tmp_path: Path) -> None:
    data = write_pack(tmp_path, small_pictures())
    path = f"/v1/groups/IMAGE_TEXT/batches/0?batch_size={SAMPLES}"
    bodies: list[dict[str, Answer]] = []
    for part_bytes in (1, 10_000, 1 << 26):
        with serve(data, batch_part_bytes=part_bytes) as server:
            formats = ("arrow", "tar", "ndjson", "arrow&size=20&pixels=true")
            bodies.append({one: server.get(f"{path}&format={one}") for one in formats})
    for one in bodies:
        assert one["tar"].body == bodies[0]["tar"].body
        assert one["ndjson"].body == bodies[0]["ndjson"].body
        for format in ("arrow", "arrow&size=20&pixels=true"):
            rows, expected = read_arrow(one[format].body), read_arrow(bodies[0][format].body)
            assert rows.to_pylist() == expected.to_pylist()
            assert one[format].headers.get("content-length") is None or one is bodies[2]
    assert all("content-length" in answer.headers for answer in bodies[2].values())


def test_a_batch_that_can_not_go_on_is_cut_off(tmp_path: Path) -> None:
    """The file goes while a large answer is under way: what was sent is no whole answer."""
    noise = random.Random(3)
    data = write_pack(tmp_path, {f"P{n}": noise.randbytes(400_000) for n in range(SAMPLES)})
    with serve(data, batch_part_bytes=1_000_000) as server:
        with ask(server, f"/v1/batches/0?batch_size={SAMPLES}") as connection:
            received = len(connection.recv(100_000))
            (tmp_path / "images.json").unlink()
            tail = b""
            while chunk := connection.recv(1 << 20):
                received += len(chunk)
                tail = (tail + chunk)[-10:]
        assert received < SAMPLES * 400_000
        assert not tail.endswith(b"0\r\n\r\n")
        server.wait_for_log("is cut off")
        assert "Traceback" not in server.log.read_text()
        assert server.get("/healthz").ok


def test_what_rots_while_an_answer_is_under_way_ends_it(tmp_path: Path) -> None:
    """Its header, which counts what gives way, is sent: nothing may give way after it."""
    noise = random.Random(6)
    data = write_pack(tmp_path, {f"P{n}": noise.randbytes(400_000) for n in range(SAMPLES)})
    path = f"/v1/groups/IMAGE_TEXT/batches/0?batch_size={SAMPLES}"
    with serve(data, batch_part_bytes=1_000_000) as server:
        last = list_samples([read_arrow(server.get(path).body)])[-1]["image_ids"][0]
        with ask(server, path) as connection:
            head = connection.recv(1000)
            assert b"x-batch-substituted: 0" in head
            rot(tmp_path / "images.json", last)
            tail = b""
            while chunk := connection.recv(1 << 20):
                tail = (tail + chunk)[-10:]
        assert not tail.endswith(b"0\r\n\r\n")
        server.wait_for_log("is cut off")
        again = server.get(path)
        assert again.headers["x-batch-substituted"] == "1"


@contextmanager
def ask(server: LiveServer, path: str, buffer_bytes: int = 65_536) -> Iterator[socket.socket]:
    """A connection that has sent a request, and reads no more than it is told to."""
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer_bytes)
        connection.settimeout(60)
        connection.connect(("127.0.0.1", server.port))
        connection.sendall(f"GET {path} HTTP/1.1\r\nhost: x\r\n\r\n".encode())
        yield connection


def large_pack(folder: Path) -> Path:
    """40 pictures of 1 MB, drawn often enough for an answer of 500 MB."""
    noise = random.Random(4)
    return write_pack(folder, {f"P{n}": noise.randbytes(1_000_000) for n in range(40)}, 500)


def test_a_large_answer_is_never_held_whole(tmp_path: Path) -> None:
    with serve(large_pack(tmp_path), batch_part_bytes=8 << 20) as server:
        worker = find_worker(server)
        assert server.get("/v1/groups/IMAGE_TEXT/shards/0.tar?samples=10").ok
        before = worker.memory_info().rss
        peak, received, seen_end = before, 0, b""
        with ask(server, "/v1/groups/IMAGE_TEXT/shards/0.tar?samples=500", 4 << 20) as connection:
            while not seen_end.endswith(b"0\r\n\r\n"):
                chunk = connection.recv(1 << 20)
                assert chunk
                received += len(chunk)
                seen_end = (seen_end + chunk)[-5:]
                peak = max(peak, worker.memory_info().rss)
        assert received > 500_000_000
        # Two parts, of which the one being made is there as stored, decoded and joined.
        assert peak - before < 64 << 20


def test_a_batch_over_the_limit_is_refused_before_a_picture_is_read(tmp_path: Path) -> None:
    with serve(large_pack(tmp_path), max_batch_bytes=3_000_000) as server:
        assert server.get("/v1/batches/0?batch_size=2").ok
        for path in ("/v1/batches/0?batch_size=3", "/v1/groups/IMAGE_TEXT/shards/0.tar?samples=3"):
            refused = server.get(path)
            assert (refused.status, refused.code) == (413, "too_large")
            assert "3,000,000 bytes" in refused.json()["detail"]
            assert "max_batch_bytes" in refused.json()["detail"]
        assert server.get("/v1/batches/0?batch_size=400&images=none").ok
        # What a picture may become counts, and not what it is stored in.
        assert server.get("/v1/batches/0?batch_size=2&size=600").code == "image_unreadable"
        assert server.get("/v1/batches/0?batch_size=2&size=900").code == "too_large"
        assert server.get("/v1/batches/0?batch_size=500&frames=1000&size=9").code == "too_large"


def find_worker(server: LiveServer) -> psutil.Process:
    """The one worker: the child that listens, or the server itself if it has none."""
    children = psutil.Process(server.process.pid).children(recursive=True)
    return max(children, key=lambda child: child.memory_info().rss)


def test_a_client_that_leaves_gives_its_memory_back(tmp_path: Path) -> None:
    """There is memory for one batch: a second one waits for the first client to leave."""
    settings = {"batch_memory_bytes": 1 << 20, "batch_wait_seconds": 1, "max_waiting": 2}
    path = "/v1/batches/0?batch_size=40"
    with serve(large_pack(tmp_path), **settings) as server:
        for _ in range(3):
            with ask(server, path) as connection:
                assert connection.recv(10)
                refused = server.get(path)
                assert (refused.status, refused.code) == (503, "overloaded")
                assert refused.headers["retry-after"] == "1"
                assert server.get("/v1/datasets").ok
                with ThreadPoolExecutor(1) as pool:
                    waiting = pool.submit(server.get, path)
                    time.sleep(0.3)
                    connection.close()
                    assert read_arrow(waiting.result(30).body).num_rows == 40


def test_more_than_may_wait_are_refused_at_once(tmp_path: Path) -> None:
    settings = {"batch_memory_bytes": 1 << 20, "batch_wait_seconds": 20, "max_waiting": 1}
    path = "/v1/batches/0?batch_size=40"
    with serve(large_pack(tmp_path), **settings) as server, ask(server, path) as first:
        assert first.recv(10)
        with ask(server, path) as second:
            time.sleep(0.5)
            began = time.monotonic()
            assert server.get(path).code == "overloaded"
            assert time.monotonic() - began < 10
            first.close()
            assert second.recv(15) == b"HTTP/1.1 200 OK"


@pytest.mark.skipif(not hasattr(socket, "TCP_USER_TIMEOUT"), reason="Linux cuts such connections")
def test_a_client_that_takes_nothing_is_cut_off(tmp_path: Path) -> None:
    settings = {"batch_memory_bytes": 1 << 20, "batch_wait_seconds": 30, "stall_seconds": 2}
    path = "/v1/batches/0?batch_size=40"
    with serve(large_pack(tmp_path), **settings) as server, ask(server, path) as stalled:
        assert stalled.recv(10)
        answer = server.get(path)  # waits until the other one is cut off
        assert answer.status == 200


def test_resizing_leaves_the_event_loop_free(tmp_path: Path) -> None:
    data = grainy_pack(tmp_path)
    with serve(data) as server:
        with ThreadPoolExecutor(1) as pool:
            resized = pool.submit(server.get, "/v1/batches/0?batch_size=40&size=224")
            answered = 0
            while not resized.done():
                assert server.get("/healthz").ok
                answered += 1
        assert resized.result().ok
        assert answered > 40  # at the least one while each picture was resized


def grainy_pack(folder: Path) -> Path:
    """40 large pictures, each some 40 ms of resizing."""
    noise = random.Random(5)
    grain = Image.frombytes("RGB", (1200, 900), noise.randbytes(1200 * 900 * 3))
    out = io.BytesIO()
    grain.save(out, "JPEG", quality=90)
    return write_pack(folder, {f"P{n}": out.getvalue() + bytes([n]) for n in range(40)})


def test_a_picture_need_not_wait_for_a_whole_batch(tmp_path: Path) -> None:
    with serve(grainy_pack(tmp_path)) as server, ThreadPoolExecutor(1) as pool:
        batch = pool.submit(server.get, "/v1/batches/0?batch_size=40&size=224")
        while not batch.done():
            assert server.get("/v1/images/P7?width=50").ok
            break
        else:
            pytest.fail("the batch was over before the picture was asked for")
        assert not batch.done()
        assert batch.result().ok


def test_nothing_is_made_for_who_has_gone(tmp_path: Path) -> None:
    path = "/v1/batches/0?batch_size=40&size=224"
    with serve(grainy_pack(tmp_path), batch_threads=1) as server:
        worker = find_worker(server)
        assert server.get(path).ok
        with ask(server, path) as kept:
            time.sleep(0.1)
            for _ in range(8):
                with ask(server, f"{path}&epoch=1"):
                    time.sleep(0.01)
            assert kept.recv(15) == b"HTTP/1.1 200 OK"
        before = worker.cpu_times()
        assert server.get("/v1/batches/0?batch_size=1").ok
        time.sleep(1)
        after = worker.cpu_times()
        assert after.user - before.user < 0.5
