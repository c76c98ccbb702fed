"""Objects of a real S3 server: indexed and read as files are, and refused once they are others."""

import json
import os
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from random import Random

import msgspec
import pytest
from object_store import Folder, ObjectStore, Proxy, put_pack, set_environment
from parquet_files import table_of, write

from app.catalog.build import build_catalog, is_fresh
from app.catalog.catalog import Catalog
from app.catalog.image_file import FileFacts, index_file
from app.catalog.image_runs import RunReader, split_runs
from app.catalog.limits import BuildLimits
from app.catalog.tools import BuildTools
from app.data_yaml import load_data_yaml
from app.demo import write_demo
from app.errors import (
    DamagedFileError,
    SourceChangedError,
    SourceUnavailableError,
    UnsupportedError,
)
from app.storage import (
    FileStamp,
    LocalStorage,
    ObjectLimits,
    Objects,
    Storage,
    WouldBlockError,
    stamp_file,
)
from app.storage.object_storage import ObjectStorage

pytestmark = pytest.mark.slow

DATA = Random(1).randbytes(300_000)
LIMITS = ObjectLimits(timeout_seconds=1, retries=3, read_bytes=64 << 10)
BUILD = BuildLimits(64 << 20, 256 << 20, 1 << 30, 1, replace(LIMITS, timeout_seconds=10))


# --- one contract for files and objects ---


class Place:
    """A file or object that can be written, and what reads it."""

    def __init__(self, storage: Storage, put: Callable[[bytes | None], FileStamp | None]) -> None:
        self.storage = storage
        self._put = put

    def put(self, data: bytes) -> FileStamp:
        stamp = self._put(data)
        assert stamp is not None
        return stamp

    def delete(self) -> None:
        self._put(None)

    def read(self, stamp: FileStamp, offset: int, *lengths: int) -> bytes:
        buffers: list[bytearray | memoryview] = [bytearray(length) for length in lengths]
        self.storage.read_into(stamp, offset, buffers, wait=True)
        return b"".join(buffers)


