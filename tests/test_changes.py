"""Sources that change while they are served: refused at once, and never other bytes."""

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from live_server import LiveServer, image_path, start_server
from packs import draw_jpeg, record, write_images, write_instructions

KEYS = [f"K{n}" for n in range(8)]


@pytest.fixture
def pack(tmp_path: Path) -> Path:
    for name, shift in (("a", 0), ("b", 100)):
        pictures = {key: draw_jpeg(n + shift, 200, 200) for n, key in enumerate(KEYS)}
        write_images(tmp_path / f"{name}.parquet", pictures)
        write_images(tmp_path / f"{name}-legacy.json", pictures)
        write_instructions(tmp_path / f"{name}.json", {f"I-{name}": record("q", "K0")})
    (tmp_path / "data.yaml").write_text(
        "IMAGE_TEXT:\n"
        "  A: {mimicit_path: a.json, images_path: a.parquet}\n"
        "  AJ: {mimicit_path: a.json, images_path: a-legacy.json}\n"
        "  B: {mimicit_path: b.json, images_path: b.parquet}\n"
    )
    return tmp_path


@pytest.fixture
def server(pack: Path) -> Iterator[LiveServer]:
    with start_server(pack / "data.yaml", pack / "catalog") as live:
        yield live


def replace(path: Path) -> None:
    other = path.with_name(path.name.replace("a", "b", 1))
    copy = path.with_suffix(".new")
    shutil.copy(other, copy)
    copy.replace(path)


def overwrite(path: Path) -> None:
    data = path.read_bytes()
    path.write_bytes(bytes(byte ^ 1 for byte in data))


def overwrite_keeping_size_and_time(path: Path) -> None:
    stat = path.stat()
    overwrite(path)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))


def truncate(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def truncate_to_nothing(path: Path) -> None:
    os.truncate(path, 0)


def append(path: Path) -> None:
    with open(path, "ab") as file:
        file.write(b"more")


def touch(path: Path) -> None:
    path.touch()


def delete(path: Path) -> None:
    path.unlink()


CHANGES = [
    replace,
    overwrite,
    overwrite_keeping_size_and_time,
    truncate,
    truncate_to_nothing,
    append,
    touch,
    delete,
]


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
@pytest.mark.parametrize(("file", "dataset"), [("a.parquet", "A"), ("a-legacy.json", "AJ")])
def test_a_changed_source_is_refused_and_others_go_on(
    pack: Path, server: LiveServer, change: Callable[[Path], None], file: str, dataset: str
) -> None:
    before = {key: server.get(image_path(dataset, key)) for key in KEYS}
    assert [answer.status for answer in before.values()] == [200] * len(KEYS)
    change(pack / file)
    for n, key in enumerate(KEYS):
        answer = server.get(image_path(dataset, key))
        assert (answer.status, answer.code) == (503, "source_changed")
        assert int(answer.headers["retry-after"]) > 0
        assert server.get(image_path("B", key)).body == draw_jpeg(n + 100, 200, 200)
    other = "AJ" if dataset == "A" else "A"
    assert server.get(image_path(other, "K1")).body == draw_jpeg(1, 200, 200)
    assert server.get(f"/v1/datasets/{dataset}/instructions/I-a").status == 200
    if change is not overwrite_keeping_size_and_time:
        etag = before["K0"].headers["etag"]
        assert server.get(image_path(dataset, "K0"), if_none_match=etag).status == 503
    found = server.post("/v1/images:lookup", {"dataset": dataset, "keys": ["K2", "NO"]}).json()
    assert [item["error"]["code"] for item in found["items"]] == ["source_changed", "unknown_image"]


def test_a_source_that_is_put_back_is_served_again(pack: Path, server: LiveServer) -> None:
    path = pack / "a.parquet"
    path.rename(pack / "away")
    assert server.get(image_path("A", "K3")).status == 503
    (pack / "away").rename(path)
    assert server.get(image_path("A", "K3")).body == draw_jpeg(3, 200, 200)


def test_a_changed_source_is_right_again_after_indexing(pack: Path) -> None:
    with start_server(pack / "data.yaml", pack / "catalog") as live:
        revision = live.get_json("/readyz")["revision"]
        replace(pack / "a.parquet")
        assert live.get(image_path("A", "K3")).status == 503
    with start_server(pack / "data.yaml", pack / "catalog") as live:
        assert live.get(image_path("A", "K3")).body == draw_jpeg(103, 200, 200)
        assert live.get_json("/readyz")["revision"] != revision
