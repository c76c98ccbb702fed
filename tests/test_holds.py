"""Catalogs beside each other in a process, and units that go when nobody has them open."""

import gc
import weakref
from pathlib import Path

from packs import draw_jpeg, record, write_images, write_instructions

from app.catalog.build import build_catalog, clean_catalog
from app.catalog.catalog import Catalog
from app.catalog.holds import Hold
from app.catalog.limits import BuildLimits
from app.catalog.manifest import Manifest
from app.data_yaml import load_data_yaml

LIMITS = BuildLimits(1 << 20, 1 << 28, 1 << 29, 1)


def write_version(folder: Path, version: int) -> Path:
    """STAYS is the same in each version, CHANGES is not."""
    write_images(folder / "stays.parquet", {"K": draw_jpeg(99)}) if not version else None
    write_images(folder / f"{version}.parquet", {"K": draw_jpeg(version)})
    write_instructions(folder / "i.json", {"I": record("q", "K")}) if not version else None
    (folder / "data.yaml").write_text(
        "IMAGE_TEXT:\n"
        f"  CHANGES: {{mimicit_path: i.json, images_path: {version}.parquet}}\n"
        "  STAYS: {mimicit_path: i.json, images_path: stays.parquet}\n"
    )
    return folder / "data.yaml"


def build(folder: Path, version: int) -> Manifest:
    data_yaml = load_data_yaml(write_version(folder, version))
    return build_catalog(data_yaml, folder / "c", LIMITS, lambda _: None, wait_seconds=0)


def list_units(folder: Path) -> set[str]:
    return {path.name for path in (folder / "c" / "units").iterdir()}


def test_units_stay_while_somebody_holds_their_manifest(tmp_path: Path) -> None:
    first = build(tmp_path, 0)
    holds = [Hold(tmp_path / "c", first), Hold(tmp_path / "c", first)]
    second = build(tmp_path, 1)
    assert first.units & second.units  # of the dataset that stays
    assert list_units(tmp_path) == first.units | second.units
    third = build(tmp_path, 2)
    assert list_units(tmp_path) == first.units | third.units
    holds.pop().close()
    assert clean_catalog(tmp_path / "c")
    assert list_units(tmp_path) == first.units | third.units
    del holds[:]  # whoever had it is gone
    assert not clean_catalog(tmp_path / "c")
    assert list_units(tmp_path) == third.units
    assert len(list((tmp_path / "c" / "holds").iterdir())) == 1


def test_what_crashed_builders_left_is_removed(tmp_path: Path) -> None:
    manifest = build(tmp_path, 0)
    (tmp_path / "c" / "units" / ".tmp-half").mkdir()
    (tmp_path / "c" / "units" / "file-of-yesterday").mkdir()
    (tmp_path / "c" / "holds" / "0123").write_bytes(b"[")
    assert not clean_catalog(tmp_path / "c")
    assert list_units(tmp_path) == manifest.units


def read(catalog: Catalog, dataset: str) -> bytes:
    source = catalog.get_dataset(dataset).images
    assert source is not None
    return bytes(source.read(source.get_place("K"), wait=True))


def test_catalogs_stand_beside_each_other_and_share_what_is_the_same(tmp_path: Path) -> None:
    manifests = [build(tmp_path, 0)]
    first = Catalog(
        tmp_path / "c", max_open_files=9, page_cache_bytes=0, duckdb_memory_bytes=1 << 28
    )
    manifests.append(build(tmp_path, 1))
    second = first.reopen(manifests[1])
    again = second.reopen(manifests[0])  # LMDB opens a file once in a process
    assert first.revision == again.revision != second.revision
    assert read(first, "CHANGES") == read(again, "CHANGES") != read(second, "CHANGES")
    assert len({id(one.get_dataset("STAYS").images) for one in (first, second, again)}) == 1
    gone = weakref.ref(second.get_dataset("CHANGES").images)
    shared = weakref.ref(second.get_dataset("STAYS").images)
    del second
    gc.collect()
    assert gone() is None
    assert shared() is not None
    before = read(first, "CHANGES")
    del first
    gc.collect()
    assert read(again, "CHANGES") == before
    assert list_units(tmp_path) == manifests[0].units | manifests[1].units
    again.close()
    assert not clean_catalog(tmp_path / "c")
    assert list_units(tmp_path) == manifests[1].units
