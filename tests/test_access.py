"""Who may ask: tokens that come and go, cookies that end with them, and how often."""

import hashlib
import logging
import re
import secrets
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote, urlencode

import pytest
from live_server import LiveServer, command, environment, image_path, run, start_server
from mimicit_client import Client, Retries, UnauthorizedError
from packs import draw_jpeg, record, write_images, write_instructions

from app.access.rates import Rates
from app.access.sessions import COOKIE, Sessions, read_cookie
from app.access.tokens import Holder, Tokens, TokensError
from app.routes.sign_in import find_local

ANN, BOB = "ann-0123456789abcdef", "bob-0123456789abcdef"


class Clock:
    """A time that is told."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


# --- tokens ---


def test_a_token_is_found_as_it_is_and_by_its_hash(tmp_path: Path) -> None:
    file = tmp_path / "tokens"
    hashed = hashlib.sha256(BOB.encode()).hexdigest()
    file.write_text(f"# who\n\n  ann : {ANN}\nbob: sha256:{hashed.upper()}\n")
    tokens = Tokens(file, f"cyd:{'c' * 16},dan: {'d' * 16}")
    assert tokens.are_needed
    for token, name in ((ANN, "ann"), (BOB, "bob"), ("c" * 16, "cyd"), ("d" * 16, "dan")):
        found = tokens.find(token)
        assert found is not None
        assert found.name == name
    for wrong in ("", ANN[:-1], ANN + " ", hashed, f"sha256:{hashed}", "é" * 16, "ann"):
        assert tokens.find(wrong) is None


def test_without_any_everybody_may() -> None:
    assert not Tokens(None, None).are_needed
    assert not Tokens(None, "").are_needed


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("ann", "line 1: write `name: token`"),
        ("a b: 0123456789abcdef", "line 1: write"),
        ("ann: short", "16 to 512"),
        (f"ann: {'x' * 513}", "16 to 512"),
        ("ann: sha256:123", "64 hexadecimal"),
        (f"ann: {ANN}\nann: {BOB}", "two tokens: ann"),
        (f"ok: {ANN}\nwrong\nann: é23456789abcdefgh", "line 2(?s:.)*line 3"),
    ],
)
def test_a_mistake_is_named_and_shows_no_token(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "tokens").write_text(text)
    with pytest.raises(TokensError, match=said) as caught:
        Tokens(tmp_path / "tokens", None)
    assert not [one for one in ("short", ANN, BOB, "xxxx") if one in str(caught.value)]


def test_a_file_that_is_not_there_or_no_text_or_too_large_is_refused(tmp_path: Path) -> None:
    (tmp_path / "bytes").write_bytes(b"ann: \xff" * 20)
    (tmp_path / "large").write_text("# comment\n" * 200_000)
    for name in ("none", "bytes", "large"):
        with pytest.raises(TokensError, match=name):
            Tokens(tmp_path / name, None)


def test_the_file_may_change_and_a_bad_one_changes_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file, clock = tmp_path / "tokens", Clock()
    file.write_text(f"ann: {ANN}")
    tokens = Tokens(file, None, clock)
    file.write_text(f"bob-2: {BOB}")
    assert tokens.find(ANN)
    clock.now += 1.1
    assert tokens.find(ANN) is None
    assert tokens.find(BOB)
    for text in ("nonsense", None):
        file.write_text(text) if text else file.unlink()
        caplog.clear()
        with caplog.at_level(logging.ERROR):
            for _ in range(5):
                clock.now += 1.1
                assert tokens.find(BOB)
        assert len(caplog.records) == 1
    file.write_text(f"ann: {ANN}")
    clock.now += 1.1
    assert tokens.find(BOB) is None


def test_a_change_that_can_not_be_read_at_once_is_read_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, clock = tmp_path / "tokens", Clock()
    file.write_text(f"ann: {ANN}\nbob: {BOB}\n")
    tokens = Tokens(file, None, clock)
    file.write_text(f"ann: {ANN}\n")
    with monkeypatch.context() as patch:

        def fail(_: Path) -> list[Holder]:
            raise TokensError("too many open files")

        patch.setattr("app.access.tokens._read", fail)
        clock.now += 2
        assert tokens.find(BOB) is not None
    clock.now += 2
    assert tokens.find(BOB) is None
    assert tokens.find(ANN) is not None


# --- sessions ---


def test_a_session_ends_with_its_time_and_with_its_token(tmp_path: Path) -> None:
    file, clock, wall = tmp_path / "tokens", Clock(), Clock()
    file.write_text(f"ann: {ANN}\nbob: {BOB}")
    tokens = Tokens(file, None, clock)
    sessions = Sessions(tokens, b"key", 60, wall)
    holder = tokens.find(ANN)
    assert holder is not None
    cookie = sessions.make(holder)
    assert sessions.find(cookie) == holder
    assert ANN not in cookie
    assert holder.digest.hex() not in cookie
    wall.now += 61
    assert sessions.find(cookie) is None
    wall.now -= 61
    file.write_text(f"ann: {secrets.token_hex(16)}\nbob: {BOB}")
    clock.now += 2
    assert sessions.find(cookie) is None


def test_a_session_is_bound_to_its_key_name_and_end() -> None:
    tokens = Tokens(None, f"ann: {ANN}, bob: {BOB}")
    holder = tokens.find(ANN)
    assert holder is not None
    cookie = Sessions(tokens, b"key", 60).make(holder)
    name, expires, signature = cookie.split(":")
    sessions = Sessions(tokens, b"key", 60)
    for wrong in (
        f"bob:{expires}:{signature}",
        f"{name}:{int(expires) + 1}:{signature}",
        f"{name}:{expires}:{signature[:-1]}",
        f"{name}:{expires}:é",
        f"{name}:{expires}",
        f"{name}:٣:{signature}",
        f"{name}:{'9' * 5000}:{signature}",
        "",
        "::",
    ):
        assert sessions.find(wrong) is None
    assert Sessions(tokens, b"another", 60).find(cookie) is None
    assert read_cookie(f"a=b; {COOKIE}={cookie}; c") == cookie
    assert read_cookie(f"x{COOKIE}=a; b") is None


# --- rates ---


def test_a_rate_is_a_second_at_once_and_then_so_many_a_second() -> None:
    clock = Clock()
    rates = Rates(10, clock)
    assert [rates.take("a") == 0 for _ in range(12)] == [True] * 10 + [False] * 2
    assert rates.take("b") == 0
    assert 0 < rates.take("a") <= 0.1 + 1e-9
    allowed = 0
    for _ in range(1000):
        clock.now += 0.01
        allowed += rates.take("a") == 0
    assert 99 <= allowed <= 101


def test_names_without_end_take_no_memory_without_end() -> None:
    rates = Rates(1, Clock())
    for number in range(20_000):
        assert rates.take(str(number)) == 0
    assert len(rates._due) == 10_000


@pytest.mark.parametrize(
    "target",
    [
        *("//evil.example", "/\\evil.example", "https://evil.example", "evil", "", "javascript:x"),
        *("/a\nb", "/\t/evil.example", "/é", "\\\\evil"),
    ],
    ids=ascii,
)
def test_nobody_is_led_away(target: str) -> None:
    assert find_local(target) == "/"
    assert find_local("/v1/datasets?a=%0a#b") == "/v1/datasets?a=%0a#b"


# --- a service with tokens ---


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("access")
    write_images(folder / "a.parquet", {"K": draw_jpeg(1)})
    write_instructions(folder / "a.json", {"I": record("q", "K")})
    (folder / "data.yaml").write_text(
        "IMAGE_TEXT:\n  A: {mimicit_path: a.json, images_path: a.parquet}\n"
    )
    return folder / "data.yaml"


@pytest.fixture(scope="module")
def server(data: Path) -> Iterator[LiveServer]:
    (data.parent / "tokens").write_text(f"ann: {ANN}\nbob: {BOB}\n")
    with start_server(
        data, data.parent / "c", "--tokens-file", str(data.parent / "tokens"), workers=2
    ) as live:
        yield live


PATHS = (
    *("/v1/datasets", "/v1/datasets/A", image_path("A", "K"), "/v1/batches/0?batch_size=1"),
    *("/metrics", "/docs", "/openapi.json", "/docs/static/favicon.png", "/nothing", "/", "//v1"),
    *("/healthz/", "/healthz/../v1/datasets", "/sign-in/../v1/datasets", "/%68ealthz/x"),
)


@pytest.mark.parametrize("path", PATHS)
def test_nothing_is_told_without_a_token(server: LiveServer, path: str) -> None:
    wrong = ("Bearer", "Bearer ", f"Bearer {ANN[:-1]}", f"Basic {ANN}", ANN, f"Bearer {ANN}x", "é")
    for headers in ({}, *({"authorization": one} for one in wrong)):
        answer = server.request("GET", path, headers)
        assert (answer.status, answer.code) == (401, "unauthorized")
        assert answer.headers["www-authenticate"].startswith('Bearer realm="mimicit"')
        assert ("invalid_token" in answer.headers["www-authenticate"]) == bool(headers)
        assert "x-catalog-revision" not in answer.headers
    found = server.get(path, authorization=f"Bearer {ANN}")
    assert found.status in (200, 404)


def test_probes_need_none(server: LiveServer) -> None:
    assert server.get("/healthz").ok
    assert server.get("/readyz").ok


def test_the_log_names_the_token_and_never_shows_one(server: LiveServer) -> None:
    answer = server.get("/v1/datasets", authorization=f"bearer {BOB}")
    deadline = time.monotonic() + 5
    while answer.headers["x-request-id"] not in server.log.read_text():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert '"token":"bob"' in server.log.read_text()
    assert ANN not in server.log.read_text()
    assert BOB not in server.log.read_text()


def test_the_client_sends_its_token(server: LiveServer) -> None:
    url = f"http://127.0.0.1:{server.port}"
    with Client(url, token=ANN) as client:
        assert [one.name for one in client.datasets()] == ["A"]
    began = time.monotonic()
    with (
        Client(url, token="wrong" * 5, retries=Retries(total_seconds=60)) as client,
        pytest.raises(UnauthorizedError),
    ):
        client.datasets()
    assert time.monotonic() - began < 5  # not tried again


def sign_in(
    server: LiveServer, token: str, wanted: str = "/docs", **headers: str
) -> tuple[int, dict[str, str]]:
    body = urlencode({"token": token, "next": wanted}).encode()
    kind = {"content-type": "application/x-www-form-urlencoded"}
    answer = server.request("POST", "/sign-in", kind | headers, body)
    return answer.status, answer.headers


def test_a_browser_signs_in_and_out(server: LiveServer) -> None:
    page = {"accept": "text/html,application/xhtml+xml,*/*;q=0.8"}
    path = image_path("A", "K") + "?width=9&height=9"
    answer = server.request("GET", path, page)
    assert answer.status == 303
    assert answer.headers["location"] == f"/sign-in?next={quote(path, safe='')}"
    form = server.request("GET", answer.headers["location"], page)
    assert form.ok
    assert f'value="{path.replace("&", "&amp;")}"' in form.body.decode()
    assert "default-src 'none'" in form.headers["content-security-policy"]
    assert not re.search(rb"<script|<style|style=|\son\w+=", form.body)

    status, headers = sign_in(server, ANN, path)
    assert (status, headers["location"]) == (303, path)
    cookie, *attributes = headers["set-cookie"].split("; ")
    assert {one.lower() for one in attributes} >= {"httponly", "samesite=strict", "path=/"}
    assert ANN not in cookie
    for wanted in (path, "/docs", "/v1/datasets", "/metrics"):
        for _ in range(3):  # of either worker
            assert server.request("GET", wanted, {"cookie": f"a=b; {cookie}"}).ok
    # As a proxy in front may add.
    both = {"cookie": cookie, "authorization": "Basic YTpi"}
    assert server.request("GET", "/v1/datasets", both).ok
    out = server.request("POST", "/sign-out", {"cookie": cookie})
    assert (out.status, out.headers["location"]) == (303, "/sign-in")
    assert re.search("max-age=0", out.headers["set-cookie"], re.IGNORECASE)


def test_a_wrong_token_signs_nobody_in(server: LiveServer) -> None:
    for token in ("", "wrong", ANN + "x", "x" * 9000):
        status, headers = sign_in(server, token)
        assert status == 401
        assert "set-cookie" not in headers
    status, headers = sign_in(server, ANN, origin="https://evil.example")
    assert (status, "set-cookie" in headers) == (403, False)
    status, headers = sign_in(
        server, ANN, "//evil.example", origin=f"http://127.0.0.1:{server.port}"
    )
    assert (status, headers["location"]) == (303, "/")


def test_what_comes_back_in_the_form_is_escaped(server: LiveServer) -> None:
    wanted = quote('/"><script>alert(1)</script>', safe="")
    assert b"<script" not in server.get(f"/sign-in?next={wanted}").body


def test_a_token_taken_away_ends_at_once_also_in_browsers(server: LiveServer, data: Path) -> None:
    _, headers = sign_in(server, BOB)
    cookie = headers["set-cookie"].split("; ")[0]
    assert server.get("/v1/datasets", cookie=cookie).ok
    (data.parent / "tokens").write_text(f"ann: {ANN}\n")
    time.sleep(1.2)
    for _ in range(6):
        assert server.get("/v1/datasets", cookie=cookie).status == 401
        assert server.get("/v1/datasets", authorization=f"Bearer {BOB}").status == 401
        assert server.get("/v1/datasets", authorization=f"Bearer {ANN}").ok


def test_who_hangs_up_while_signing_in_is_no_failure(server: LiveServer) -> None:
    for _ in range(3):
        with socket.create_connection(("127.0.0.1", server.port), timeout=5) as client:
            client.sendall(b"POST /sign-in HTTP/1.1\r\nHost: x\r\nContent-Length: 99\r\n\r\nto")
            time.sleep(0.1)
    time.sleep(0.5)
    assert "Traceback" not in server.log.read_text()
    assert " 500 " not in server.log.read_text()


# --- starting ---


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.1", "a.host.example"])
def test_others_are_not_listened_to_without_tokens(data: Path, host: str) -> None:
    done = run("serve", data, "--host", host, "--port", "0", "--catalog-dir", data.parent / "x")
    assert done.returncode == 1
    assert "--insecure" in done.stderr
    assert "--tokens-file" in done.stderr


def test_bad_tokens_stop_the_start(data: Path, tmp_path: Path) -> None:
    (tmp_path / "bad").write_text("nonsense")
    done = run("serve", data, "--tokens-file", tmp_path / "bad", "--port", "0")
    assert done.returncode == 1
    assert "line 1: write `name: token`" in done.stderr


@pytest.mark.parametrize(
    ("insecure", "tokens"), [(True, ""), (False, f"ann: {ANN}")], ids=["insecure", "tokens"]
)
def test_others_are_listened_to_if_told_so(data: Path, insecure: bool, tokens: str) -> None:
    with start_server(
        data, data.parent / "c", "--host", "0.0.0.0", insecure=insecure, tokens=tokens
    ) as live:
        answer = live.get("/v1/datasets", authorization=f"Bearer {ANN}")
        assert answer.ok
        assert live.get("/v1/datasets").ok == insecure


# --- limits ---


def test_more_than_the_rate_is_429_with_retry_after(data: Path) -> None:
    with start_server(
        data, data.parent / "c", requests_per_second=5, tokens=f"ann: {ANN}, bob: {BOB}"
    ) as live:
        statuses = [
            live.get("/v1/datasets", authorization=f"Bearer {ANN}").status for _ in range(20)
        ]
        assert statuses[:5] == [200] * 5
        assert 429 in statuses
        assert live.get("/v1/datasets", authorization=f"Bearer {BOB}").ok
        while (answer := live.get("/v1/datasets", authorization=f"Bearer {ANN}")).ok:
            pass
        assert answer.code == "rate_limited"
        assert int(answer.headers["retry-after"]) == 1
        assert all(live.get("/healthz").ok for _ in range(20))
        assert [live.get("/v1/datasets").status for _ in range(10)].count(429) > 0
        with Client(f"http://127.0.0.1:{live.port}", token=ANN) as client:
            for _ in range(8):
                assert client.datasets()


def test_more_in_flight_than_there_may_be_is_503_at_once(data: Path) -> None:
    head = b"POST /v1/images:lookup HTTP/1.1\r\nHost: x\r\nContent-Length: 30\r\n\r\n{"
    with start_server(data, data.parent / "c", max_in_flight=3) as live:
        slow = [socket.create_connection(("127.0.0.1", live.port)) for _ in range(3)]
        for one in slow:
            one.sendall(head)
        deadline = time.monotonic() + 5
        while (answer := live.get(image_path("A", "K"))).ok and time.monotonic() < deadline:
            time.sleep(0.05)
        assert (answer.status, answer.code) == (503, "overloaded")
        assert answer.headers["retry-after"] == "1"
        assert live.get("/healthz").ok
        assert b'mimicit_refused_total{code="overloaded"}' in live.get("/metrics").body
        for one in slow:
            one.close()
        while not (answer := live.get(image_path("A", "K"))).ok:
            assert time.monotonic() < deadline
        assert answer.body == draw_jpeg(1)


# --- TLS ---


def test_https_with_a_certificate(data: Path, tmp_path: Path) -> None:
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    words = ["-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1", "-days", "2"]
    words += ["-keyout", str(key), "-out", str(cert)]
    try:
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", *words],
            check=True,
            capture_output=True,
            timeout=60,
        )
    except FileNotFoundError:
        pytest.skip("openssl is not installed")
    done = run("serve", data, "--tls-cert", tmp_path / "none.pem", "--port", "0")
    assert done.returncode == 1
    assert "none.pem" in done.stderr
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    flags = ("--tls-cert", cert, "--tls-key", key, "--catalog-dir", data.parent / "c")
    process = subprocess.Popen(
        command("serve", data, *flags, "--port", str(port), "--workers", "1"),
        env=environment(MIMICIT_TOKENS=f"ann: {ANN}"),
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        context = ssl.create_default_context(cafile=str(cert))
        deadline = time.monotonic() + 60
        while True:
            try:
                with socket.create_connection(("127.0.0.1", port), timeout=5) as plain:
                    with context.wrap_socket(plain, server_hostname="127.0.0.1") as secured:
                        ask = f"GET /v1/datasets HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {ANN}"
                        secured.sendall(ask.encode() + b"\r\nConnection: close\r\n\r\n")
                        assert secured.recv(1000).startswith(b"HTTP/1.1 200")
                    break
            except OSError:
                assert time.monotonic() < deadline
                time.sleep(0.2)
    finally:
        process.terminate()
        process.wait(30)
        assert process.stderr is not None
        assert f"at https://127.0.0.1:{port}" in process.stderr.read()
        process.stderr.close()
