"""A file that is no longer the one that was indexed is refused; one that is is read right."""

import os
import resource
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from random import Random
from typing import Any

import pyarrow as pa
import pytest
from parquet_files import PNG, opened_images, read_twice, table_of, write

from app.errors import DamagedFileError, OverloadedError, SourceChangedError
from app.storage import FileStamp, LocalStorage, WouldBlockError, read_exactly, stamp_file

DATA = bytes(range(256)) * 40


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "a.bin"
    path.write_bytes(DATA)
    return path


def read(
    storage: LocalStorage, stamp: FileStamp, offset: int, *lengths: int, wait: bool = True
) -> bytes:
    buffers: list[bytearray | memoryview] = [bytearray(length) for length in lengths]
    storage.read_into(stamp, offset, buffers, wait=wait)
    return b"".join(buffers)


def touch(path: Path) -> None:
    os.utime(path, ns=(0, path.stat().st_mtime_ns + 1))


def replace(path: Path) -> None:
    other = path.with_name("other")
    other.write_bytes(DATA[::-1])
    other.replace(path)


def append(path: Path) -> None:
    with open(path, "ab") as file:
        file.write(b"more")


def shrink_and_keep_time(path: Path) -> None:
    before = path.stat().st_mtime_ns
    os.truncate(path, 100)
    os.utime(path, ns=(before, before))


def become_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


CHANGES: list[Callable[[Path], object]] = [
    touch,
    replace,
    append,
    shrink_and_keep_time,
    become_folder,
    Path.unlink,
    lambda path: os.truncate(path, 0),
    lambda path: path.rename(path.with_name("moved")),
    lambda path: path.write_bytes(b""),
]


@pytest.mark.parametrize("is_open", [True, False], ids=["open", "not open"])
@pytest.mark.parametrize("wait", [True, False])
@pytest.mark.parametrize("change", CHANGES, ids=range(len(CHANGES)))
def test_a_changed_file_is_refused(
    change: Callable[[Path], object], wait: bool, is_open: bool, path: Path
) -> None:
    storage, stamp = LocalStorage(4), stamp_file(str(path))
    if is_open:
        assert read(storage, stamp, 10, 20) == DATA[10:30]
    change(path)
    with pytest.raises(SourceChangedError, match=f"{path} is not the file that was indexed"):
        read(storage, stamp, 10, 20, wait=wait)
    with pytest.raises(SourceChangedError):
        storage.check(stamp)


def test_a_file_put_back_is_read_again(path: Path) -> None:
    storage, stamp = LocalStorage(4), stamp_file(str(path))
    stat = path.stat()
    path.rename(path.with_name("away"))
    with pytest.raises(SourceChangedError):
        read(storage, stamp, 0, 5)
    path.with_name("away").rename(path)
    assert path.stat().st_mtime_ns == stat.st_mtime_ns
    assert read(storage, stamp, 0, 5) == DATA[:5]


@pytest.mark.parametrize("wait", [True, False])
def test_ranges_and_scattered_buffers(wait: bool, path: Path) -> None:
    storage, stamp = LocalStorage(4), stamp_file(str(path))
    random = Random(1)
    for _ in range(200):
        lengths = [random.choice([0, 1, 3, 100, 1000]) for _ in range(random.randint(1, 8))]
        offset = random.randint(0, len(DATA) - sum(lengths))
        expected = DATA[offset : offset + sum(lengths)]
        assert read(storage, stamp, offset, *lengths, wait=wait) == expected


@pytest.mark.parametrize("offset", [len(DATA) - 5, len(DATA), len(DATA) + 100])
def test_a_range_past_the_end(offset: int, path: Path) -> None:
    """Only a catalog that is not of this file asks for it."""
    storage, stamp = LocalStorage(4), stamp_file(str(path))
    with pytest.raises(SourceChangedError, match="ends too early"):
        read(storage, stamp, offset, 3, 3)
    with pytest.raises(WouldBlockError):
        read(storage, stamp, offset, 3, 3, wait=False)


