"""What the service writes: a line a request, ids, and nothing that a client could forge."""

import asyncio
import io
import json
import logging
import os
import re
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import quote

import pytest
from live_server import LiveServer, image_path, start_server
from packs import draw_jpeg, record, write_images, write_instructions
from starlette.types import Message, Receive, Scope, Send

from app.logs.format import REQUEST_ID, Format, RecordFormatter, escape, format_time
from app.logs.writer import LineWriter
from app.metrics.meter import Meter
from app.routes.front import Front
from app.routes.guard import Guard
from app.routes.request_ids import RequestIds
from app.settings import load_settings

NASTY = (
    'line\nend {"level":"error"}',
    "return\r",
    "\x1b[2J\x1b]0;title\x07",
    "c1 \x9b31m",
    "nul\0",
    "line\u2028separator",
    "right-to-left \u202e",
    'quote" \\',
    "lone \udcff surrogate",
)


def write_data(folder: Path) -> Path:
    write_images(folder / "a.parquet", {"K": draw_jpeg(1), 'line\nend "': draw_jpeg(2)})
    write_instructions(folder / "a.json", {"I": record("q", "K")})
    (folder / "data.yaml").write_text(
        "IMAGE_TEXT:\n  A: {mimicit_path: a.json, images_path: a.parquet}\n"
    )
    return folder / "data.yaml"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    folder = tmp_path_factory.mktemp("logs")
    with start_server(write_data(folder), folder / "c") as live:
        yield live


def lines_of(server: LiveServer, request_id: str) -> list[dict[str, Any]]:
    """The lines about a request, when they are there."""
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        lines = [line for line in server.log.read_text().splitlines() if line.startswith("{")]
        found = [one for line in lines if (one := json.loads(line)).get("request_id") == request_id]
        if any(one["event"] == "request" for one in found):
            return found
        time.sleep(0.05)
    raise AssertionError(server.log.read_text())


@pytest.mark.parametrize(
    ("path", "status", "route"),
    [
        (image_path("A", "K"), 200, "/v1/datasets/{dataset}/images/{key}"),
        (image_path("A", "K") + "?width=9", 200, "/v1/datasets/{dataset}/images/{key}"),
        (image_path("A", 'line\nend "'), 200, "/v1/datasets/{dataset}/images/{key}"),
        ("/v1/datasets/NO", 404, "/v1/datasets/{dataset}"),
        ("/nowhere?a=%0ab", 404, None),
    ],
)
def test_a_request_is_one_line(
    server: LiveServer, path: str, status: int, route: str | None
) -> None:
    answer = server.get(path)
    (line,) = lines_of(server, answer.headers["x-request-id"])
    assert line["event"] == "request"
    assert (line["method"], line["target"], line["status"]) == ("GET", path, status)
    assert (line["route"], line["bytes"]) == (route, len(answer.body))
    assert (line["client"], line["token"]) == ("127.0.0.1", None)
    assert 0 < line["seconds"] < 10
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", line["time"])


@pytest.mark.parametrize("path", [image_path("A", "K"), "/v1/datasets", "/v1/datasets/NO"])
def test_a_request_id_is_taken_over(server: LiveServer, path: str) -> None:
    for given in ("a", "0f8fad5b-d9cb-469f-a165-70867728950e", "x" * 128, "a/b:c=d+e@f._-"):
        answer = server.get(path, x_request_id=given)
        assert answer.headers["x-request-id"] == given
        assert answer.status == 200 or answer.json()["request_id"] == given


@pytest.mark.parametrize(
    "given", ["x" * 129, "a b", '"', "{}", "é", "a,b", "<b>", "", "a;b", "a\tb"], ids=ascii
)
def test_what_is_no_id_is_replaced(server: LiveServer, given: str) -> None:
    answer = server.get("/v1/datasets/NO", x_request_id=given)
    made = answer.headers["x-request-id"]
    assert re.fullmatch(r"[0-9a-f]{12}-[0-9a-f]+", made)
    assert answer.json()["request_id"] == made


def test_made_ids_differ() -> None:
    one, other = RequestIds(), RequestIds()
    assert len({ids.take(None) for ids in (one, other) for _ in range(1000)}) == 2000


def test_probes_are_not_logged(server: LiveServer) -> None:
    ids = [server.get(path).headers["x-request-id"] for path in ("/healthz", "/readyz", "/metrics")]
    lines_of(server, server.get("/v1/datasets").headers["x-request-id"])
    assert not [one for one in ids if one in server.log.read_text()]


def test_every_line_of_the_workers_is_json(server: LiveServer) -> None:
    for text in NASTY[:-1]:
        lines_of(server, server.get(image_path("A", text)).headers["x-request-id"])
        server.get(f"/v1/datasets/A/instructions?q={quote(text)}")
    lines = server.log.read_text().split("\n")
    start = next(n for n, line in enumerate(lines) if line.startswith("{"))
    said = [line for line in lines[start:] if line.startswith("{")]
    assert all(json.loads(line)["event"] in ("request", "message") for line in said)
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028\u202e]", server.log.read_text())


