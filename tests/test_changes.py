"""Sources that change while they are served: refused at once, and never other bytes."""

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from live_server import LiveServer, image_path, start_server
from packs import draw_jpeg, record, write_images, write_instructions

pytestmark = pytest.mark.slow

KEYS = [f"K{n}" for n in range(8)]


def write_pack(folder: Path, names: list[str]) -> Path:
    """A data set for each name, with a Parquet file of its own, or a legacy JSON file."""
    lines = ["IMAGE_TEXT:"]
    pictures = {key: draw_jpeg(n, 200, 200) for n, key in enumerate(KEYS)}
    write_images(folder / "other.parquet", {k: v[::-1] for k, v in pictures.items()})
    write_images(folder / "other.json", {k: v[::-1] for k, v in pictures.items()})
    write_instructions(folder / "instructions.json", {"I": record("q", "K0")})
    for name in names:
        file = f"{name}.{name.partition('-')[0]}"
        write_images(folder / file, pictures)
        lines.append(f"  {name}: {{mimicit_path: instructions.json, images_path: {file}}}")
    (folder / "data.yaml").write_text("\n".join(lines))
    return folder / "data.yaml"


def replace(path: Path) -> None:
    copy = path.with_suffix(".new")
    shutil.copy(path.with_stem("other"), copy)
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


FILES = ["parquet", "json"]


@pytest.fixture(scope="module")
def pack(tmp_path_factory: pytest.TempPathFactory) -> Path:
    names = [f"{file}-{change.__name__}" for file in FILES for change in CHANGES]
    return write_pack(tmp_path_factory.mktemp("changes"), ["parquet-still", *names])


@pytest.fixture(scope="module")
def server(pack: Path) -> Iterator[LiveServer]:
    with start_server(pack, pack.parent / "catalog") as live:
        yield live


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
@pytest.mark.parametrize("file", FILES)
def test_a_changed_source_is_refused_and_others_go_on(
    pack: Path, server: LiveServer, change: Callable[[Path], None], file: str
) -> None:
    dataset = f"{file}-{change.__name__}"
    before = {key: server.get(image_path(dataset, key)) for key in KEYS}
    assert [answer.status for answer in before.values()] == [200] * len(KEYS)
    change(pack.parent / f"{dataset}.{file}")
    for n, key in enumerate(KEYS):
        answer = server.get(image_path(dataset, key))
        assert (answer.status, answer.code) == (503, "source_changed")
        assert int(answer.headers["retry-after"]) > 0
        assert server.get(image_path("parquet-still", key)).body == draw_jpeg(n, 200, 200)
    assert server.get(f"/v1/datasets/{dataset}/instructions/I").status == 200
    if change is not overwrite_keeping_size_and_time:
        etag = before["K0"].headers["etag"]
        assert server.get(image_path(dataset, "K0"), if_none_match=etag).status == 503
    found = server.post("/v1/images:lookup", {"dataset": dataset, "keys": ["K2", "NO"]}).json()
    assert [item["error"]["code"] for item in found["items"]] == ["source_changed", "unknown_image"]


def test_a_source_that_is_put_back_is_served_again(pack: Path, server: LiveServer) -> None:
    path = pack.parent / "parquet-still.parquet"
    path.rename(path.with_suffix(".away"))
    assert server.get(image_path("parquet-still", "K3")).status == 503
    path.with_suffix(".away").rename(path)
    assert server.get(image_path("parquet-still", "K3")).body == draw_jpeg(3, 200, 200)


def test_a_changed_source_is_right_again_after_indexing(tmp_path: Path) -> None:
    data = write_pack(tmp_path, ["parquet-one"])
    with start_server(data, tmp_path / "catalog") as live:
        revision = live.get_json("/readyz")["revision"]
        replace(tmp_path / "parquet-one.parquet")
        assert live.get(image_path("parquet-one", "K3")).status == 503
    with start_server(data, tmp_path / "catalog") as live:
        answer = live.get(image_path("parquet-one", "K3"))
        assert answer.body == draw_jpeg(3, 200, 200)[::-1]
        assert live.get_json("/readyz")["revision"] != revision
