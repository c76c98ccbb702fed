"""Spans of requests, as a receiver of OTLP is sent them by a real server."""

import json
import logging
import re
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from live_server import LiveServer, command, environment, image_path, start_server, stop
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status
from packs import draw_jpeg, record, write_images, write_instructions

from app.logs.format import SPAN_IDS, RecordFormatter, SpanIds

pytestmark = pytest.mark.slow

IMAGE = "/v1/datasets/{dataset}/images/{key}"
TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
SAMPLED, NOT_SAMPLED = f"00-{TRACE}-{PARENT}-01", f"00-{TRACE}-{PARENT}-00"


@dataclass
class Receiver:
    """What listens at a port and keeps the spans that it is sent."""

    port: int
    bodies: list[bytes]

    @property
    def requests(self) -> list[ExportTraceServiceRequest]:
        return [ExportTraceServiceRequest.FromString(body) for body in self.bodies]

    @property
    def spans(self) -> list[Span]:
        return [
            span
            for request in self.requests
            for resource in request.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]

    def wait_for(self, request_id: str) -> Span:
        """The one span of a request, when it is there."""
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            found = [
                one for one in self.spans if attributes(one)["mimicit.request_id"] == request_id
            ]
            if found:
                (span,) = found
                return span
            time.sleep(0.05)
        raise AssertionError(f"no span of {request_id} in {self.spans}")


def attributes(one: Any) -> dict[str, Any]:
    """The attributes of a span or resource."""
    return {
        pair.key: getattr(pair.value, str(pair.value.WhichOneof("value")))
        for pair in one.attributes
    }


@contextmanager
def open_receiver() -> Iterator[Receiver]:
    """A receiver on a free port."""
    bodies: list[bytes] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            assert self.path == "/v1/traces"
            bodies.append(body)
            self.send_response(200)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield Receiver(server.server_address[1], bodies)
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def write_data(folder: Path) -> Path:
    write_images(folder / "a.parquet", {f"SECRET{n}": draw_jpeg(n) for n in range(30)})
    write_images(folder / "b.parquet", {"K": draw_jpeg(1)})
    write_instructions(folder / "a.json", {f"I{n}": record("q", f"SECRET{n}") for n in range(30)})
    write_instructions(folder / "b.json", {"I": record("q", "K")})
    (folder / "data.yaml").write_text(
        "IMAGE_TEXT:\n"
        "  A: {mimicit_path: a.json, images_path: a.parquet}\n"
        "  B: {mimicit_path: b.json, images_path: b.parquet}\n"
    )
    return folder / "data.yaml"


def set_environment(patch: pytest.MonkeyPatch, port: int, **more: str) -> None:
    """Have servers that are started send their spans to that port."""
    variables = {"EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{port}", "BSP_SCHEDULE_DELAY": "50"}
    for name, value in (variables | more).items():
        patch.setenv(f"OTEL_{name}", value)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with open_receiver() as receiver:
        yield receiver


@pytest.fixture(scope="module")
def traced(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[LiveServer, Receiver]]:
    folder = tmp_path_factory.mktemp("traces")
    with open_receiver() as receiver, pytest.MonkeyPatch.context() as patch:
        set_environment(patch, receiver.port)
        data = write_data(folder)
        with start_server(data, folder / "c", traces=True, tokens="ann:" + "t" * 16) as live:
            live.token = "t" * 16
            yield live, receiver


def lines_of(server: LiveServer, request_id: str) -> list[dict[str, Any]]:
    """The lines about a request, when they are there."""
    server.wait_for_log(f'"{request_id}"')
    lines = [line for line in server.log.read_text().splitlines() if line.startswith("{")]
    return [one for line in lines if (one := json.loads(line)).get("request_id") == request_id]


