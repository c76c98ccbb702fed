"""A real service of objects in a real store, with faults between the two."""

import base64
import re
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from email.utils import formatdate
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from random import Random
from typing import Any, Literal

import pandas as pd
import pytest
from live_server import LiveServer, command, environment, image_path, start_server
from object_store import Folder, ObjectStore, Proxy, put_pack, set_environment
from packs import draw_jpeg, record, write_images, write_instructions

from app.demo import write_demo
from app.errors import SourceChangedError
from app.storage import ObjectLimits, Objects

pytestmark = pytest.mark.slow

# That do not compress, so that each is a range of its own.
PICTURES = {f"K{n}": draw_jpeg(n) + Random(n).randbytes(20_000) for n in range(40)}
QUICK: dict[str, Any] = {
    "object_timeout_seconds": 2,
    "object_retries": 2,
    "object_check_seconds": 1,
}


def write_pack(folder: Path) -> Path:
    """Two datasets of the same pictures, in two files."""
    folder.mkdir()
    text = "IMAGE_TEXT:\n"
    for name in ("A", "B"):
        write_images(folder / f"{name}.parquet", PICTURES)
        write_instructions(folder / f"{name}.json", {f"{name}{k}": record(k, k) for k in PICTURES})
        text += f"  {name}: {{mimicit_path: {name}.json, images_path: {name}.parquet}}\n"
    (folder / "data.yaml").write_text(text)
    return folder / "data.yaml"


def test_the_same_answers_as_from_files(proxy: Proxy, folder: Folder, tmp_path: Path) -> None:
    near = write_demo(tmp_path / "demo", images=30)
    far = put_pack(near, folder, tmp_path)
    paths = [f"/v1/batches/{step}?batch_size=8&format=ndjson" for step in range(3)]
    paths += ["/v1/batches/0?batch_size=8&size=32", "/v1/datasets"]
    paths.append("/v1/datasets/SCENES/images/SCENES_IMG_000001?width=20")
    keys = [f"SHAPES_IMG_{number:06}" for number in range(12)] + ["no such key"]
    answers = []
    for data, name in ((near, "near"), (far, "far")):
        with start_server(data, tmp_path / name) as server:
            found = [server.get(path) for path in paths]
            found += [server.get(image_path("SHAPES", key), x_request_id="1") for key in keys]
            found.append(server.post("/v1/images:lookup", {"dataset": "SHAPES", "keys": keys}))
            assert [one.status for one in found].count(200) == len(found) - 1
            answers.append([(one.status, one.body) for one in found])
            if data is far:
                proxy.faults.requests.clear()
                assert server.get(image_path("SHAPES", keys[0])).body == found[len(paths)].body
                assert proxy.faults.requests == []  # it is kept on disk
    assert answers[0] == answers[1]


def test_an_object_that_is_replaced_while_it_is_served(
    proxy: Proxy, folder: Folder, tmp_path: Path
) -> None:
    near = write_pack(tmp_path / "pack")
    with start_server(put_pack(near, folder, tmp_path), tmp_path / "c", **QUICK) as server:
        first = server.get(image_path("A", "K0"))
        assert first.body == PICTURES["K0"]
        assert server.get(image_path("A", "K0"), if_none_match=first.headers["etag"]).status == 304
        other = dict.fromkeys(PICTURES, PICTURES["K39"])
        write_images(tmp_path / "other.parquet", other)
        folder.put("A.parquet", tmp_path / "other.parquet")
        time.sleep(QUICK["object_check_seconds"])
        for key in ("K9", "K20", "K0"):  # of which the last one is kept on disk
            answer = server.get(image_path("A", key))
            assert answer.status == 503, key
            assert answer.code == "source_changed"
            assert server.get(image_path("B", key)).body == PICTURES[key]
        answer = server.get(image_path("A", "K0"), if_none_match=first.headers["etag"])
        assert answer.code == "source_changed"
        lookup = server.post("/v1/images:lookup", {"dataset": "A", "keys": ["K30", "K31"]}).json()
        assert [one["error"]["code"] for one in lookup["items"]] == ["source_changed"] * 2
        folder.put("A.parquet", near.with_name("A.parquet"))  # the same bytes have the same ETag
        for key in ("K0", "K9", "K35"):
            assert server.get(image_path("A", key)).body == PICTURES[key]


