"""Short versions of `python -m benchmarks.endurance`, and descriptors that run out."""

import base64
import resource
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from live_server import LiveServer, image_path, start_server
from packs import draw_jpeg, record, write_instructions

from benchmarks.endurance import connections, faults, mixed
from benchmarks.report import Result

pytestmark = pytest.mark.slow

_PARTS = 1000
_DESCRIPTORS = 64


def list_missed(results: Iterator[Result], *but: str) -> list[str]:
    """What was not as it should be, but for the goals that take a long run, or a quiet machine."""
    (result,) = results
    return [
        f"{goal.what}: {goal.measured} {result.notes}"
        for goal in result.goals
        if not goal.is_met and not goal.what.startswith(but)
    ]


def test_mixed_load() -> None:
    assert (
        list_missed(mixed.run(4, connections=64, pictures=60), "mixed load: memory is flat") == []
    )


def test_idle_and_slow_connections() -> None:
    found = connections.run(2, idle=300, slow=60, pictures=60)
    assert list_missed(found, "p99 beside") == []


def test_faults_under_load() -> None:
    assert list_missed(faults.run(0.5, connections=24, pictures=60)) == []


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set whose pictures are in a thousand files."""
    folder = tmp_path_factory.mktemp("parts")
    (folder / "a").mkdir()
    for number in range(_PARTS):
        columns = {"key": [f"K{number}"], "base64": [base64.b64encode(picture(number)).decode()]}
        pq.write_table(pa.table(columns), folder / "a" / f"part.{number}.parquet")
    write_instructions(folder / "a.json", {"I": record("q", "K0", "K999")})
    (folder / "data.yaml").write_text("IMAGE_TEXT: {A: {mimicit_path: a.json, images_path: a}}\n")
    return folder / "data.yaml"


def picture(number: int) -> bytes:
    return draw_jpeg(number) + number.to_bytes(4, "big")


def have_few_descriptors() -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (_DESCRIPTORS, _DESCRIPTORS))


def test_a_thousand_files_with_64_descriptors(parts: Path, tmp_path: Path) -> None:
    with start_server(parts, tmp_path / "c", preexec=have_few_descriptors) as server:
        for number in range(_PARTS):
            assert server.get(image_path("A", f"K{number}")).body == picture(number)
        keys = [f"K{number}" for number in range(0, _PARTS, 2)]
        found = server.post("/v1/images:lookup", {"dataset": "A", "keys": keys}).json()["items"]
        assert [item.get("error") for item in found] == [None] * len(keys)
        check_crowded(server)


def check_crowded(server: LiveServer) -> None:
    """More connections than there are descriptors: no wrong answer, and nothing is broken by it."""
    with ExitStack() as stack:
        for number in range(2 * _DESCRIPTORS):
            client = stack.enter_context(socket.create_connection(("127.0.0.1", server.port), 5))
            path = image_path("A", f"K{number}").encode()
            client.sendall(b"GET " + path + b" HTTP/1.1\r\nHost: x\r\n\r\n")
        time.sleep(1)
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        with suppress(OSError):
            if all(server.get(image_path("A", f"K{n}")).body == picture(n) for n in range(50)):
                return
        time.sleep(0.2)
    raise AssertionError("it does not answer any more")
