"""Data that change while they are served: another catalog under load, or the old one kept."""

import hashlib
import http.client
import os
import random
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pytest
from live_server import LiveServer, command, environment, image_path, run, start_server
from packs import draw_jpeg, record, write_images, write_instructions

from app.mounted import make_current, mounted_folder
from app.orders import Orders, OrdersFolder, Reload
from app.running import announce
from app.settings import load_settings

pytestmark = pytest.mark.slow

KEYS = [f"K{n}" for n in range(12)]
_SECONDS = 60


def picture(version: int, key: str) -> bytes:
    return draw_jpeg(version * 16 + int(key[1:]), 80, 60) + random.Random(version).randbytes(20_000)


def write_version(folder: Path, version: int) -> Path:
    """Data whose dataset CHANGES is another in each version, and whose dataset STAYS is not."""
    if not version:
        write_images(folder / "stays.parquet", {key: picture(99, key) for key in KEYS})
        write_instructions(folder / "stays.json", {"S": record("stays", "K0")})
    write_images(folder / f"v{version}.parquet", {key: picture(version, key) for key in KEYS})
    records = {f"I{n}": record(f"version {version}", key) for n, key in enumerate(KEYS)}
    write_instructions(folder / f"v{version}.json", records)
    post_yaml(
        folder,
        "IMAGE_TEXT:\n"
        f"  CHANGES: {{mimicit_path: v{version}.json, images_path: v{version}.parquet}}\n"
        "  STAYS: {mimicit_path: stays.json, images_path: stays.parquet}\n",
    )
    return folder / "data.yaml"


def post_yaml(folder: Path, text: str) -> None:
    new = folder / "data.new"
    new.write_text(text)
    new.replace(folder / "data.yaml")


def run_reload(data: Path, catalogs: Path) -> "subprocess.CompletedProcess[str]":
    return run("reload", data, "--catalog-dir", catalogs)