@pytest.mark.parametrize(
    ("method", "path", "route"),
    [
        ("GET", image_path("A", "SECRET1"), IMAGE),
        ("GET", image_path("A", "SECRET1") + "?width=9", IMAGE),
        ("HEAD", image_path("A", "SECRET1"), IMAGE),
        ("GET", image_path("A", "SECRET"), IMAGE),
        ("GET", "/v1/batches/0?batch_size=8&format=ndjson", "/v1/batches/{step}"),
        ("GET", "/v1/batches/0?batch_size=8", "/v1/batches/{step}"),
        ("GET", "/v1/datasets/A/instructions?q=SECRET", "/v1/datasets/{dataset}/instructions"),
        ("GET", "/v1/datasets/SECRET", "/v1/datasets/{dataset}"),
        ("GET", "/v1/batches/x?SECRET=1", "/v1/batches/{step}"),
        ("GET", "/healthz", "/healthz"),
        ("GET", "/SECRET?SECRET=SECRET", None),
        ("DELETE", "/v1/datasets", "/v1/datasets"),
        ("PROPFIND", "/SECRET", None),
    ],
)
def test_a_request_is_one_span(
    traced: tuple[LiveServer, Receiver], method: str, path: str, route: str | None
) -> None:
    server, receiver = traced
    before = time.time_ns()
    answer = server.request(method, path, {"cookie": "mimicit=SECRET", "user-agent": "SECRET"})
    after = time.time_ns()
    span = receiver.wait_for(answer.headers["x-request-id"])
    known = method != "PROPFIND"
    found = attributes(span)
    assert found.pop("http.response.body.size") == len(answer.body) or method == "HEAD"
    assert found == {
        "http.request.method": method if known else "_OTHER",
        "http.response.status_code": answer.status,
        "mimicit.request_id": answer.headers["x-request-id"],
    } | ({"http.route": route} if route else {})
    assert span.name == " ".join([method if known else "HTTP", *([route] if route else [])])
    assert span.kind == Span.SPAN_KIND_SERVER
    assert span.status.code == Status.STATUS_CODE_UNSET
    assert before <= span.start_time_unix_nano <= span.end_time_unix_nano
    assert span.start_time_unix_nano <= after
    assert (span.parent_span_id, len(span.events), len(span.links)) == (b"", 0, 0)
    assert not [body for body in receiver.bodies if b"SECRET" in body or b"t" * 16 in body]
    if route != "/healthz":
        (line,) = lines_of(server, answer.headers["x-request-id"])
        assert line["trace_id"] == span.trace_id.hex()
        assert line["span_id"] == span.span_id.hex()


@pytest.mark.parametrize("path", [image_path("A", "SECRET2"), "/v1/datasets", "/v1/datasets/NO"])
def test_the_parent_is_taken_over(traced: tuple[LiveServer, Receiver], path: str) -> None:
    server, receiver = traced
    answer = server.get(path, traceparent=SAMPLED, tracestate="a=b")
    span = receiver.wait_for(answer.headers["x-request-id"])
    assert (span.trace_id.hex(), span.parent_span_id.hex()) == (TRACE, PARENT)
    assert span.trace_state == "a=b"
    (line,) = lines_of(server, answer.headers["x-request-id"])
    assert line["trace_id"] == TRACE


@pytest.mark.parametrize("given", ["", "x" * 9000, f"00-{'0' * 32}-{PARENT}-01", "é", SAMPLED[:-1]])
def test_what_is_no_parent_is_none(traced: tuple[LiveServer, Receiver], given: str) -> None:
    server, receiver = traced
    answer = server.get(image_path("A", "SECRET2"), traceparent=given, tracestate="=,;")
    assert answer.ok
    span = receiver.wait_for(answer.headers["x-request-id"])
    assert span.trace_id.hex() != TRACE
    assert span.parent_span_id == b""


def test_what_is_not_sampled_has_no_span(traced: tuple[LiveServer, Receiver]) -> None:
    """Also of requests that are sent together, where each begins while the one before ends."""
    server, receiver = traced
    flags = [SAMPLED, NOT_SAMPLED, SAMPLED, NOT_SAMPLED]
    paths = [image_path("A", "SECRET3"), image_path("A", "SECRET4"), "/v1/datasets", "/v1/datasets"]
    heads = [
        f"GET {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {server.token}\r\n"
        f"X-Request-ID: together-{number}\r\nTraceparent: {flag}\r\n"
        for number, (path, flag) in enumerate(zip(paths, flags, strict=True))
    ]
    heads[-1] += "Connection: close\r\n"
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as client:
        client.sendall("".join(f"{head}\r\n" for head in heads).encode())
        with client.makefile("rb") as answers:
            assert answers.read().count(b"HTTP/1.1 200 OK") == 4
    for number in (0, 2):
        span = receiver.wait_for(f"together-{number}")
        (line,) = lines_of(server, f"together-{number}")
        assert (line["trace_id"], line["span_id"]) == (TRACE, span.span_id.hex())
    for number in (1, 3):
        (line,) = lines_of(server, f"together-{number}")
        assert not line.keys() & {"trace_id", "span_id"}
    asked = {attributes(one)["mimicit.request_id"] for one in receiver.spans}
    assert not asked & {"together-1", "together-3"}


