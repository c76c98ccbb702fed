"""What /metrics says, whichever worker is asked, and what it says after workers were killed."""

import json
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from base64 import b64encode
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from live_server import LiveServer, image_path, start_server
from packs import draw_jpeg, record, write_images, write_instructions
from prometheus_client.parser import text_string_to_metric_families

from app.metrics.exposition import CatalogState, ReloadState, render
from app.metrics.meter import BOUNDS_SECONDS, Meter, Way

ROOT = Path(__file__).parents[1]
TEMPLATE = "/v1/datasets/{dataset}/images/{key}"

Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def samples_of(text: str) -> Samples:
    """Every sample of an exposition, by its name and labels."""
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def value(samples: Samples, name: str, **labels: str) -> float:
    return samples.get((f"mimicit_{name}", tuple(sorted(labels.items()))), 0)


def ask(server: LiveServer) -> Samples:
    time.sleep(0.05)  # a worker counts after the last byte is sent
    answer = server.get("/metrics")
    assert answer.status == 200
    assert answer.headers["content-type"].startswith("text/plain; version=")
    return samples_of(answer.body.decode())


# --- the counters of a worker ---


def test_workers_count_side_by_side_and_the_next_goes_on(tmp_path: Path) -> None:
    with closing(Meter(["/a"], tmp_path)) as first, closing(Meter(["/a"], tmp_path)) as second:
        first.begin()
        first.end("/a", 200, 300_000, 70)
        second.begin()
        second.end("/a", 404, 1_000, 5)
        second.count_read(Way.DUCKDB)
        second.begin()
        for meter in (first, second):
            stock = meter.take_stock()
            assert stock.sent_bytes["/a"] == 75
            assert stock.reads[Way.DUCKDB] == 1
            assert stock.in_flight == 1
            assert [(one.status, sum(one.counts)) for one in stock.timings] == [
                ("2xx", 1),
                ("4xx", 1),
            ]
    assert len(list(tmp_path.iterdir())) == 2
    with closing(Meter(["/a"], tmp_path)) as third:
        stock = third.take_stock()
        assert (stock.sent_bytes["/a"], stock.in_flight, stock.pids) == (75, 0, [os.getpid()])
    assert len(list(tmp_path.iterdir())) == 2


def test_a_worker_that_is_killed_loses_nothing(tmp_path: Path) -> None:
    code = (
        "import sys, time\nfrom pathlib import Path\nfrom app.metrics.meter import Meter\n"
        "meter = Meter([], Path(sys.argv[1]))\n"
        "for _ in range(1000): meter.begin(); meter.end(None, 200, 1, 3)\n"
        "meter.begin()\nprint('done', flush=True)\ntime.sleep(60)"
    )
    for turn in range(1, 4):
        command = [sys.executable, "-c", code, str(tmp_path)]
        with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "done\n"
            with closing(Meter([], tmp_path)) as meter:
                assert meter.take_stock().in_flight == 1
            process.kill()
        with closing(Meter([], tmp_path)) as meter:
            stock = meter.take_stock()
            assert (stock.sent_bytes["other"], stock.in_flight) == (3000 * turn, 0)
    assert len(list(tmp_path.iterdir())) == 2