@pytest.mark.parametrize("most", [1, 2, 7, 64])
def test_short_reads_go_on(most: int, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel may give less than was asked for, wherever that ends."""
    real = os.preadv

    def short(fd: int, buffers: Any, offset: int, flags: int = 0) -> int:
        left, given = most, 0
        for buffer in buffers:
            part = memoryview(buffer)[:left]
            given += real(fd, [part], offset + given, flags) if len(part) else 0
            left -= len(part)
        return given

    monkeypatch.setattr(os, "preadv", short)
    storage, stamp = LocalStorage(4), stamp_file(str(path))
    for lengths in [(10,), (3, 4, 5), (0, 1, 0, 64, 3), (200, 300), (1,) * 20]:
        assert read(storage, stamp, 7, *lengths) == DATA[7 : 7 + sum(lengths)]
        if sum(lengths) > most:
            with pytest.raises(WouldBlockError):
                read(storage, stamp, 7, *lengths, wait=False)


@pytest.mark.parametrize("at_read", [1, 2])
def test_a_disk_that_fails(at_read: int, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real, reads = os.preadv, 0

    def failing(fd: int, buffers: Any, offset: int, flags: int = 0) -> int:
        nonlocal reads
        reads += 1
        if reads == at_read:
            raise OSError(5, "Input/output error")
        return real(fd, [memoryview(buffers[0])[:2]], offset, flags)

    monkeypatch.setattr(os, "preadv", failing)
    storage, stamp = LocalStorage(4), stamp_file(str(path))
    with pytest.raises(SourceChangedError, match="Input/output error"):
        read(storage, stamp, 0, 10)


def test_what_is_not_in_memory_is_not_waited_for(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cold(fd: int, buffers: Any, offset: int, flags: int = 0) -> int:
        assert flags == os.RWF_NOWAIT
        raise BlockingIOError(11, "Resource temporarily unavailable")

    storage, stamp = LocalStorage(4), stamp_file(str(path))
    with monkeypatch.context() as patched:
        patched.setattr(os, "preadv", cold)
        with pytest.raises(WouldBlockError):
            read(storage, stamp, 0, 10, wait=False)
    assert read(storage, stamp, 0, 10) == DATA[:10]
    with monkeypatch.context() as patched:
        patched.setattr("app.storage.local._NO_WAIT", None)
        with pytest.raises(WouldBlockError):
            read(storage, stamp, 0, 10, wait=False)


def count_descriptors(folder: Path) -> int:
    count = 0
    for name in os.listdir("/proc/self/fd"):
        try:
            count += os.readlink(f"/proc/self/fd/{name}").startswith(str(folder))
        except OSError:
            continue
    return count


def test_open_files_are_bounded_under_many_threads(tmp_path: Path) -> None:
    contents = [Random(number).randbytes(5000) for number in range(64)]
    stamps = []
    for number, content in enumerate(contents):
        (tmp_path / str(number)).write_bytes(content)
        stamps.append(stamp_file(str(tmp_path / str(number))))
    storage = LocalStorage(4)
    most = 0

    def work(seed: int) -> None:
        nonlocal most
        random = Random(seed)
        for turn in range(1500):
            number, offset = random.randrange(64), random.randrange(4000)
            found = read(storage, stamps[number], offset, 400, 600, wait=bool(turn % 2))
            assert found == contents[number][offset : offset + 1000]
            if turn % 100 == 0:
                most = max(most, count_descriptors(tmp_path))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))
    assert most <= 4 + 2 * 8  # a thread may hold the one it uses and the one it just opened
    assert count_descriptors(tmp_path) <= 4


def test_building_reads_exactly_what_is_there(path: Path) -> None:
    counts: list[int] = []
    with open(path, "rb") as file:
        read = read_exactly(file.fileno(), str(path), counts.append)
        assert read(5, 10) == DATA[5:15]
        assert read(len(DATA), 0) == b""
        for offset, length in [(len(DATA) - 3, 4), (len(DATA), 1), (0, 1 << 40), (1 << 63, 1)]:
            with pytest.raises(DamagedFileError, match="ends too early"):
                read(offset, length)
    assert counts == [10, 0]


@pytest.mark.parametrize("codec", ["none", "snappy"])
def test_values_of_more_fragments_than_the_kernel_scatters(codec: str, tmp_path: Path) -> None:
    """40 MB of literals are 600 fragments: over the 1,024 buffers that one preadv takes."""
    values = [PNG + Random(1).randbytes(40_000_000), PNG + Random(2).randbytes(31_000_000), b"x"]
    table = table_of(values, value_type=pa.binary())
    path = write(tmp_path / "a.parquet", table, compression=codec, use_dictionary=False)
    with opened_images([path], tmp_path) as source:
        assert source.facts.files[0].reader == "in_place"
        for number, value in enumerate(values):
            assert read_twice(source, f"IMG_{number:05}") == value


def test_no_free_descriptor_is_no_change_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"abc")
    stamp = stamp_file(str(path))
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    buffer = bytearray(3)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, limits[1]))
    try:
        with pytest.raises(OverloadedError, match="open files"):
            LocalStorage(4).read_into(stamp, 0, [buffer], wait=True)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    LocalStorage(4).read_into(stamp, 0, [buffer], wait=True)
    assert buffer == b"abc"