@pytest.fixture(params=["local", "object", "cached"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    if request.param == "local":
        path = tmp_path / "a.bin"

        def put_file(data: bytes | None) -> FileStamp | None:
            path.unlink(missing_ok=True)
            if data is None:
                return None
            path.write_bytes(data)
            return stamp_file(str(path))

        return Place(LocalStorage(4), put_file)
    request.getfixturevalue("proxy")
    folder: Folder = request.getfixturevalue("folder")
    limits = replace(LIMITS, check_seconds=0)
    if request.param == "cached":
        limits = replace(limits, cache_folder=tmp_path / "ranges", cache_bytes=64 << 20)
    objects = Objects(limits)

    def put_object(data: bytes | None) -> FileStamp | None:
        if data is None:
            folder.delete("a/é b.bin")
            return None
        return objects.get_stamp(folder.put("a/é b.bin", data))

    return Place(ObjectStorage(objects), put_object)


def test_ranges_and_scattered_buffers(place: Place) -> None:
    stamp = place.put(DATA)
    random = Random(1)
    for _ in range(15):
        lengths = [random.choice([0, 1, 3, 1000, 70_000]) for _ in range(random.randint(1, 4))]
        lengths = lengths if sum(lengths) else [1]
        offset = random.randint(0, len(DATA) - sum(lengths))
        expected = DATA[offset : offset + sum(lengths)]
        assert place.read(stamp, offset, *lengths) == expected
        assert place.read(stamp, offset, *lengths) == expected
        buffer = bytearray(sum(lengths))
        held = place.storage.fetch(stamp, max(0, offset - 5), offset + len(buffer))
        held.read_into(stamp, offset, [buffer], wait=True)
        assert buffer == expected


CHANGES: list[Callable[[Place], object]] = [
    Place.delete,
    lambda place: place.put(DATA[::-1]),
    lambda place: place.put(DATA + b"more"),
    lambda place: place.put(b""),
]


@pytest.mark.parametrize("change", CHANGES, ids=["deleted", "other", "longer", "empty"])
def test_a_changed_source_is_refused(change: Callable[[Place], object], place: Place) -> None:
    stamp = place.put(DATA)
    assert place.read(stamp, 10, 20) == DATA[10:30]
    change(place)
    for offset in (10, 1000):  # one that a cache has, and one that it does not have
        with pytest.raises(SourceChangedError, match="is not the file that was indexed"):
            place.read(stamp, offset, 20)
    with pytest.raises(SourceChangedError):
        place.storage.check(stamp)
    with pytest.raises(SourceChangedError):
        place.storage.fetch(stamp, 0, 100).read_into(stamp, 5, [bytearray(5)], wait=True)


def test_a_range_past_the_end(place: Place) -> None:
    stamp = place.put(DATA)
    for offset in (len(DATA) - 5, len(DATA), len(DATA) + 100):
        with pytest.raises(SourceChangedError, match="ends too early"):
            place.read(stamp, offset, 3, 3)


# --- faults ---


def read_all(objects: Objects, stamp: FileStamp, offset: int, length: int) -> bytes:
    return b"".join(objects.read(stamp, offset, length))


@pytest.mark.parametrize("fault", ["fail", "cut_off", "stall"])
def test_a_failure_that_passes_is_not_seen(fault: str, proxy: Proxy, folder: Folder) -> None:
    objects = Objects(LIMITS)
    stamp = objects.get_stamp(folder.put("part.416.parquet", DATA))  # 416 is a status, too
    setattr(proxy.faults, fault, 2)
    assert read_all(objects, stamp, 10, 200_000) == DATA[10:200_010]
    assert getattr(proxy.faults, fault) == 0


@pytest.mark.parametrize("fault", ["fail", "cut_off", "stall"])
def test_a_failure_that_stays_is_told_after_so_many_attempts(
    fault: str, proxy: Proxy, folder: Folder
) -> None:
    objects = Objects(replace(LIMITS, timeout_seconds=0.3, retries=2))
    stamp = objects.get_stamp(folder.put("a.bin", DATA))
    setattr(proxy.faults, fault, 100)
    proxy.faults.requests.clear()
    with pytest.raises(SourceUnavailableError, match=r"a\.bin can not be read, after 3 attempts"):
        read_all(objects, stamp, 10, 1000)
    assert len(proxy.faults.requests) == 3


def test_a_slow_store_is_waited_for(proxy: Proxy, folder: Folder) -> None:
    objects = Objects(LIMITS)
    stamp = objects.get_stamp(folder.put("a.bin", DATA))
    proxy.faults.slow_seconds = 0.5
    assert read_all(objects, stamp, 10, 1000) == DATA[10:1010]


def test_no_store_at_all(monkeypatch: pytest.MonkeyPatch, store: ObjectStore) -> None:
    set_environment(monkeypatch, store.environment(port=9))  # where nobody listens
    with pytest.raises(SourceUnavailableError, match="after 2 attempts"):
        Objects(replace(LIMITS, retries=1)).get_stamp("s3://bucket/a")


def test_another_etag_is_refused(proxy: Proxy, folder: Folder) -> None:
    """Also by a store that passes over If-Match."""
    objects = Objects(LIMITS)
    stamp = objects.get_stamp(folder.put("a.bin", DATA))
    proxy.faults.wrong_etag = True
    with pytest.raises(SourceChangedError, match="ETag"):
        read_all(objects, stamp, 0, 1000)


def test_a_part_that_fails_is_put_again_alone(proxy: Proxy, folder: Folder, tmp_path: Path) -> None:
    path, address = tmp_path / "large", f"{folder.address}/large"
    path.write_bytes(DATA * 60)
    objects = Objects(replace(LIMITS, timeout_seconds=10))
    proxy.faults.fail_put = 2
    objects.put(address, path)
    asked = [one.split()[0] for one in proxy.faults.requests]
    assert asked.count("PUT") == 3 + 2  # of 8 MiB each
    assert objects.get_small(address) == path.read_bytes()
    proxy.faults.fail_put = 100
    with pytest.raises(SourceUnavailableError, match="large can not be written"):
        objects.put(address, path)
    path.unlink()
    with pytest.raises(SourceUnavailableError, match=r"large can not be written: .*No such"):
        objects.put(address, path)


# --- kept ranges ---


def test_a_kept_range_is_not_fetched_again(proxy: Proxy, folder: Folder, tmp_path: Path) -> None:
    limits = replace(LIMITS, check_seconds=10, cache_folder=tmp_path / "r", cache_bytes=64 << 20)
    now = 0.0
    objects = Objects(limits)
    storage = ObjectStorage(objects, lambda: now)
    stamp = objects.get_stamp(folder.put("a.bin", DATA))
    buffer = bytearray(1000)
    with pytest.raises(WouldBlockError):
        storage.read_into(stamp, 10, [buffer], wait=False)
    storage.read_into(stamp, 10, [buffer], wait=True)
    proxy.faults.requests.clear()
    for wait in (True, False):
        buffer[:] = bytes(1000)
        storage.read_into(stamp, 10, [buffer], wait=wait)
        assert buffer == DATA[10:1010]
    assert proxy.faults.requests == []
    now = 11.0
    with pytest.raises(WouldBlockError):
        storage.read_into(stamp, 10, [buffer], wait=False)
    storage.read_into(stamp, 10, [buffer], wait=True)
    assert [one.split()[0] for one in proxy.faults.requests] == ["HEAD"]
    storage.read_into(stamp, 10, [buffer], wait=False)
    now = 22.0
    folder.put("a.bin", DATA[::-1])
    with pytest.raises(SourceChangedError):
        storage.read_into(stamp, 10, [buffer], wait=True)


# --- lists ---


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        ("parts/part.2.parquet", ["parts/part.2.parquet"]),
        ("parts/", ["parts/part.2.parquet", "parts/part.10.parquet", "parts/x[1].parquet"]),
        ("parts", ["parts/part.2.parquet", "parts/part.10.parquet", "parts/x[1].parquet"]),
        ("parts/part.*.parquet", ["parts/part.2.parquet", "parts/part.10.parquet"]),
        ("parts/part.?.parquet", ["parts/part.2.parquet"]),
        ("parts/x[1].parquet", ["parts/x[1].parquet"]),
        ("p*", ["parts/part.2.parquet", "parts/part.10.parquet", "parts/x[1].parquet"]),
        ("**/deep.parquet", ["parts/sub/deep.parquet"]),
        ("nothing/", []),
        ("nothing", []),
    ],
)
def test_lists_are_as_those_of_files(
    key: str, expected: list[str], proxy: Proxy, folder: Folder
) -> None:
    for name in ("part.10.parquet", "part.2.parquet", "x[1].parquet", "sub/deep.parquet"):
        folder.put(f"parts/{name}", b"1")
    for name in ("_metadata.parquet", ".hidden.parquet", "part.1.parquet.crc", "notes.txt"):
        folder.put(f"parts/{name}", b"1")
    found = Objects(LIMITS).list_stamps(f"{folder.address}/{key}")
    assert [stamp.path for stamp in found] == [f"{folder.address}/{one}" for one in expected]
    for stamp in found:
        head = Objects(LIMITS).get_stamp(stamp.path)
        assert replace(head, version=None) == replace(stamp, version=None)