@pytest.mark.parametrize("codec", ["snappy", "zstd", "none"])
def test_a_bit_that_is_lost_on_the_way_is_fetched_again(
    codec: Literal["snappy", "zstd", "none"], proxy: Proxy, folder: Folder, tmp_path: Path
) -> None:
    near = write_pack(tmp_path / "pack")
    texts = [base64.b64encode(one).decode() for one in PICTURES.values()]
    frame = pd.DataFrame({"base64": texts}, index=list(PICTURES))
    frame.to_parquet(near.with_name("A.parquet"), compression=None if codec == "none" else codec)
    far = put_pack(near, folder, tmp_path)
    with start_server(far, tmp_path / "c", **QUICK) as server:
        for key in ("K0", "K20"):
            proxy.faults.flip = 1
            assert server.get(image_path("A", key)).body == PICTURES[key]
            proxy.faults.requests.clear()
            assert server.get(image_path("A", key)).body == PICTURES[key]
            assert proxy.faults.requests == []  # what came the second time is kept
        if codec != "zstd":  # whose page is in memory by now
            proxy.faults.flip = 1000
            answer = server.get(image_path("A", "K39"))
            assert (answer.status, answer.code) == (503, "source_changed")
        proxy.faults.flip = 1
        keys = ["K30", "K31", "K32"]
        lookup = server.post("/v1/images:lookup", {"dataset": "A", "keys": keys}).json()
        assert [base64.b64decode(one["base64"]) for one in lookup["items"]] == [
            PICTURES[key] for key in keys
        ]


def test_what_is_kept_is_not_fetched_again_with_its_neighbours(
    proxy: Proxy, folder: Folder, tmp_path: Path
) -> None:
    far = put_pack(write_pack(tmp_path / "pack"), folder, tmp_path)
    body = {"dataset": "A", "keys": list(PICTURES)[:6]}
    with start_server(far, tmp_path / "c", **QUICK) as server:
        first = server.post("/v1/images:lookup", body)
        time.sleep(QUICK["object_check_seconds"] + 0.1)
        proxy.faults.requests.clear()
        assert server.post("/v1/images:lookup", body).body == first.body
        assert [one.split()[0] for one in proxy.faults.requests] == ["HEAD"]


def test_a_store_that_is_down_is_not_asked_for_every_image(
    proxy: Proxy, folder: Folder, tmp_path: Path
) -> None:
    (tmp_path / "pack").mkdir()
    data, random = tmp_path / "pack" / "data.yaml", Random(0)
    keys = [f"K{n}" for n in range(12)]
    images: dict[str, bytes | None] = {}
    for key in keys:  # each too far from the next to be fetched with it
        images |= {key: draw_jpeg(1), f"{key} filler": random.randbytes(1_200_000)}
    write_images(data.with_name("A.parquet"), images)
    write_instructions(data.with_name("A.json"), {"I": record("q", "K0")})
    data.write_text("IMAGE_TEXT: {A: {mimicit_path: A.json, images_path: A.parquet}}")
    far = put_pack(data, folder, tmp_path)
    settings = QUICK | {"range_cache_bytes": 0, "object_requests": 2, "read_threads": 2}
    with start_server(far, tmp_path / "c", **settings) as server:
        proxy.faults.fail = 1000
        proxy.faults.requests.clear()
        body = {"dataset": "A", "keys": keys}
        items = server.post("/v1/images:lookup", body).json()["items"]
        assert {one["error"]["code"] for one in items} == {"source_unavailable"}
        # Those that two threads had begun, each with its retries.
        assert 0 < len(proxy.faults.requests) <= 3 * (1 + QUICK["object_retries"])


