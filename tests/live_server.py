"""A real `mimicit serve` process, and a plain HTTP client that sends paths as they are given."""

import http.client
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psutil

START_SECONDS = 60.0


@dataclass(frozen=True)
class Answer:
    """An HTTP answer, whole; header names are lower case."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def ok(self) -> bool:
        return self.status == 200

    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def code(self) -> str:
        """The problem's code; fails if the answer is no problem+json."""
        assert self.headers["content-type"] == "application/problem+json", self
        problem = self.json()
        assert problem["status"] == self.status
        assert problem["detail"]
        return str(problem["code"])


@dataclass
class LiveServer:
    """A running server; `path` is asked for as it is, nothing is normalized."""

    port: int
    process: subprocess.Popen[str]
    log: Path
    sent: list[str] = field(default_factory=list)
    token: str | None = None

    def request(
        self, method: str, path: str, headers: dict[str, str] | None = None, body: bytes = b""
    ) -> Answer:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.putrequest(method, path, skip_accept_encoding=True)
            if self.token is not None:
                connection.putheader("authorization", f"Bearer {self.token}")
            for name, value in (headers or {}).items():
                connection.putheader(name, value)
            if body:
                connection.putheader("content-length", str(len(body)))
            connection.endheaders(body or None)
            answer = connection.getresponse()
            data = answer.read()
            return Answer(answer.status, {n.lower(): v for n, v in answer.getheaders()}, data)
        finally:
            connection.close()

    def get(self, path: str, **headers: str) -> Answer:
        return self.request(
            "GET", path, {name.replace("_", "-"): value for name, value in headers.items()}
        )

    def get_json(self, path: str) -> Any:
        answer = self.get(path)
        assert answer.status == 200, answer
        return answer.json()

    def post(self, path: str, body: Any) -> Answer:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        return self.request("POST", path, {"content-type": "application/json"}, data)

    def list_workers(self) -> list[psutil.Process]:
        """The processes that the first one has started: workers, and one that indexes."""
        found = []
        for child in psutil.Process(self.process.pid).children(recursive=True):
            with suppress(psutil.Error):  # it ends this moment
                if "spawn_main" in " ".join(child.cmdline()):
                    found.append(child)
        return found

    def wait_for_log(self, text: str, seconds: float = 5) -> None:
        """Wait until the log has the text: lines are written a moment later."""
        deadline = time.monotonic() + seconds
        while text not in self.log.read_text():
            assert time.monotonic() < deadline, self.log.read_text()
            time.sleep(0.02)

    def wait_until_ready(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise AssertionError(f"the server ended:\n{self.log.read_text()}")
            try:
                if self.get("/readyz").status == 200:
                    return
            except OSError:
                pass
            time.sleep(0.05)
        raise AssertionError(f"the server is not ready:\n{self.log.read_text()}")


def command(*words: str | Path) -> list[str]:
    """The `mimicit` command of this environment."""
    return [sys.executable, "-m", "app", *map(str, words)]


def environment(**more: str) -> dict[str, str]:
    """This environment without settings of the service, and with `more`."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("MIMICIT_")}
    return kept | more


def run(*words: str | Path, **env: str) -> "subprocess.CompletedProcess[str]":
    """A command of this environment, run to its end in a minute; `env` is set for it."""
    return subprocess.run(
        command(*words),
        env=environment(**env),
        capture_output=True,
        text=True,
        timeout=60,
        stdin=subprocess.DEVNULL,
        check=False,
    )


@contextmanager
def start_server(
    what: Path | str,
    catalog_dir: Path,
    *flags: str,
    workers: int = 1,
    tmpdir: Path | None = None,
    preexec: Callable[[], object] | None = None,
    **settings: object,
) -> Iterator[LiveServer]:
    """A server of the data YAML, or of the catalog at that address, on a free port, stopped at the
    end; other settings by name."""
    log = catalog_dir.parent / f"server-{time.monotonic_ns()}.log"
    env = environment(**{f"MIMICIT_{name.upper()}": str(value) for name, value in settings.items()})
    if tmpdir is not None:
        env["TMPDIR"] = str(tmpdir)
    named = ("--catalog", what) if isinstance(what, str) else (what,)
    words = ("serve", *named, "--port", "0", "--workers", str(workers), *flags)
    with open(log, "w") as sink:
        process = subprocess.Popen(
            command(*words, "--catalog-dir", catalog_dir),
            stderr=sink,
            stdout=sink,
            stdin=subprocess.DEVNULL,
            text=True,
            env=env,
            cwd=Path(__file__).parents[1],
            preexec_fn=preexec,
        )
    try:
        server = LiveServer(_find_port(process, log), process, log)
        server.wait_until_ready()
        yield server
    finally:
        stop(process)


def _find_port(process: subprocess.Popen[str], log: Path) -> int:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        found = re.search(r"at http://127\.0\.0\.1:(\d+)", log.read_text())
        if found:
            return int(found[1])
        if process.poll() is not None:
            break
        time.sleep(0.05)
    raise AssertionError(f"the server did not start:\n{log.read_text()}")


def stop(process: subprocess.Popen[Any]) -> int:
    """Ask the process to stop, and see that it does."""
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(5)
            raise
    return process.returncode


def image_path(dataset: str, key: str) -> str:
    """The path of an image, its key wholly percent-encoded."""
    return f"/v1/datasets/{quote(dataset, safe='')}/images/{quote(key, safe='')}"