# --- indexing ---


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_demo(tmp_path_factory.mktemp("demo") / "demo", images=30)


def build(data: Path, folder: Path, limits: BuildLimits = BUILD) -> str:
    loaded = load_data_yaml(data, limits=limits.objects)
    return build_catalog(loaded, folder, limits, lambda _: None, wait_seconds=1).revision


def open_catalog(folder: Path) -> Catalog:
    return Catalog(
        folder,
        max_open_files=4,
        page_cache_bytes=1 << 26,
        duckdb_memory_bytes=1 << 28,
        objects=BUILD.objects,
    )


def test_the_same_catalog_as_from_files(
    demo: Path, proxy: Proxy, folder: Folder, tmp_path: Path
) -> None:
    remote = put_pack(demo, folder, tmp_path)
    assert build(remote, tmp_path / "far") == build(demo, tmp_path / "near")
    proxy.faults.requests.clear()
    assert is_fresh(load_data_yaml(remote), tmp_path / "far", BUILD)
    assert {one.split()[0] for one in proxy.faults.requests if "list-type" not in one} == {"HEAD"}
    images = 0
    far, near = open_catalog(tmp_path / "far"), open_catalog(tmp_path / "near")
    with closing(far), closing(near):
        for name, dataset in far.datasets.items():
            source, same = dataset.images, near.datasets[name].images
            if source is None or same is None:
                continue
            assert {file.reader for file in source.facts.files} == {"in_place"}
            for file in source.facts.files:
                assert file.is_compared is not file.path.endswith(".json")
            keys = [(key, place) for key, place in source.list_keys("", "", 1000)]
            values = {key: bytes(same.read(same.get_place(key), wait=True)) for key, _ in keys}
            for key, place in keys:
                assert bytes(source.read(place, wait=True)) == values[key]
                images += 1
            proxy.faults.requests.clear()
            runs = list(split_runs([(source, place) for _, place in keys], range(len(keys))))
            for run in runs:
                for (number, _), stored in zip(run, RunReader().read(run)[1], strict=True):
                    assert isinstance(stored, bytes | memoryview)
                    assert bytes(stored) == values[keys[number][0]]
            files = len(source.facts.files)
            assert files <= len(runs) < len(keys) / 2
            assert sum(one.startswith("GET") for one in proxy.faults.requests) >= len(runs)
    assert images > 50
    folder.put("json/SHAPES_instructions.json", b'{"data": {}}')
    assert not is_fresh(load_data_yaml(remote), tmp_path / "far", BUILD)


def index(address: str, folder: Path, limits: BuildLimits = BUILD) -> tuple[FileFacts, int]:
    """The facts of an indexed object, and how many bytes of it were read."""
    folder.mkdir()
    done = [0]

    def advance(count: int) -> None:
        done[0] += count

    with BuildTools(limits, folder / "spill") as tools:
        index_file(address, None, None, tools, folder, advance)
    return msgspec.json.decode((folder / "unit.json").read_bytes(), type=FileFacts), done[0]


