"""A catalog put into an object store once, and served from there by others."""

import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from live_server import command, environment, image_path, run, start_server
from object_store import Folder, Proxy, put_pack
from packs import draw_jpeg, record, write_images, write_instructions

from app.catalog.build import build_catalog
from app.catalog.limits import BuildLimits
from app.catalog.manifest import load_manifest
from app.catalog.publish import fetch_catalog, publish_catalog
from app.data_yaml import load_data_yaml
from app.errors import CatalogError
from app.storage import ObjectLimits, Objects

pytestmark = pytest.mark.slow

LIMITS = BuildLimits(64 << 20, 256 << 20, 1 << 30, 1, ObjectLimits(timeout_seconds=5, retries=2))


PICTURE = draw_jpeg(1)


def write_pack(folder: Path) -> Path:
    data = folder / "data.yaml"
    data.write_text("IMAGE_TEXT: {A: {mimicit_path: a.json, images_path: a.parquet}}")
    write_instructions(folder / "a.json", {"I": record("what?", "K")})
    write_images(folder / "a.parquet", {"K": PICTURE})
    return data


def test_indexed_once_and_served_elsewhere(proxy: Proxy, folder: Folder, tmp_path: Path) -> None:
    data, address = write_pack(tmp_path), f"{folder.address}/catalogs/demo"
    ended = subprocess.run(
        command("index", data, "--catalog-dir", tmp_path / "c", "--publish", address),
        capture_output=True,
        text=True,
        timeout=60,
        env=environment(),
        cwd=Path(__file__).parents[1],
    )
    assert ended.returncode == 0, ended.stderr
    assert f"published at {address}" in ended.stderr
    (built,) = (tmp_path / "c").iterdir()
    manifest = load_manifest(built)
    assert manifest is not None
    with start_server(address, tmp_path / "replica") as server:
        found = server.get(image_path("A", "K"))
        assert (found.status, found.body) == (200, PICTURE)
        assert found.headers["x-catalog-revision"] == manifest.revision
        assert server.get("/v1/batches/0?batch_size=1").status == 200


def test_what_is_published_anew_is_taken_up_under_a_server(
    proxy: Proxy, folder: Folder, tmp_path: Path
) -> None:
    data, address = write_pack(tmp_path), folder.address
    publishing = ("index", data, "--catalog-dir", tmp_path / "c", "--publish", address)
    reloading = ("reload", "--catalog", address, "--catalog-dir", tmp_path / "replica")
    assert run(*publishing).returncode == 0
    with start_server(address, tmp_path / "replica") as server:
        before = server.get_json("/readyz")["revision"]
        told = run(*reloading)
        assert "unchanged" in told.stderr, told.stderr
        write_instructions(tmp_path / "b.json", {"J": record("what else?", "K")})
        data.write_text("IMAGE_TEXT: {A: {mimicit_path: b.json, images_path: a.parquet}}")
        assert run(*publishing).returncode == 0
        told = run(*reloading)
        assert "swapped" in told.stderr, told.stderr
        assert server.get_json("/readyz")["revision"] != before
        assert server.get("/v1/datasets/A/instructions/J").status == 200
        assert server.get("/v1/datasets/A/instructions/I").status == 404
        folder.put("catalog.json", b"{")
        told = run(*reloading)
        assert (told.returncode, "can not be read" in told.stderr) == (1, True), told.stderr
        assert server.get("/v1/datasets/A/instructions/J").status == 200
        assert server.get(image_path("A", "K")).body == PICTURE


def test_a_change_in_the_store_is_seen(proxy: Proxy, folder: Folder, tmp_path: Path) -> None:
    near = tmp_path / "near"
    near.mkdir()
    far = put_pack(write_pack(near), folder, tmp_path)
    with start_server(far, tmp_path / "c", watch_seconds=1) as server:
        before = server.get_json("/readyz")["revision"]
        write_instructions(near / "a.json", {"J": record("what else?", "K")})
        folder.put("a.json", near / "a.json")
        server.wait_for_log("swapped", seconds=30)
        assert server.get_json("/readyz")["revision"] != before
        assert server.get("/v1/datasets/A/instructions/J").status == 200


def test_what_is_there_is_not_moved_again(
    published: str, proxy: Proxy, folder: Folder, tmp_path: Path
) -> None:
    fetch(published, tmp_path / "replica")
    proxy.faults.requests.clear()
    publish(tmp_path / "c", f"{published}/")
    puts = [one for one in proxy.faults.requests if one.startswith(("PUT", "POST"))]
    assert [one.rpartition("/")[2].partition("?")[0] for one in puts] == ["catalog.json"]
    proxy.faults.requests.clear()
    fetch(published, tmp_path / "replica")
    assert [one.rpartition("/")[2] for one in proxy.faults.requests] == ["catalog.json"]
    folder.delete(unit_file(folder, "files.json"))
    publish(tmp_path / "c", published)
    fetch(published, tmp_path / "other")
    assert load_manifest(tmp_path / "other") == load_manifest(tmp_path / "c")


@pytest.fixture
def published(proxy: Proxy, folder: Folder, tmp_path: Path) -> str:
    loaded = load_data_yaml(write_pack(tmp_path))
    build_catalog(loaded, tmp_path / "c", LIMITS, lambda _: None, wait_seconds=1)
    publish(tmp_path / "c", folder.address)
    return folder.address


def publish(folder: Path, address: str) -> None:
    publish_catalog(folder, address, Objects(LIMITS.objects), lambda _: None, wait_seconds=1)


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
    return next(key for key in folder.list() if key.endswith(name))


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
    with pytest.raises(CatalogError, match=message) as refused:
        fetch(published, tmp_path / "replica")
    assert load_manifest(tmp_path / "replica") is None
    assert not list((tmp_path / "replica").rglob(".tmp-*"))
    if advised := re.search(r"delete (\S+) and publish", str(refused.value)):
        folder.delete(advised[1].removeprefix(f"{folder.address}/"))
    publish(tmp_path / "c", published)
    fetch(published, tmp_path / "replica")


@pytest.mark.parametrize("name", ["nothing", "../nothing"])
def test_an_address_without_a_catalog_is_said(
    name: str, proxy: Proxy, folder: Folder, tmp_path: Path
) -> None:
    address = f"{folder.address}/{name}"
    done = run("serve", "--catalog", address, "--port", "0", "--catalog-dir", tmp_path / "c")
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    said = "is no name of an object" if ".." in name else f"--publish {address}"
    assert said in done.stderr


def test_what_is_no_address(tmp_path: Path) -> None:
    with pytest.raises(CatalogError, match="is of no scheme that is read"):
        fetch(str(tmp_path), tmp_path / "replica")
