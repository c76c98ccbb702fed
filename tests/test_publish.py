"""A catalog put into an object store once, and served from there by others."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from live_server import command, environment, image_path, start_server
from object_store import Folder, Proxy
from packs import draw_jpeg, record, write_images, write_instructions

from app.catalog.build import build_catalog
from app.catalog.limits import BuildLimits
from app.catalog.manifest import load_manifest
from app.catalog.publish import fetch_catalog, publish_catalog
from app.data_yaml import load_data_yaml
from app.demo import write_demo
from app.errors import CatalogError
from app.storage import ObjectLimits, Objects

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("objects")]

LIMITS = BuildLimits(64 << 20, 256 << 20, 1 << 30, 1, ObjectLimits(timeout_seconds=5, retries=2))


def index(data: Path, catalog_dir: Path, address: str) -> str:
    ended = subprocess.run(
        command("index", data, "--catalog-dir", catalog_dir, "--publish", address),
        capture_output=True,
        text=True,
        timeout=60,
        env=environment(),
        cwd=Path(__file__).parents[1],
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stderr


def test_indexed_once_and_served_elsewhere(proxy: Proxy, folder: Folder, tmp_path: Path) -> None:
    data = write_demo(tmp_path / "demo", images=12)
    address = f"{folder.address}/catalogs/demo"
    assert f"published at {address}" in index(data, tmp_path / "c", address)
    with start_server(data, tmp_path / "c") as server:
        expected = server.get(image_path("SHAPES", "SHAPES_IMG_000000"))
        batch = server.get("/v1/batches/0?batch_size=4").body
    with start_server(address, tmp_path / "replica") as server:
        found = server.get(image_path("SHAPES", "SHAPES_IMG_000000"))
        assert found.status == 200
        assert found.body == expected.body
        assert found.headers["x-catalog-revision"] == expected.headers["x-catalog-revision"]
        assert server.get("/v1/batches/0?batch_size=4").body == batch
    proxy.faults.requests.clear()
    assert f"published at {address}" in index(data, tmp_path / "c", f"{address}/")
    puts = [one for one in proxy.faults.requests if one.startswith(("PUT", "POST"))]
    assert [one.rpartition("/")[2].partition("?")[0] for one in puts] == ["catalog.json"]
    proxy.faults.requests.clear()
    with start_server(address, tmp_path / "replica"):
        assert not [one for one in proxy.faults.requests if "/units/" in one]  # all are there


@pytest.fixture
def published(proxy: Proxy, folder: Folder, tmp_path: Path) -> str:
    data = tmp_path / "data.yaml"
    data.write_text("IMAGE_TEXT: {A: {mimicit_path: a.json, images_path: a.parquet}}")
    write_instructions(tmp_path / "a.json", {"I": record("what?", "K")})
    write_images(tmp_path / "a.parquet", {"K": draw_jpeg(1)})
    build_catalog(load_data_yaml(data), tmp_path / "c", LIMITS, lambda _: None, wait_seconds=1)
    publish_catalog(
        tmp_path / "c", folder.address, Objects(LIMITS.objects), lambda _: None, wait_seconds=1
    )
    return folder.address


def fetch(address: str, folder: Path) -> None:
    fetch_catalog(address, folder, Objects(LIMITS.objects), lambda _: None, wait_seconds=1)


def test_the_manifest_is_put_last(published: str, proxy: Proxy) -> None:
    puts = [one for one in proxy.faults.requests if one.startswith("PUT")]
    names = [one.rpartition("/")[2].partition("?")[0] for one in puts]
    assert names.index("catalog.json") == len(names) - 1
    ends = [number for number, name in enumerate(names) if name == "files.json"]
    assert len(ends) == 4
    assert ends[-1] == len(names) - 2


def unit_file(folder: Folder, name: str) -> str:
    return next(key for key in folder.list() if key.endswith(name)).removeprefix(f"{folder.name}/")


DAMAGES: dict[str, tuple[Callable[[Folder], object], str]] = {
    "no catalog": (lambda f: f.delete("catalog.json"), "there is no catalog at .* --publish"),
    "no json": (lambda f: f.put("catalog.json", b"{"), "can not be read"),
    "other format": (
        lambda f: f.put("catalog.json", b'{"format": 1, "revision": "", "datasets": []}'),
        "of format 1",
    ),
    "a unit half there": (lambda f: f.delete(unit_file(f, "files.json")), "is not whole"),
    "a file is gone": (lambda f: f.delete(unit_file(f, "keys.lmdb")), "is missing"),
    "a file cut off": (lambda f: f.put(unit_file(f, "keys.lmdb"), b"ab"), "other bytes"),
    "a path": (
        lambda f: f.put(unit_file(f, "files.json"), b'{"../../x": {"size_bytes": 1, "hash": ""}}'),
        "no file of a unit",
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_one_is_refused(
    damage: str, published: str, folder: Folder, tmp_path: Path
) -> None:
    do, message = DAMAGES[damage]
    do(folder)
    with pytest.raises(CatalogError, match=message):
        fetch(published, tmp_path / "replica")
    assert load_manifest(tmp_path / "replica") is None
    assert not list((tmp_path / "replica").rglob(".tmp-*"))


def test_what_is_no_address(tmp_path: Path) -> None:
    with pytest.raises(CatalogError, match="is of no scheme that is read"):
        fetch(str(tmp_path), tmp_path / "replica")
