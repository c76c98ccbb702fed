"""What is said of the data after they have changed: pages, what is found out once, and metrics."""

import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from live_server import LiveServer, start_server
from packs import record, write_instructions
from prometheus_client.parser import text_string_to_metric_families
from test_reload import list_units, readiness, run_reload, wait_for, write_version

pytestmark = pytest.mark.slow


def spoil(folder: Path, version: int) -> None:
    """Have an instruction of that version, which is not served yet, name no picture there is."""
    records = {"I0": record("new", f"NONE-{version}"), "I1": record("new", "K1")}
    write_instructions(folder / f"v{version}.json", records)


def read_metrics(server: LiveServer) -> dict[tuple[str, str], float]:
    """Each series by its name and the values of its labels."""
    text = server.get("/metrics").body.decode()
    return {
        (sample.name.removeprefix("mimicit_"), " ".join(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def list_missing(server: LiveServer) -> list[str]:
    found = server.get_json("/problems.json")
    assert found["revision"] == readiness(server)["revision"]
    missing = (one for one in found["problems"] if one["kind"] == "missing_image")
    return [row["name"] + row["detail"] for one in missing for row in one["rows"]]


def ask_everything(server: LiveServer) -> None:
    """Have the explorer find out what it can."""
    pages = ("/", "/problems", "/problems.json", "/datasets/CHANGES/statistics")
    for path in (*pages, "/batches?group=IMAGE_TEXT&batch_size=1"):
        assert server.get(path, accept="text/html").ok, path


def test_the_explorer_shows_the_new_data_and_lets_the_old_go(tmp_path: Path) -> None:
    data = write_version(tmp_path, 0)
    with start_server(data, tmp_path / "c") as server:
        ask_everything(server)
        assert list_missing(server) == []
        before = list_units(tmp_path / "c")
        statistics = server.get("/datasets/CHANGES/statistics").body
        for version in (1, 2):
            write_version(tmp_path, version)
            spoil(tmp_path, version)
            assert run_reload(data, tmp_path / "c").returncode == 0
            (missing,) = list_missing(server)
            assert f"NONE-{version}" in missing
            assert readiness(server)["revision"] in server.get("/").body.decode()
            assert server.get("/datasets/CHANGES/statistics").body != statistics
            ask_everything(server)
        wait_for(lambda: len(list_units(tmp_path / "c")) == len(before))
        assert "Traceback" not in server.log.read_text()


@pytest.mark.parametrize("workers", [1, 2])
def test_metrics_are_of_what_is_served(tmp_path: Path, workers: int) -> None:
    data = write_version(tmp_path, 0)

    def asked(found: Callable[[dict[Any, float]], Any]) -> set[Any]:
        return {found(read_metrics(server)) for _ in range(5 * workers)}

    def revision(series: dict[Any, float]) -> str:
        (found,) = (labels for name, labels in series if name == "catalog_info")
        return str(found.split()[0])

    with start_server(data, tmp_path / "c", workers=workers) as server:
        before = read_metrics(server)
        assert revision(before) == readiness(server)["revision"]
        assert (before["reloads_total", ""], before["reload_outcome", "none"]) == (0, 1)
        assert before["reload_timestamp_seconds", ""] == 0
        time.sleep(1.1)  # a catalog is dated by the second
        write_version(tmp_path, 1)
        spoil(tmp_path, 1)
        assert run_reload(data, tmp_path / "c").returncode == 0
        assert asked(revision) == {readiness(server)["revision"]} != {revision(before)}
        (built,) = asked(lambda series: series["catalog_built_timestamp_seconds", ""])
        assert before["catalog_built_timestamp_seconds", ""] < built <= time.time()
        assert asked(lambda series: series["problems", "CHANGES missing_image"]) == {1}
        wait_for(lambda: asked(lambda series: series["reload_outcome", "swapped"]) == {1})
        assert asked(lambda series: series["reloads_total", ""]) == {1}
        (since,) = asked(lambda series: series["reload_timestamp_seconds", ""])
        assert abs(since - time.time()) < 60
        # Counters go on.
        (reads,) = asked(lambda series: series.get(("image_reads_total", "in_place"), 0))
        assert server.get("/v1/datasets/CHANGES/images/K1").ok
        after = read_metrics(server)
        assert after["image_reads_total", "in_place"] == reads + 1
        (data.parent / "v1.json").write_text("none")
        assert run_reload(data, tmp_path / "c").returncode == 1
        wait_for(lambda: asked(lambda series: series["reload_outcome", "failed"]) == {1})
        assert asked(lambda series: series["reload_outcome", "swapped"]) == {0}
        assert asked(revision) == {revision(after)}


def test_a_token_that_is_needed_is_needed_after_a_reload(tmp_path: Path) -> None:
    data = write_version(tmp_path, 0)
    token = "ann-" * 5
    with start_server(data, tmp_path / "c", tokens=f"ann: {token}") as server:
        write_version(tmp_path, 1)
        assert run_reload(data, tmp_path / "c").returncode == 0
        path = "/v1/datasets/CHANGES/images/K1"
        assert server.get(path).status == 401
        assert server.get(path, authorization=f"Bearer {token}").ok
        answer = server.get(path, authorization=f"Bearer {token}", X_Request_ID="mine")
        assert answer.headers["x-request-id"] == "mine"
        server.wait_for_log('"request_id":"mine"')
        assert re.search(r'"message": ?"reload 1 swapped', server.log.read_text())