def test_a_store_that_hangs_makes_nobody_wait_for_a_disk(
    proxy: Proxy, folder: Folder, tmp_path: Path
) -> None:
    far = put_pack(write_pack(tmp_path / "pack"), folder, tmp_path)
    large = draw_jpeg(1) + bytes(2_000_000)  # is not read on the event loop
    write_images(tmp_path / "near.parquet", {"K": large})
    write_instructions(tmp_path / "near.json", {"I": record("q", "K")})
    with open(far, "a") as file:
        file.write("  NEAR: {mimicit_path: near.json, images_path: near.parquet}\n")
    settings = QUICK | {"object_retries": 0, "range_cache_bytes": 0, "object_requests": 2}
    with start_server(far, tmp_path / "c", read_threads=2, **settings) as server:
        proxy.faults.stall = 1000
        with ThreadPoolExecutor() as pool:
            hanging = [pool.submit(server.get, image_path("A", f"K{n}")) for n in range(4)]
            lookup = {"dataset": "A", "keys": [f"K{n}" for n in range(20)]}
            hanging.append(pool.submit(server.post, "/v1/images:lookup", lookup))
            time.sleep(0.5)
            began = time.monotonic()
            assert server.get(image_path("NEAR", "K")).body == large
            assert time.monotonic() - began < 1
            assert not any(one.done() for one in hanging)
            assert {one.result().status for one in hanging} == {200, 503}  # 200 is the lookup's


def test_what_is_asked_of_a_store_is_counted(proxy: Proxy, folder: Folder, tmp_path: Path) -> None:
    far = put_pack(write_pack(tmp_path / "pack"), folder, tmp_path)

    def read_counts(server: LiveServer) -> dict[str, float]:
        text = server.get("/metrics").body.decode()
        found = re.findall(r"^mimicit_((?:range|store)_\S+) (\S+)$", text, re.MULTILINE)
        return {name: float(value) for name, value in found}

    with start_server(far, tmp_path / "c", **QUICK) as server:
        before = read_counts(server)
        proxy.faults.fail = 1
        for _ in range(3):
            assert server.get(image_path("A", "K0")).body == PICTURES["K0"]
        after = read_counts(server)
        counted = {name: after[name] - count for name, count in before.items()}
        assert counted['range_cache_lookups_total{result="miss"}'] == 1
        assert counted['range_cache_lookups_total{result="hit"}'] == 2
        assert counted['store_requests_total{result="failed"}'] == 1
        assert counted['store_requests_total{result="answered"}'] == 1
        size_bytes = counted["store_received_bytes_total"]
        assert len(PICTURES["K0"]) <= size_bytes < 2 * len(PICTURES["K0"]) + 70_000
        lookup = {"dataset": "B", "keys": [f"K{n}" for n in range(10)]}
        for _ in range(2):
            assert server.post("/v1/images:lookup", lookup).ok
        again = read_counts(server)
        for result in ("miss", "hit"):
            name = f'range_cache_lookups_total{{result="{result}"}}'
            assert again[name] - after[name] == 10, result
        proxy.faults.fail = 1000
        assert server.get(image_path("A", "K39")).code == "source_unavailable"
        text = server.get("/metrics").body.decode()
        assert 'mimicit_refused_total{code="source_unavailable"} 1.0' in text