def test_names_are_bounded(traced: tuple[LiveServer, Receiver]) -> None:
    server, receiver = traced
    answers = [
        server.request(method, path)
        for number in range(30)
        for method, path in (
            ("GET", image_path("A", f"SECRET{number}")),
            ("GET", image_path(f"NO{number}", f"K{number}")),
            ("GET", f"/v1/datasets/A/instructions/I{number}"),
            ("GET", f"/nowhere/{number}"),
            (("LOCK", "MKCOL", "PURGE")[number % 3], f"/nowhere/{number}"),
        )
    ]
    spans = [receiver.wait_for(one.headers["x-request-id"]) for one in answers]
    instruction = "GET /v1/datasets/{dataset}/instructions/{id}"
    assert {span.name for span in spans} == {f"GET {IMAGE}", instruction, "GET", "HTTP"}
    assert len({span.trace_id for span in spans}) == len(spans)


def test_failures_refusals_and_the_service_are_told(
    tmp_path: Path, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the log has no line of a request its span is sent all the same."""
    set_environment(
        monkeypatch, receiver.port, SERVICE_NAME="mine", RESOURCE_ATTRIBUTES="deployment=x"
    )
    data = write_data(tmp_path)
    tokens = "ann:" + "t" * 16
    with start_server(
        data, tmp_path / "c", traces=True, log_level="warning", tokens=tokens
    ) as server:
        refused = server.get(image_path("B", "K"))
        server.token = "t" * 16
        fine = server.get(image_path("B", "K"))
        (tmp_path / "b.parquet").write_bytes(b"other")
        failed = server.get(image_path("B", "K"))
        assert [one.status for one in (refused, fine, failed)] == [401, 200, 503]
        spans = [receiver.wait_for(one.headers["x-request-id"]) for one in (refused, fine, failed)]
        (line,) = lines_of(server, failed.headers["x-request-id"])
        assert line["span_id"] == spans[2].span_id.hex()
        assert '"status":200' not in server.log.read_text()
    unset, error = Status.STATUS_CODE_UNSET, Status.STATUS_CODE_ERROR
    assert [span.status.code for span in spans] == [unset, unset, error]
    assert attributes(spans[2])["error.type"] == "503"
    named = attributes(receiver.requests[0].resource_spans[0].resource)
    assert (named["service.name"], named["service.version"]) == ("mine", "0.1.0")
    assert named["deployment"] == "x"


def write_module_lister(folder: Path) -> None:
    """What has each process of Python that finds it write now and then which modules it has."""
    # Not at its end: a worker ends by the signal that it was sent.
    (folder / "sitecustomize.py").write_text(
        "import os, sys, threading, time\n"
        "def write():\n"
        "    while True:\n"
        "        time.sleep(0.1)\n"
        f"        path = {str(folder)!r} + '/' + str(os.getpid())\n"
        "        with open(path, 'w') as file:\n"
        "            file.write('\\n'.join([*sys.modules]))\n"
        "        os.replace(path, path + '.modules')\n"
        "threading.Thread(target=write, daemon=True).start()\n"
    )


@pytest.mark.parametrize("traces", [False, True])
def test_stopping_sends_what_waits_and_nothing_is_loaded_without_traces(
    tmp_path: Path, receiver: Receiver, monkeypatch: pytest.MonkeyPatch, traces: bool
) -> None:
    # Longer than the test takes: what comes has been sent because the service stops.
    set_environment(monkeypatch, receiver.port, BSP_SCHEDULE_DELAY="600000")
    monkeypatch.setenv("FASTAPI_OTEL_AUTO_CONFIGURE", "true")
    data = write_data(tmp_path)
    (tmp_path / "modules").mkdir()
    write_module_lister(tmp_path / "modules")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "modules"))
    with start_server(data, tmp_path / "c", workers=2, traces=traces) as server:
        answers = [server.get(image_path("A", f"SECRET{number}")) for number in range(30)]
        answers.append(server.get("/v1/batches/0?batch_size=2"))
        assert all(one.ok for one in answers)
        time.sleep(0.5)  # for the lists of modules
        assert not receiver.bodies
        assert stop(server.process) == 0
    asked = {attributes(one)["mimicit.request_id"] for one in receiver.spans}
    assert asked >= {one.headers["x-request-id"] for one in answers} if traces else not asked
    if traces:
        named = attributes(receiver.requests[0].resource_spans[0].resource)
        assert named["service.name"] == "mimicit"
    loaded = [set(one.read_text().split("\n")) for one in tmp_path.glob("modules/*.modules")]
    workers = [one for one in loaded if "app.service" in one and "app.cli.serve" not in one]
    assert len(workers) == 2
    # FastAPI itself loads OpenTelemetry's interface; what makes and sends spans is not in that.
    for modules in workers:
        ours = "app.routes.traces", "opentelemetry.sdk.trace", "google.protobuf"
        assert [one in modules for one in ours] == [traces] * len(ours)
        assert any(one.startswith("opentelemetry.exporter") for one in modules) == traces


@pytest.mark.parametrize("listens", [False, True])
def test_an_endpoint_that_is_down_costs_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, listens: bool
) -> None:
    """Neither one that refuses connections nor one that takes them and says nothing."""
    with socket.create_server(("127.0.0.1", 0), backlog=100) as silent:
        port = silent.getsockname()[1]
        if not listens:
            silent.close()
        set_environment(monkeypatch, port, BSP_MAX_QUEUE_SIZE="20", BSP_MAX_EXPORT_BATCH_SIZE="5")
        with start_server(write_data(tmp_path), tmp_path / "c", traces=True) as server:
            slowest = 0.0
            for number in range(300):
                began = time.monotonic()
                answer = server.get(image_path("A", f"SECRET{number % 30}"))
                slowest = max(slowest, time.monotonic() - began)
                assert answer.body == draw_jpeg(number % 30)
            assert slowest < 2
            server.wait_for_log("Queue full, dropping Span", 10)
            began = time.monotonic()
            assert stop(server.process) == 0
            assert time.monotonic() - began < 9
            text = server.log.read_text()
            assert "Traceback" not in text
            assert text.count("Queue full") < 10


def test_without_the_extra_it_is_said_at_the_start(tmp_path: Path) -> None:
    (tmp_path / "opentelemetry" / "exporter").mkdir(parents=True)
    (tmp_path / "opentelemetry" / "exporter" / "__init__.py").write_text("raise ImportError")
    done = subprocess.run(
        command("serve", write_data(tmp_path), "--catalog-dir", tmp_path / "c", "--port", "0"),
        env=environment(MIMICIT_TRACES="true", PYTHONPATH=str(tmp_path)),
        capture_output=True,
        text=True,
        timeout=60,
        stdin=subprocess.DEVNULL,
        check=False,
    )
    assert done.returncode == 1
    assert "pip install 'mimicit[otel]'" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "c").exists()  # before the catalog is built


# --- lines ---


def test_messages_have_the_ids_of_their_span() -> None:
    one = logging.LogRecord("app", logging.ERROR, "f.py", 1, "bad", (), None)
    token = SPAN_IDS.set(SpanIds(TRACE, PARENT))
    try:
        line = json.loads(RecordFormatter("json").format(one))
        text = RecordFormatter("text").format(one)
    finally:
        SPAN_IDS.reset(token)
    assert (line["trace_id"], line["span_id"]) == (TRACE, PARENT)
    assert text == f"error: bad [{TRACE} {PARENT}]"
    assert "trace_id" not in json.loads(RecordFormatter("json").format(one))


def test_text_has_them_too(
    tmp_path: Path, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_environment(monkeypatch, receiver.port)
    data = write_data(tmp_path)
    with start_server(data, tmp_path / "c", traces=True, log_format="text") as server:
        server.get(image_path("A", "SECRET1"), x_request_id="my-id", traceparent=SAMPLED)
        span_id = receiver.wait_for("my-id").span_id.hex()
        server.wait_for_log(f"[my-id] [{TRACE} {span_id}]")
        assert re.search(r"^info: GET .* 127\.0\.0\.1 \[my-id\] \[", server.log.read_text(), re.M)