def wait_for(what: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + _SECONDS
    while time.monotonic() < deadline:
        if found := what():
            return found
        time.sleep(0.05)
    raise AssertionError("it did not come to that")


def readiness(server: LiveServer) -> dict[str, Any]:
    found: dict[str, Any] = server.get_json("/readyz")
    return found


def wait_for_outcome(server: LiveServer, outcome: str, number: int) -> dict[str, Any]:
    def ended() -> dict[str, Any] | None:
        found = readiness(server)
        reload = found["reload"]
        return found if (reload["outcome"], reload["number"]) == (outcome, number) else None

    found: dict[str, Any] = wait_for(ended)
    return found


def list_units(catalogs: Path) -> set[str]:
    return {path.name for path in catalogs.glob("*/units/*")}


@dataclass
class Load:
    """Threads that ask a server without a pause, each over one connection, and what they got."""

    port: int
    answers: list[tuple[str, str, str, str]] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    is_over: bool = False

    def ask(self, seed: int) -> None:
        choose = random.Random(seed)
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        while not self.is_over:
            kind = choose.choice(["CHANGES", "CHANGES", "STAYS", "instruction", "batch", "lookup"])
            key = choose.choice(KEYS)
            method, path, body = "GET", image_path(kind, key), None
            if kind == "instruction":
                path = f"/v1/datasets/CHANGES/instructions/I{key[1:]}"
            elif kind == "batch":
                path = f"/v1/batches/0?batch_size=12&format=tar&seed={choose.randrange(3)}"
            elif kind == "lookup":
                method, path = "POST", f"/v1/images:lookup?{key}"
                body = b'{"dataset": "CHANGES", "keys": ["%b"]}' % key.encode()
            try:
                connection.request(method, path, body)
                answer = connection.getresponse()
                data = answer.read()
            except (OSError, http.client.HTTPException) as error:
                self.failed.append(f"{path}: {error!r}")
                connection.close()
                continue
            if answer.status != 200:
                self.failed.append(f"{path}: {answer.status} {data[:300]!r}")
            digest = hashlib.sha256(data).hexdigest()
            self.answers.append((answer.headers["x-catalog-revision"], method, path, digest))
        connection.close()


@contextmanager
def under_load(server: LiveServer, threads: int = 16) -> Iterator[Load]:
    load = Load(server.port)
    running = [threading.Thread(target=load.ask, args=(seed,)) for seed in range(threads)]
    for one in running:
        one.start()
    try:
        yield load
    finally:
        load.is_over = True
        for one in running:
            one.join()


def test_data_that_change_under_load_fail_no_request(tmp_path: Path) -> None:
    data = write_version(tmp_path, 0)
    revisions = {}
    # Answers of several parts, so that batches are streamed across the swap.
    with start_server(data, tmp_path / "c", workers=2, batch_part_bytes=60_000) as server:
        revisions[readiness(server)["revision"]] = 0
        with under_load(server) as load:
            for version in range(1, 5):
                write_version(tmp_path, version)
                done = run_reload(data, tmp_path / "c")
                assert done.returncode == 0, done.stderr
                revision = done.stderr.split()[-1]
                revisions[revision] = version
                # Every worker has it by then.
                assert {readiness(server)["revision"] for _ in range(20)} == {revision}
                time.sleep(0.5)
        assert load.failed == []
        assert len(load.answers) > 500
        assert len(revisions) == 5
        seen: dict[tuple[str, str, str], str] = {}
        for revision, method, path, digest in load.answers:
            assert seen.setdefault((revision, method, path), digest) == digest
            if path.startswith(("/v1/datasets/CHANGES/images", "/v1/datasets/STAYS/images")):
                version = 99 if "STAYS" in path else revisions[revision]
                expected = picture(version, path.rpartition("/")[2])
                assert digest == hashlib.sha256(expected).hexdigest()
        assert {revision for revision, *_ in load.answers} == set(revisions)
        wait_for(lambda: len(list_units(tmp_path / "c")) == 8)  # 2 x (file, images, ins., dataset)
        old = next(iter(revisions))
        pinned = server.get(f"{image_path('CHANGES', 'K1')}?revision={old}")
        assert (pinned.status, pinned.code) == (409, "revision_changed")


def test_an_answer_that_has_begun_ends_with_the_catalog_it_began_with(tmp_path: Path) -> None:
    pictures = {f"K{n}": random.Random(n).randbytes(1_000_000) for n in range(40)}
    write_images(tmp_path / "a.parquet", pictures)
    write_instructions(tmp_path / "a.json", {f"I{n}": record("q", f"K{n}") for n in range(40)})
    text = "IMAGE_TEXT:\n  A: {mimicit_path: a.json, images_path: a.parquet%s}\n"
    post_yaml(tmp_path, text % "")
    data = tmp_path / "data.yaml"
    with start_server(data, tmp_path / "c", batch_part_bytes=2_000_000) as server:
        path = "/v1/batches/0?batch_size=40&format=tar"
        expected = server.get(path)
        units = list_units(tmp_path / "c")
        slow = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
        slow.request("GET", path)
        answer = slow.getresponse()
        begun = answer.read(1000)
        write_images(tmp_path / "b.parquet", {key: value[::-1] for key, value in pictures.items()})
        post_yaml(tmp_path, text.replace("a.parquet", "b.parquet") % ", num_samples: 39")
        assert run_reload(data, tmp_path / "c").returncode == 0
        revision = readiness(server)["revision"]
        assert revision != answer.headers["x-catalog-revision"]
        time.sleep(3)  # the time to remove what nobody uses has come
        assert units <= list_units(tmp_path / "c")
        assert begun + answer.read() == expected.body
        slow.close()
        wait_for(lambda: not units & list_units(tmp_path / "c") - {u for u in units if "inst" in u})
        assert server.get(image_path("A", "K3")).body == pictures["K3"][::-1]


def break_yaml(folder: Path) -> str:
    post_yaml(folder, "IMAGE_TEXT:\n  A: {mimicit_path: nowhere.json}\n")
    return "nowhere.json"


def break_source(folder: Path) -> str:
    post_yaml(folder, (folder / "data.yaml").read_text().replace("v0.parquet", "bad.parquet"))
    (folder / "bad.parquet").write_bytes(b"PAR1 this is none PAR1")
    return "bad.parquet"


def remove_source(folder: Path) -> str:
    post_yaml(folder, (folder / "data.yaml").read_text().replace("v0.json", "v1.json"))
    return "v1.json"


def remove_yaml(folder: Path) -> str:
    (folder / "data.yaml").unlink()
    return "data.yaml"


@pytest.mark.parametrize(
    "spoil", [break_yaml, break_source, remove_source, remove_yaml], ids=lambda one: one.__name__
)
def test_bad_data_leave_the_catalog_that_is_served(
    tmp_path: Path, spoil: Callable[[Path], str]
) -> None:
    data = write_version(tmp_path, 0)
    with start_server(data, tmp_path / "c", workers=2) as server:
        before = readiness(server)
        assert before["reload"] == {"number": 0, "outcome": "none", "since": 0.0, "message": ""}
        named = spoil(tmp_path)
        done = run_reload(data, tmp_path / "c")
        assert done.returncode == 1
        assert named in done.stderr
        assert "Traceback" not in done.stderr
        for _ in range(10):
            found = readiness(server)
            assert (found["status"], found["revision"]) == ("ready", before["revision"])
            assert found["reload"]["outcome"] == "failed"
            assert named in found["reload"]["message"]
            assert abs(found["reload"]["since"] - time.time()) < 60
        assert server.get(image_path("CHANGES", "K1")).body == picture(0, "K1")
        server.wait_for_log("reload 1 failed: ")
        write_version(tmp_path, 2)
        done = run_reload(data, tmp_path / "c")
        assert done.returncode == 0, done.stderr
        assert server.get(image_path("CHANGES", "K1")).body == picture(2, "K1")
        assert readiness(server)["reload"]["outcome"] == "swapped"


def test_a_reload_that_failed_is_over_when_every_worker_tells_of_it(tmp_path: Path) -> None:
    data = write_version(tmp_path, 0)
    settings = load_settings(data_yaml=data, catalog_dir=tmp_path / "c")
    folder, manifest = mounted_folder(settings), make_current(settings, lambda _: None)
    orders = OrdersFolder(tmp_path / "shared")
    orders.post(Orders(1, manifest))
    orders.follow(1)
    # This process is the service and its worker, which looks late, as on a machine that is busy.
    failed = Orders(2, manifest, Reload(1, "failed", time.time(), "no such file: v1.json"))
    before = signal.signal(signal.SIGHUP, lambda *_: orders.post(failed))
    try:
        with announce(folder, orders.folder), start_reload(data, tmp_path / "c") as reload:
            wait_for(lambda: orders.read() == failed)
            time.sleep(1)  # ten looks of the command
            assert reload.poll() is None
            orders.follow(2)
            assert "v1.json" in reload.communicate(timeout=_SECONDS)[1]
            assert reload.returncode == 1
    finally:
        signal.signal(signal.SIGHUP, before)


def start_reload(data: Path, catalogs: Path) -> "subprocess.Popen[str]":
    words = command("reload", data, "--catalog-dir", catalogs)
    return subprocess.Popen(words, env=environment(), stderr=subprocess.PIPE, text=True)


def list_children(server: LiveServer) -> set[int]:
    return {child.pid for child in server.list_workers()}


def test_a_rebuild_that_is_killed_leaves_the_catalog_that_is_served(tmp_path: Path) -> None:
    data = write_version(tmp_path, 0)
    with start_server(data, tmp_path / "c", workers=2) as server:
        revision = readiness(server)["revision"]
        workers = wait_for(lambda: len(found := list_children(server)) == 2 and found)
        with under_load(server, 4) as load:
            write_version(tmp_path, 1)
            server.process.send_signal(signal.SIGHUP)
            os.kill(wait_for(lambda: list_children(server) - workers).pop(), signal.SIGKILL)
            found = wait_for_outcome(server, "failed", 1)
            assert "ended with status -9" in found["reload"]["message"]
            assert found["revision"] == revision
            server.process.send_signal(signal.SIGHUP)
            found = wait_for_outcome(server, "swapped", 2)
        assert load.failed == []
        assert found["revision"] != revision
        assert server.get(image_path("CHANGES", "K1")).body == picture(1, "K1")


def find_shared(tmpdir: Path) -> Path:
    """The folder that a service's processes share."""
    (found,) = tmpdir.glob("mimicit-*/orders.json")
    return found.parent


def test_a_folder_that_is_cleaned_away_takes_no_worker_with_it(tmp_path: Path) -> None:
    data, tmpdir = write_version(tmp_path, 0), tmp_path / "tmp"
    tmpdir.mkdir()
    with start_server(data, tmp_path / "c", tmpdir=tmpdir) as server:
        shutil.rmtree(find_shared(tmpdir))
        assert server.get("/metrics").ok
        wait_for(lambda: list(tmpdir.glob("mimicit-*/orders.json")))
        assert server.get("/metrics").ok
        for worker in server.list_workers():
            worker.kill()
        server.wait_until_ready()
        assert server.get("/metrics").ok
        write_version(tmp_path, 1)
        done = run_reload(data, tmp_path / "c")
        assert done.returncode == 0, done.stderr
        assert server.get(image_path("CHANGES", "K1")).body == picture(1, "K1")


def test_orders_that_can_not_be_written_end_no_reload_for_good(tmp_path: Path) -> None:
    data, tmpdir = write_version(tmp_path, 0), tmp_path / "tmp"
    tmpdir.mkdir()
    with start_server(data, tmp_path / "c", tmpdir=tmpdir) as server:
        in_the_way = find_shared(tmpdir) / ".new-orders.json"
        in_the_way.mkdir()
        server.process.send_signal(signal.SIGHUP)
        server.wait_for_log("a reload could not be told of")
        in_the_way.rmdir()
        write_version(tmp_path, 1)
        done = run_reload(data, tmp_path / "c")
        assert done.returncode == 0, done.stderr
        assert server.get(image_path("CHANGES", "K1")).body == picture(1, "K1")


def test_messages_that_name_files_are_for_those_with_a_token(tmp_path: Path) -> None:
    data, token = write_version(tmp_path, 0), "0123456789abcdef"
    with start_server(data, tmp_path / "c", tokens=f"ann: {token}") as server:
        post_yaml(tmp_path, "IMAGE_TEXT: [")
        server.process.send_signal(signal.SIGHUP)
        wait_for_outcome(server, "failed", 1)
        assert readiness(server)["reload"]["message"] == ""
        known = server.get("/readyz", authorization=f"Bearer {token}").json()
        assert str(data) in known["reload"]["message"]


def test_a_worker_that_dies_comes_back_with_the_catalog_that_is_served(tmp_path: Path) -> None:
    data = write_version(tmp_path, 0)
    with start_server(data, tmp_path / "c") as server:
        write_version(tmp_path, 1)
        assert run_reload(data, tmp_path / "c").returncode == 0
        revision = readiness(server)["revision"]
        for worker in server.list_workers():
            worker.kill()
        server.wait_until_ready()
        assert readiness(server)["revision"] == revision
        assert server.get(image_path("CHANGES", "K1")).body == picture(1, "K1")


def test_changes_are_found_by_looking(tmp_path: Path) -> None:
    data = write_version(tmp_path, 0)
    with start_server(data, tmp_path / "c", watch_seconds=1) as server:
        revision = readiness(server)["revision"]
        with under_load(server, 4) as load:
            write_version(tmp_path, 1)
            found = wait_for_outcome(server, "swapped", 1)
        assert load.failed == []
        assert found["revision"] != revision
        # A source in its place: its keys are refused until it is indexed, and never other bytes.
        write_images(tmp_path / "v1.parquet", {key: picture(7, key) for key in KEYS})
        bodies = {picture(7, "K1")}
        assert (
            wait_for(lambda: (answer := server.get(image_path("CHANGES", "K1"))).ok and answer.body)
            in bodies
        )
        break_yaml(tmp_path)
        wait_for_outcome(server, "failed", 3)
        time.sleep(3)  # once, not at every look
        assert readiness(server)["reload"]["number"] == 3


def test_data_that_are_the_same_stay_as_they_are(tmp_path: Path) -> None:
    data = write_version(tmp_path, 0)
    with start_server(data, tmp_path / "c", watch_seconds=1) as server:
        before = readiness(server)
        done = run_reload(data, tmp_path / "c")
        assert done.returncode == 0
        assert "unchanged" in done.stderr
        time.sleep(2.5)
        after = readiness(server)
        assert after["revision"] == before["revision"]
        assert (after["reload"]["number"], after["reload"]["outcome"]) == (1, "unchanged")


def test_nothing_to_reload_is_said(tmp_path: Path) -> None:
    data = write_version(tmp_path, 0)
    done = run_reload(data, tmp_path / "c")
    assert done.returncode == 1
    assert "no service of" in done.stderr
    with start_server(data, tmp_path / "c") as server:
        server.process.kill()
        server.process.wait()
    done = run_reload(data, tmp_path / "c")
    assert done.returncode == 1
    assert "no service of" in done.stderr
    assert not list((tmp_path / "c").glob("*/services/*"))


def test_stopping_ends_an_indexing_that_runs(tmp_path: Path) -> None:
    data = write_version(tmp_path, 0)
    with start_server(data, tmp_path / "c") as server:
        write_version(tmp_path, 1)
        server.process.send_signal(signal.SIGHUP)
        wait_for(lambda: readiness(server)["reload"]["outcome"] == "running")
        children = psutil.Process(server.process.pid).children(recursive=True)
        began = time.monotonic()
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(30) == 0
        assert time.monotonic() - began < 10
        _, alive = psutil.wait_procs(children, timeout=5)
        assert not [child for child in alive if child.status() != psutil.STATUS_ZOMBIE]


def test_a_catalog_that_another_process_has_open_is_not_removed(tmp_path: Path) -> None:
    data = write_version(tmp_path, 0)
    with start_server(data, tmp_path / "c") as server:
        units = list_units(tmp_path / "c")
        for version in (1, 2, 3):
            write_version(tmp_path, version)
            done = subprocess.run(
                command("index", data, "--catalog-dir", tmp_path / "c"),
                env=environment(),
                capture_output=True,
                timeout=_SECONDS,
                check=False,
            )
            assert done.returncode == 0
        assert units < list_units(tmp_path / "c")
        assert len(list_units(tmp_path / "c")) == 8 + 4  # neither version 1 nor 2
        os.kill(psutil.Process(server.process.pid).children()[-1].pid, signal.SIGKILL)
        server.wait_until_ready()
        assert server.get(image_path("CHANGES", "K1")).body == picture(0, "K1")