def test_threads_count_every_read() -> None:
    with closing(Meter()) as meter:

        def read() -> None:
            for _ in range(20_000):
                meter.count_read(Way.IN_PLACE)

        threads = [threading.Thread(target=read) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert meter.take_stock().reads[Way.IN_PLACE] == 80_000


@pytest.mark.parametrize("seconds", [*BOUNDS_SECONDS, 0.0, 1e-9, 1e6])
def test_a_bucket_has_what_took_no_longer_than_its_bound(seconds: float) -> None:
    with closing(Meter()) as meter:
        meter.begin()
        meter.end("no such route", 599, round(seconds * 1e9), 0)
        catalog = CatalogState("1", "r", 7, {"D": {"k\n": 2}})
        text, _ = render(meter.take_stock(), catalog, ReloadState(3, "failed", 8.5), "")
    samples = samples_of(text.decode())
    for bound in (*map(str, BOUNDS_SECONDS), "+Inf"):
        name = ("mimicit_request_seconds_bucket", (("le", bound), ("route", "other")))
        found = samples[name[0], (*name[1], ("status", "5xx"))]
        assert found == (seconds <= float(bound)), bound
    assert value(samples, "problems", dataset="D", kind="k\n") == 2
    assert value(samples, "reloads_total") == 3
    outcomes = ("none", "running", "swapped", "unchanged", "failed")
    assert [value(samples, "reload_outcome", outcome=one) for one in outcomes] == [0, 0, 0, 0, 1]
    assert value(samples, "reload_timestamp_seconds") == 8.5


# --- of a service ---


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    folder = tmp_path_factory.mktemp("metrics")
    pictures = {f"K{n}": draw_jpeg(n) for n in range(40)}
    write_images(folder / "plain.parquet", pictures)
    values = [b64encode(one).decode() for one in pictures.values()]
    frame = pd.DataFrame({"base64": values}, index=list(pictures))
    frame.to_parquet(folder / "zstd.parquet", compression="zstd")
    table = pa.table({"key": list(pictures), "base64": values})
    pq.write_table(
        table,
        folder / "delta.parquet",
        use_dictionary=False,
        column_encoding={"base64": "DELTA_BYTE_ARRAY"},
    )
    write_images(folder / "broken.parquet", pictures | {"K5": draw_jpeg(5)[:300]})
    write_instructions(folder / "a.json", {f"I{n}": record("q", f"K{n}") for n in range(40)})
    write_instructions(folder / "b.json", {"I": record("q", "GONE"), "J": record("q", "K1")})
    files = {"PLAIN": "plain", "ZSTD": "zstd", "DELTA": "delta"}
    lines = [f"  {n}: {{mimicit_path: b.json, images_path: {f}.parquet}}" for n, f in files.items()]
    broken = "  BROKEN: {mimicit_path: a.json, images_path: broken.parquet}"
    (folder / "data.yaml").write_text(
        "\n".join(["IMAGE_TEXT:", *lines, "IMAGE_TEXT_IN_CONTEXT:", broken])
    )
    (folder / "tmp").mkdir()
    with start_server(folder / "data.yaml", folder / "c", workers=2, tmpdir=folder / "tmp") as live:
        while value(ask(live), "workers") < 2:
            pass
        yield live


def test_every_worker_answers_for_all(server: LiveServer) -> None:
    before = ask(server)
    labels = {"route": TEMPLATE, "status": "2xx"}
    for number in range(60):  # each on a connection of its own, so by either worker
        assert server.get(image_path("PLAIN", f"K{number % 40}")).ok
    sizes = sum(len(draw_jpeg(number % 40)) for number in range(60))
    for _ in range(8):
        after = ask(server)
        counted = value(after, "request_seconds_count", **labels)
        assert counted - value(before, "request_seconds_count", **labels) == 60
        sent = value(after, "sent_bytes_total", route=TEMPLATE)
        assert sent - value(before, "sent_bytes_total", route=TEMPLATE) == sizes
        assert value(after, "requests_in_flight") == 1  # this one
        assert value(after, "workers") == 2
    inside = value(after, "request_seconds_bucket", le="60.0", **labels)
    assert inside == value(after, "request_seconds_bucket", le="+Inf", **labels) == counted


def test_requests_are_counted_by_template_and_class_of_status(server: LiveServer) -> None:
    before = ask(server)
    asked = {
        "/v1/datasets/PLAIN": ("/v1/datasets/{dataset}", "2xx"),
        "/v1/datasets/NO": ("/v1/datasets/{dataset}", "4xx"),
        image_path("PLAIN", "NO"): (TEMPLATE, "4xx"),
        image_path("PLAIN", "K1") + "?width=10": (TEMPLATE, "2xx"),
        "/v1/datasets/BROKEN/instructions/I1": ("/v1/datasets/{dataset}/instructions/{id}", "2xx"),
        "/v1/batches/0?batch_size=2": ("/v1/batches/{step}", "2xx"),
        "/nothing/here": ("other", "4xx"),
        "/docs": ("/docs", "2xx"),
        "/healthz": ("/healthz", "2xx"),
    }
    for path in asked:
        server.get(path)
    after = ask(server)
    for route, status in set(asked.values()):
        labels = {"route": route, "status": status}
        grown = value(after, "request_seconds_count", **labels) - value(
            before, "request_seconds_count", **labels
        )
        assert grown == list(asked.values()).count((route, status)), labels


def test_reads_are_counted_by_their_way(server: LiveServer) -> None:
    before = ask(server)
    for dataset in ("PLAIN", "ZSTD", "DELTA"):
        for key in ("K1", "K2"):
            assert server.get(image_path(dataset, key)).ok
    after = ask(server)
    for way, count in (("in_place", 2), ("whole_page", 2), ("duckdb", 2)):
        grown = value(after, "image_reads_total", way=way)
        assert grown - value(before, "image_reads_total", way=way) == count, way
    hits, misses = (
        value(after, "page_cache_lookups_total", result=result) for result in ("hit", "miss")
    )
    assert hits + misses == value(after, "image_reads_total", way="whole_page")
    assert 1 <= misses <= 2  # each worker has a cache of its own


def test_substitutions_are_counted(server: LiveServer) -> None:
    before = value(ask(server), "substituted_samples_total")
    path = "/v1/groups/IMAGE_TEXT_IN_CONTEXT/batches/0?batch_size=40&size=8"
    assert server.get(path).headers["x-batch-substituted"] == "1"
    assert value(ask(server), "substituted_samples_total") - before == 1


def test_the_catalog_and_its_problems_are_told(server: LiveServer) -> None:
    samples = ask(server)
    revision = server.get_json("/readyz")["revision"]
    assert value(samples, "catalog_info", revision=revision, version="0.1.0") == 1
    assert 0 <= time.time() - value(samples, "catalog_built_timestamp_seconds") < 600
    for dataset in server.get_json("/v1/datasets")["items"]:
        for kind, count in dataset["problems"].items():
            assert value(samples, "problems", dataset=dataset["name"], kind=kind) == count
    assert value(samples, "problems", dataset="PLAIN", kind="missing_image") == 1


def test_a_changed_source_is_a_refusal(tmp_path: Path) -> None:
    write_images(tmp_path / "a.parquet", {"K": draw_jpeg(1)})
    write_instructions(tmp_path / "a.json", {"I": record("q", "K")})
    (tmp_path / "d.yaml").write_text(
        "IMAGE_TEXT:\n  A: {mimicit_path: a.json, images_path: a.parquet}\n"
    )
    with start_server(tmp_path / "d.yaml", tmp_path / "c") as live:
        os.utime(tmp_path / "a.parquet", (1, 1))
        assert live.get(image_path("A", "K")).code == "source_changed"
        samples = ask(live)
        assert value(samples, "refused_total", code="source_changed") == 1
        assert value(samples, "image_reads_total", way="in_place") == 0


def test_counting_goes_on_when_its_disk_is_full(small_disk: Path, tmp_path: Path) -> None:
    write_images(tmp_path / "a.parquet", {"K": draw_jpeg(1)})
    write_instructions(tmp_path / "a.json", {"I": record("q", "K")})
    (tmp_path / "d.yaml").write_text(
        "IMAGE_TEXT:\n  A: {mimicit_path: a.json, images_path: a.parquet}\n"
    )
    with start_server(tmp_path / "d.yaml", tmp_path / "c", tmpdir=small_disk) as live:
        with open(small_disk / "filler", "wb", buffering=0) as filler, suppress(OSError):
            while True:
                filler.write(bytes(4096))
        (worker,) = live.list_workers()
        routes = live.get("/openapi.json").json()["paths"]
        for route in routes:
            live.get(re.sub("{.*?}", "1", route))  # of which some are refused
        assert live.list_workers() == [worker]
        counted = [labels for name, labels in ask(live) if name.endswith("request_seconds_count")]
        assert len(counted) >= len(routes) > 10


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_each_worker_tells_of_its_process(server: LiveServer) -> None:
    samples = ask(server)
    for worker in ("0", "1"):
        assert value(samples, "worker_resident_memory_bytes", worker=worker) > 10_000_000
        assert value(samples, "worker_open_fds", worker=worker) > 5


def test_openmetrics_is_given_to_whoever_asks_for_it(server: LiveServer) -> None:
    answer = server.get("/metrics", accept="application/openmetrics-text; version=1.0.0")
    assert answer.headers["content-type"].startswith("application/openmetrics-text")
    assert answer.body.endswith(b"# EOF\n")


def test_killed_workers_lose_no_count_and_leave_no_files(server: LiveServer) -> None:
    (folder,) = (server.log.parent / "tmp").glob("mimicit-*")
    labels = {"route": TEMPLATE, "status": "2xx"}
    counted = value(ask(server), "request_seconds_count", **labels)
    for _ in range(2):
        for worker in server.list_workers():
            worker.kill()
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            try:
                samples = ask(server)
                if value(samples, "workers") == 2:
                    break
            except OSError:
                pass
            time.sleep(0.1)
        assert value(samples, "workers") == 2
        assert value(samples, "request_seconds_count", **labels) == counted
        assert value(samples, "requests_in_flight") == 1
        server.get(image_path("PLAIN", "K1"))
        counted += 1
        assert value(ask(server), "request_seconds_count", **labels) == counted
    assert len(list((folder / "counts").iterdir())) == 2


# --- what reads them ---


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool (Debian: prometheus)")
def test_promtool_finds_nothing_wrong_under_load(server: LiveServer) -> None:
    stop = threading.Event()

    def load() -> None:
        while not stop.is_set():
            server.get(image_path("PLAIN", "K1"))
            server.get("/v1/batches/0?batch_size=2")

    threads = [threading.Thread(target=load) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(5):
            text = server.get("/metrics").body
            done = subprocess.run(
                ["promtool", "check", "metrics"], input=text, capture_output=True, timeout=30
            )
            assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def list_queries(part: Any) -> Iterator[str]:
    """Every PromQL expression of a dashboard."""
    if isinstance(part, dict):
        for name, inner in part.items():
            if name in ("expr", "query") and isinstance(inner, str):
                yield inner
            else:
                yield from list_queries(inner)
    elif isinstance(part, list):
        for inner in part:
            yield from list_queries(inner)


def list_names(text: str) -> set[str]:
    """The names of series that an exposition can have, from its TYPE lines."""
    names = set()
    for name, kind in re.findall(r"^# TYPE (\S+) (\S+)$", text, re.MULTILINE):
        suffixes = ("_bucket", "_sum", "_count") if kind == "histogram" else ("",)
        names |= {name + suffix for suffix in suffixes}
    return names


def test_the_dashboard_asks_for_metrics_that_there_are(server: LiveServer) -> None:
    dashboard = json.loads((ROOT / "docker" / "grafana.json").read_text())
    queries = [one for one in list_queries(dashboard) if "mimicit_" in one]
    assert len(queries) > 10
    named = {name for query in queries for name in re.findall(r"\bmimicit_\w+", query)}
    there = list_names(server.get("/metrics").body.decode())
    assert named <= there, named - there
    # And every metric is looked at.
    assert {re.sub(r"_(bucket|sum|count)$", "", name) for name in there - named} <= {
        re.sub(r"_(bucket|sum|count)$", "", name) for name in named
    }


def test_the_metrics_page_has_every_metric(server: LiveServer) -> None:
    page = (ROOT / "docs" / "metrics.md").read_text()
    types = re.findall(r"^# TYPE (\S+)", server.get("/metrics").body.decode(), re.MULTILINE)
    assert set(re.findall(r"^\| `(mimicit_\w+)", page, re.MULTILINE)) == set(types)