def test_text_is_for_people(tmp_path: Path) -> None:
    with start_server(write_data(tmp_path), tmp_path / "c", log_format="text") as server:
        server.get(image_path("A", "K"), x_request_id="my-id")
        server.get("/v1/datasets", x_request_id="second")
        deadline = time.monotonic() + 5
        while "[second]" not in server.log.read_text() and time.monotonic() < deadline:
            time.sleep(0.05)
        text = server.log.read_text()
    assert re.search(
        r"^info: GET /v1/datasets/A/images/K 200 \d+ B \d+\.\d ms 127.0.0.1 \[my-id\]$", text, re.M
    )


def test_the_level_leaves_requests_out(tmp_path: Path) -> None:
    with start_server(write_data(tmp_path), tmp_path / "c", log_level="warning") as server:
        assert server.get(image_path("A", "K")).ok
        os.utime(tmp_path / "a.parquet", (1, 1))
        (line,) = lines_of(server, server.get(image_path("A", "K")).headers["x-request-id"])
        assert (line["status"], line["level"]) == (503, "warning")
        assert '"status":200' not in server.log.read_text()


def test_a_failure_is_logged_once_with_its_request(caplog: pytest.LogCaptureFixture) -> None:
    async def fail(scope: Scope, receive: Receive, send: Send) -> None:
        raise RuntimeError("a bug")

    async def receive() -> Message:
        raise AssertionError

    async def send(message: Message) -> None:
        raise AssertionError

    service = SimpleNamespace(meter=Meter())
    scope: Scope = {
        "type": "http",
        "method": "POST",
        "path": "/a\nb",
        "raw_path": b"/a%0Ab",
        "headers": [(b"x-request-id", b"me")],
        "client": None,
        "state": {"service": service},
    }
    with caplog.at_level(logging.ERROR):
        asyncio.run(Front(fail, Guard(load_settings()))(scope, receive, send))
    (said,) = caplog.records
    assert said.exc_info is not None
    line = RecordFormatter("json").format(said)
    assert "RuntimeError: a bug" in json.loads(line)["traceback"]
    assert service.meter.take_stock().timings[0].status == "5xx"


# --- messages ---


def record_of(message: str, *args: object, error: Exception | None = None) -> logging.LogRecord:
    info = (type(error), error, None) if error else None
    return logging.LogRecord("app", logging.ERROR, "f.py", 1, message, args, info)


@pytest.mark.parametrize("text", NASTY, ids=ascii)
@pytest.mark.parametrize("format", ["json", "text"])
def test_a_message_can_not_forge_a_line(format: Format, text: str) -> None:
    formatter = RecordFormatter(format)
    line = formatter.format(record_of("%s is bad", text))
    assert line.isprintable()
    if format == "json":
        assert json.loads(line)["message"] == f"{text} is bad"
    with_trace = formatter.format(record_of("bad", error=ValueError(text)))
    first, *more = with_trace.split("\n")
    assert not more if format == "json" else all(one.startswith("    ") for one in more)
    assert all(one.isprintable() for one in (first, *more))


def test_a_message_has_the_id_of_its_request() -> None:
    token = REQUEST_ID.set("the-id")
    try:
        line = json.loads(RecordFormatter("json").format(record_of("a", error=ValueError("b"))))
    finally:
        REQUEST_ID.reset(token)
    assert line["request_id"] == "the-id"
    assert line["traceback"] == "ValueError: b"


def test_printable_text_is_left_as_it_is() -> None:
    assert escape("ключ 図 🙂 é") == "ключ 図 🙂 é"
    assert escape("a\nb\x1b\x9b") == "a\\nb\\x1b\\x9b"
    assert format_time(0.1239) == "1970-01-01T00:00:00.123Z"


LINES = 15_000  # more than a pipe takes


@pytest.mark.parametrize("waits", [True, False])
def test_lines_are_made_and_written_in_order_and_to_the_end(waits: bool) -> None:
    reading, writing = os.pipe()
    os.set_blocking(writing, waits)
    writer = LineWriter(writing, b"line %d\n".__mod__)
    expected = b"".join(b"line %d\n" % n for n in range(LINES))
    found = io.BytesIO()

    def read() -> None:
        while data := os.read(reading, 1 << 16):
            found.write(data)

    reader = threading.Thread(target=read)
    for n in range(LINES):
        writer.write(n)
    time.sleep(0.2)  # until the pipe is full
    reader.start()
    writer.close()
    os.close(writing)
    reader.join()
    os.close(reading)
    assert found.getvalue() == expected


@pytest.mark.skipif(sys.platform != "linux", reason="the size of a pipe")
def test_a_reader_that_hangs_makes_nobody_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.logs.writer._MAX_WAITING", 200)
    monkeypatch.setattr("app.logs.writer._LAST_SECONDS", 0.2)
    reading, writing = os.pipe()
    writer = LineWriter(writing, bytes)
    began = time.monotonic()
    for _ in range(20):
        for _ in range(100):
            writer.write(b"x" * 999 + b"\n")
        time.sleep(0.01)
    writer.close()
    assert time.monotonic() - began < 3
    assert 1000 < writer.take_dropped() < 2000
    os.close(reading)  # the thread's write fails, and it ends
    os.close(writing)
