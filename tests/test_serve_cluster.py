"""Ray Serve on a real cluster of two machines: a replica dies under load, and then a machine."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml
from live_server import LiveServer, environment, image_path, run
from mimicit_client import Client
from packs import draw_jpeg, record, write_images, write_instructions
from ray_cluster import RayCluster

pytestmark = pytest.mark.slow
CONFIG = Path(__file__).parents[1] / "docker" / "ray.yaml"
KEYS = [f"K {n}/ü" for n in range(30)]
TOKEN = "0123456789abcdef"
PICTURES = {key: draw_jpeg(n) + bytes(50_000) for n, key in enumerate(KEYS)}


def wait_for(what: Callable[[], Any], seconds: float = 90) -> Any:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if found := what():
            return found
        time.sleep(0.2)
    raise AssertionError("it did not come to that")


def run_index(data: Path, catalogs: Path) -> None:
    done = run("index", data, "--catalog-dir", catalogs)
    assert done.returncode == 0, done.stderr


@dataclass
class Served:
    """The application on the cluster: a proxy on its first machine, replicas on both."""

    live: LiveServer
    cluster: RayCluster
    data: Path
    catalogs: Path

    def list_replicas(self) -> list[psutil.Process]:
        found = []
        for process in psutil.process_iter(["name", "status", "cmdline"]):
            words = " ".join(process.info["cmdline"] or [])
            if words.startswith("ray::ServeReplica") and self._is_ours(process.pid):
                found.append(process)
        return found

    def _is_ours(self, pid: int) -> bool:
        nodes = [self.cluster.head, self.cluster.other]
        try:
            session = os.getsid(pid)
        except ProcessLookupError:
            return False
        return session in {node.process.pid for node in nodes if node is not None}


def _heed_interrupts() -> None:
    """What a shell starts with `&` ignores them, and so do its children."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.fixture(scope="module")