LAYOUTS: dict[str, dict[str, object]] = {
    "one row group": {},
    "row groups": {"row_group_size": 700},
    "plain": {"compression": "none", "use_dictionary": False},
    "v2": {"data_page_version": "2.0"},
    "zstd": {"compression": "zstd"},
    "small pages": {"data_page_size": 20_000, "use_dictionary": False},
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_rows_are_compared_with_duckdb(
    layout: str, proxy: Proxy, folder: Folder, tmp_path: Path
) -> None:
    """DuckDB is given the pages of the rows alone: as many as may be fetched again, or none."""
    random = Random(1)
    values = [random.randbytes(450).hex() for _ in range(9000)]
    path = write(tmp_path / "a.parquet", table_of(values), **LAYOUTS[layout])
    address, size = folder.put("a.parquet", path), path.stat().st_size
    limits = replace(BUILD, objects=replace(BUILD.objects, read_bytes=1 << 20))
    whole, _ = index(address, tmp_path / "whole", limits)
    assert whole.is_compared
    some, done = index(
        address,
        tmp_path / "some",
        replace(limits, objects=replace(limits.objects, compare_bytes=size // 2)),
    )
    assert some.is_compared
    assert done < size * 1.6
    none, done = index(
        address,
        tmp_path / "none",
        replace(limits, objects=replace(limits.objects, compare_bytes=0)),
    )
    assert not none.is_compared
    assert done < size * 1.01
    assert whole.rows == some.rows == none.rows == 9000


def test_an_object_is_read_once(proxy: Proxy, folder: Folder, tmp_path: Path) -> None:
    random = Random(1)
    records = {
        f"I{number}": {"instruction": random.randbytes(2000).hex(), "answer": "a"}
        for number in range(1000)
    }
    size = len(text := json.dumps({"data": records}).encode())
    data = tmp_path / "data.yaml"
    data.write_text(f"TEXT_ONLY: {{A: {{mimicit_path: '{folder.put('a.json', text)}'}}}}")
    proxy.faults.requests.clear()
    build(data, tmp_path / "c")
    gets = [one for one in proxy.faults.requests if one.startswith("GET")]
    assert len(gets) == -(-size // LIMITS.read_bytes)


def test_what_duckdb_alone_can_read_is_refused(
    proxy: Proxy, folder: Folder, tmp_path: Path
) -> None:
    table = table_of([f"value {number}" for number in range(100)])
    path = tmp_path / "a.parquet"
    write(path, table, use_dictionary=False, column_encoding={"base64": "DELTA_BYTE_ARRAY"})
    with pytest.raises(UnsupportedError, match="only DuckDB can read it, because its encoding"):
        index(folder.put("a.parquet", path), tmp_path / "unit")


def test_an_object_that_changes_while_it_is_indexed(
    proxy: Proxy, folder: Folder, tmp_path: Path
) -> None:
    values = [Random(n).randbytes(3000).hex() for n in range(500)]
    address = folder.put("a.parquet", write(tmp_path / "a.parquet", table_of(values)))
    (tmp_path / "unit").mkdir()
    done = 0

    def replace_it(count: int) -> None:
        nonlocal done
        if done < 1 << 20 <= done + count:
            folder.put("a.parquet", b"another")
        done += count

    with (
        BuildTools(BUILD, tmp_path / "spill") as tools,
        pytest.raises(DamagedFileError, match="changed while it was indexed"),
    ):
        index_file(address, None, None, tools, tmp_path / "unit", replace_it)


def test_every_missing_object_is_named(proxy: Proxy, folder: Folder, tmp_path: Path) -> None:
    data = tmp_path / "data.yaml"
    paths = f"{{mimicit_path: '{folder.address}/a.json', images_path: '{folder.address}/i/'}}"
    data.write_text(f"IMAGE_TEXT:\n  A: {paths}\n")
    with pytest.raises(Exception, match="2 mistakes") as caught:
        load_data_yaml(data)
    assert f"mimicit_path has no usable object: {folder.address}/a.json is missing" in str(
        caught.value
    )
    assert "images_path has no usable object: name one, a folder" in str(caught.value)


def test_nothing_of_the_environment_is_shown(
    proxy: Proxy, folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong-secret")
    folder.put("a.bin", DATA)
    for ask in (Objects.get_stamp, Objects.list_stamps):
        proxy.faults.requests.clear()
        with pytest.raises(
            SourceUnavailableError, match="credentials of the environment"
        ) as caught:
            ask(Objects(LIMITS), f"{folder.address}/a.bin")
        assert "\n" not in str(caught.value)
        assert os.environ["AWS_SECRET_ACCESS_KEY"] not in str(caught.value)
        assert len(proxy.faults.requests) == 1  # it is not asked again