def test_faults_on_the_way(proxy: Proxy, folder: Folder, tmp_path: Path) -> None:
    far = put_pack(write_pack(tmp_path / "pack"), folder, tmp_path)
    settings = QUICK | {"range_cache_bytes": 0, "object_timeout_seconds": 1}
    with start_server(far, tmp_path / "c", **settings) as server:
        for fault in ("fail", "cut_off", "stall"):
            setattr(proxy.faults, fault, 2)
            assert server.get(image_path("A", "K0")).body == PICTURES["K0"], fault
        proxy.faults.fail = 1000
        answer = server.get(image_path("A", "K0"))
        assert (answer.status, answer.code) == (503, "source_unavailable")
        assert answer.headers["retry-after"] == "2"
        answer = server.get("/v1/batches/0?batch_size=4")
        assert answer.code == "source_unavailable"  # it is no bad sample, to be substituted
        proxy.faults.fail = 0
        proxy.faults.slow_seconds = 0.2
        assert server.get("/v1/batches/0?batch_size=4").status == 200
        proxy.faults.slow_seconds = 0
        proxy.faults.requests.clear()
        keys = list(PICTURES)
        lookup = server.post("/v1/images:lookup", {"dataset": "A", "keys": keys}).json()
        assert len([one for one in lookup["items"] if "base64" in one]) == len(keys)
        assert len(proxy.faults.requests) == 1  # neighbours are fetched together


def test_a_wrong_secret_is_one_message(
    store: ObjectStore, folder: Folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    far = put_pack(write_pack(tmp_path / "pack"), folder, tmp_path)
    set_environment(monkeypatch, store.environment() | {"AWS_SECRET_ACCESS_KEY": "wrong"})
    ended = subprocess.run(
        command("index", far, "--catalog-dir", tmp_path / "c"),
        capture_output=True,
        text=True,
        timeout=60,
        env=environment(),
        cwd=Path(__file__).parents[1],
    )
    assert ended.returncode == 1
    assert "Traceback" not in ended.stderr
    lines = ended.stderr.splitlines()
    assert lines[0] == f"mimicit: {far}: 4 mistakes"
    assert len(lines) == 5
    for line in lines[1:]:
        assert "may not be read with the credentials of the environment" in line


class Files(BaseHTTPRequestHandler):
    """Serves one file with ranges, and ETags that a test may turn off."""

    protocol_version = "HTTP/1.1"
    data = b""
    has_etag = True

    def do_GET(self) -> None:
        start, end = 0, len(self.data)
        if wanted := self.headers.get("range"):
            first, last = wanted.removeprefix("bytes=").split("-")
            start, end = int(first), int(last) + 1
        self.send_response(206 if wanted else 200)
        if wanted:
            self.send_header("content-range", f"bytes {start}-{end - 1}/{len(self.data)}")
        if self.has_etag:
            self.send_header("etag", f'"{sha256(self.data).hexdigest()}"')
        self.send_header("last-modified", formatdate(1_700_000_000 + self.data[0], usegmt=True))
        self.send_header("content-length", str(end - start))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(self.data[start:end])

    do_HEAD = do_GET

    def log_message(self, format: str, *args: object) -> None:
        pass


@contextmanager
def https_server(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of a server whose certificate this process trusts."""
    certificate, key = folder / "certificate.pem", folder / "key.pem"
    words = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]
    words += ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    words += ["-addext", "basicConstraints=critical,CA:FALSE"]
    subprocess.run(
        [*words, "-keyout", str(key), "-out", str(certificate)], check=True, capture_output=True
    )
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    server = ThreadingHTTPServer(("127.0.0.1", 0), Files)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"https://localhost:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.mark.parametrize("has_etag", [True, False])
def test_https(has_etag: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without ETags the size and the modification time say whether it is the same."""
    monkeypatch.setattr(Files, "has_etag", has_etag)
    monkeypatch.setattr(Files, "data", bytes(range(256)) * 100)
    objects = Objects(ObjectLimits(timeout_seconds=2, retries=0, read_bytes=1 << 10))
    with https_server(tmp_path, monkeypatch) as address:
        (stamp,) = objects.list_stamps(f"{address}/a%20b/c.parquet")
        assert stamp.size_bytes == 25_600
        assert b"".join(objects.read(stamp, 5, 5000)) == (bytes(range(256)) * 100)[5:5005]
        monkeypatch.setattr(Files, "data", bytes(range(1, 256)) * 100 + bytes(100))
        with pytest.raises(SourceChangedError):
            list(objects.read(stamp, 5, 100))