def served(ray_cluster: RayCluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("ray-serve")
    ray_cluster.start_other()
    write_images(folder / "a.parquet", PICTURES)
    write_instructions(folder / "a.json", {f"I{n}": record("q", key) for n, key in enumerate(KEYS)})
    data = folder / "data.yaml"
    data.write_text("IMAGE_TEXT:\n  A: {mimicit_path: a.json, images_path: a.parquet}\n")
    run_index(data, folder / "c")
    config = yaml.safe_load(CONFIG.read_text())
    with socket.create_server(("127.0.0.2", 0)) as listening:
        port = listening.getsockname()[1]
    # Both machines are this one, so only one of them has the port.
    config["proxy_location"] = "HeadOnly"
    config["http_options"] |= {"host": "127.0.0.1", "port": port}
    (application,) = config["applications"]
    (folder / "tokens").write_text(f"tests: {TOKEN}\n")
    application["args"] |= {
        "data": str(data),
        "catalog_dir": str(folder / "c"),
        "tokens_file": str(folder / "tokens"),
        "max_replicas": 2,
    }
    (folder / "ray.yaml").write_text(yaml.safe_dump(config))
    log = folder / "serve.log"
    words = ["-m", "ray.serve.scripts", "run", "--address", ray_cluster.address]
    with open(log, "w") as sink:
        process = subprocess.Popen(
            [sys.executable, *words, str(folder / "ray.yaml")],
            stdin=subprocess.DEVNULL,
            stdout=sink,
            stderr=sink,
            text=True,
            env=environment(RAY_USAGE_STATS_ENABLED="0"),
            preexec_fn=_heed_interrupts,
        )
    try:
        live = LiveServer(port, process, log, token=TOKEN)
        live.wait_until_ready()
        found = Served(live, ray_cluster, data, folder / "c")
        wait_for(lambda: len(found.list_replicas()) == 2)
        yield found
    finally:
        process.send_signal(signal.SIGINT)  # it takes the application off the cluster
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def test_it_is_the_same_service(served: Served) -> None:
    live = served.live
    revision = live.get_json("/readyz")["revision"]
    answer = live.get(image_path("A", KEYS[3]))
    assert answer.body == PICTURES[KEYS[3]]
    assert answer.headers["x-catalog-revision"] == revision
    assert live.get(image_path("A", KEYS[3]), if_none_match=answer.headers["etag"]).status == 304
    part = live.get(image_path("A", KEYS[3]), range="bytes=2-5")
    assert (part.status, part.body) == (206, PICTURES[KEYS[3]][2:6])
    head = live.request("HEAD", "/v1/datasets")
    assert (head.status, head.body) == (200, b"")
    assert head.headers["content-length"] == live.get("/v1/datasets").headers["content-length"]
    assert live.get(image_path("A", "none")).code == "unknown_image"
    assert live.get(f"{image_path('A', KEYS[3])}?revision=0").code == "revision_changed"
    tar = live.get("/v1/batches/1?batch_size=8&format=tar")
    assert tar.status == 200
    assert int(tar.headers["content-length"]) == len(tar.body)


def test_it_wants_a_token(served: Served) -> None:
    stranger = LiveServer(served.live.port, served.live.process, served.live.log)
    for path in (image_path("A", KEYS[3]), "/v1/datasets", "/v1/batches/1", "/metrics"):
        assert stranger.get(path).code == "unauthorized"
    assert stranger.get("/readyz").status == 200


@pytest.mark.filterwarnings("ignore:Using extra keyword arguments:DeprecationWarning")  # Ray's own
def test_without_tokens_it_is_refused_unless_it_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("ray")
    from app.ray import Arguments, ExposureError, app

    write_images(tmp_path / "a.parquet", PICTURES)
    write_instructions(tmp_path / "a.json", {"I": record("q", KEYS[0])})
    data = tmp_path / "data.yaml"
    data.write_text("IMAGE_TEXT:\n  A: {mimicit_path: a.json, images_path: a.parquet}\n")
    run_index(data, tmp_path / "c")
    given = {"data": data, "catalog_dir": tmp_path / "c"}
    with pytest.raises(ExposureError, match="tokens_file="):
        app(Arguments.model_validate(given))
    app(Arguments.model_validate(given | {"insecure": True}))
    monkeypatch.setenv("MIMICIT_TOKENS", f"tests: {TOKEN}")
    app(Arguments.model_validate(given))


@contextmanager
def under_load(served: Served, threads: int = 6) -> Iterator[list[int]]:
    """Clients that ask and compare; a wrong answer, or one that does not come, fails the test."""
    errors: list[BaseException] = []
    done = [0] * threads
    is_over = threading.Event()

    def ask(number: int) -> None:
        try:
            with Client(f"http://127.0.0.1:{served.live.port}", token=TOKEN) as client:
                while not is_over.is_set():
                    key = KEYS[(number + done[number]) % len(KEYS)]
                    if done[number] % 3:
                        assert client.image(key, "A") == PICTURES[key]
                    else:
                        table = client.batch(0, batch_size=4, seed=done[number]).table
                        for ids, images in zip(
                            table["image_ids"].to_pylist(), table["images"].to_pylist(), strict=True
                        ):
                            assert images == [PICTURES[one] for one in ids]
                    done[number] += 1
        except BaseException as error:
            errors.append(error)

    running = [threading.Thread(target=ask, args=(number,)) for number in range(threads)]
    for one in running:
        one.start()
    try:
        wait_for(lambda: sum(done) > 50)
        yield done
    finally:
        is_over.set()
        for one in running:
            one.join()
    assert errors == []


def test_a_replica_that_is_killed_under_load_loses_no_request(served: Served) -> None:
    wait_for(lambda: len(served.list_replicas()) == 2)
    with under_load(served) as done:
        victim = served.list_replicas()[0]
        victim.kill()
        before = sum(done)
        wait_for(lambda: sum(done) > before + 200)
        wait_for(lambda: len(found := served.list_replicas()) == 2 and victim not in found)


def test_new_data_are_taken_up_by_every_replica(served: Served) -> None:
    wait_for(lambda: len(served.list_replicas()) == 2)
    before = served.live.get_json("/readyz")["revision"]
    with under_load(served, 2):
        records = {f"J{n}": record("another", key) for n, key in enumerate(KEYS)}
        write_instructions(served.data.with_name("b.json"), records)
        new = served.data.with_suffix(".new")
        new.write_text("IMAGE_TEXT:\n  A: {mimicit_path: b.json, images_path: a.parquet}\n")
        new.replace(served.data)
        run_index(served.data, served.catalogs)

        def revisions() -> set[str]:
            return {served.live.get_json("/readyz")["revision"] for _ in range(12)}

        (after,) = wait_for(lambda: len(found := revisions()) == 1 and found - {before})
        assert served.live.get("/v1/datasets/A/instructions/J3").status == 200
        assert after != before


def test_a_machine_that_dies_under_load_loses_no_request(served: Served) -> None:
    other = served.cluster.start_other()
    wait_for(lambda: len(served.list_replicas()) == 2)
    with under_load(served) as done:
        other.kill()
        before = sum(done)
        wait_for(lambda: sum(done) > before + 200)


@pytest.mark.filterwarnings("ignore:Using extra keyword arguments:DeprecationWarning")  # Ray's own
def test_the_page_has_every_argument_and_its_default() -> None:
    pytest.importorskip("ray")
    from app.ray import Arguments

    page = (CONFIG.parents[1] / "docs" / "clusters.md").read_text()
    for name, field in Arguments.model_fields.items():
        default = "" if field.default is None else f"{field.default:g} "
        assert f"| `{name}` | {default}" in page
    (application,) = yaml.safe_load(CONFIG.read_text())["applications"]
    Arguments.model_validate(application["args"])
