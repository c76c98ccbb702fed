"""Ranges kept on disk: right or not there, within their bound, whatever processes do to them."""

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from random import Random

import pytest

from app.storage.range_cache import RangeCache
from app.storage.stamp import FileStamp

STAMP = FileStamp("s3://b/a", 10**9, 5, '"e"')
ROOT = Path(__file__).parents[1]


def data_of(offset: int, length: int) -> bytes:
    return Random(offset).randbytes(length)


def add(cache: RangeCache, offset: int, length: int = 5000, stamp: FileStamp = STAMP) -> None:
    data = bytearray(data_of(offset, length))
    cache.add(stamp, offset, [data[:7], data[7:]])


def read(
    cache: RangeCache, offset: int, length: int = 5000, stamp: FileStamp = STAMP
) -> bytes | None:
    buffer = memoryview(bytearray(length))
    found = cache.read_into(stamp, offset, [buffer[:100], buffer[100:]], wait=True)
    return bytes(buffer) if found else None


def held(folder: Path) -> int:
    """The bytes that the ranges take on disk."""
    total = 0
    for path in folder.glob("*/*"):
        with suppress(FileNotFoundError):  # another process has just pushed it out
            total += -(-path.stat().st_size // 4096) * 4096
    return total


def test_a_range_is_what_was_added(tmp_path: Path) -> None:
    cache = RangeCache(tmp_path, 1 << 20)
    assert read(cache, 0) is None
    add(cache, 0)
    assert read(cache, 0) == data_of(0, 5000)
    assert read(RangeCache(tmp_path, 1 << 20), 0) == data_of(0, 5000)
    assert read(cache, 1) is None
    assert read(cache, 0, 4999) is None


@pytest.mark.parametrize(
    "other",
    [
        FileStamp("s3://b/b", 10**9, 5, '"e"'),
        FileStamp("s3://b/a", 10**9 + 1, 5, '"e"'),
        FileStamp("s3://b/a", 10**9, 6, '"e"'),
        FileStamp("s3://b/a", 10**9, 5, '"f"'),
        FileStamp("s3://b/a", 10**9, 5, '"e"', "v"),
        FileStamp("s3://b/a", 10**9, 5),
    ],
)
def test_a_range_is_of_one_object_only(other: FileStamp, tmp_path: Path) -> None:
    cache = RangeCache(tmp_path, 1 << 20)
    add(cache, 0)
    assert read(cache, 0, stamp=other) is None


@pytest.mark.parametrize("at", [0, 2500, 5007])
def test_a_damaged_range_is_none(at: int, tmp_path: Path) -> None:
    cache = RangeCache(tmp_path, 1 << 20)
    add(cache, 0)
    (path,) = tmp_path.glob("*/*")
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)
    assert read(cache, 0) is None
    add(cache, 0)
    assert read(cache, 0) == data_of(0, 5000)


@pytest.mark.parametrize("size", [0, 7, 5000, 5007])
def test_a_range_cut_short_is_none(size: int, tmp_path: Path) -> None:
    cache = RangeCache(tmp_path, 1 << 20)
    add(cache, 0)
    (path,) = tmp_path.glob("*/*")
    os.truncate(path, size)
    assert read(cache, 0) is None
    assert list(tmp_path.glob("*/*")) == []


def test_the_least_recently_used_go_first(tmp_path: Path) -> None:
    cache = RangeCache(tmp_path, 40 * 8192)
    for offset in range(40):
        add(cache, offset)
        (path,) = [one for one in tmp_path.glob("*/*") if one.stat().st_mtime > 10**9]
        os.utime(path, (offset, offset))
    assert read(cache, 0) is not None  # and so it was used now
    add(cache, 100)
    kept = [offset for offset in range(40) if read(cache, offset) is not None]
    assert kept == [0, *range(7, 40)]  # an eighth is freed, the new one included
    assert held(tmp_path) <= 35 * 8192 + 8192


def test_it_never_holds_more_than_it_may(tmp_path: Path) -> None:
    cache = RangeCache(tmp_path, 300_000)
    random = Random(1)
    for offset in range(300):
        add(cache, offset, random.randint(100, 18_000))
        assert held(tmp_path) <= 300_000
    assert held(tmp_path) > 150_000
    add(cache, 1000, 30_000)  # over a 16th of all
    assert read(cache, 1000, 30_000) is None


def test_a_folder_that_is_deleted_is_made_again(tmp_path: Path) -> None:
    cache = RangeCache(tmp_path / "r", 1 << 20)
    add(cache, 0)
    for path in (tmp_path / "r").glob("*/*"):
        path.unlink()
    (tmp_path / "r" / "lock").unlink()
    assert read(cache, 0) is None
    add(cache, 0)
    assert read(cache, 0) is not None


def test_what_can_not_be_kept_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    cache = RangeCache(tmp_path / "file" / "r", 1 << 20)
    add(cache, 0)
    assert read(cache, 0) is None


WORK = """
import sys
from test_range_cache import Path, RangeCache, Random, add, data_of, read
cache, random = RangeCache(Path(sys.argv[1]), 400_000), Random(int(sys.argv[2]))
print("ready", flush=True)
while True:
    offset = random.randint(0, 60)
    length = 1000 + offset * 200
    found = read(cache, offset, length)
    if found not in (None, data_of(offset, length)):
        print("wrong", flush=True)
    if found is None:
        add(cache, offset, length)
"""


@pytest.mark.slow
def test_many_processes_that_are_killed(tmp_path: Path) -> None:
    """Of several that read and write at once some are killed at any moment: none reads a wrong
    byte, and there is never more than there may be."""
    random = Random(1)

    def start(seed: int) -> subprocess.Popen[str]:
        words = [sys.executable, "-c", WORK, str(tmp_path), str(seed)]
        path = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
        environment = os.environ | {"PYTHONPATH": path}
        process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True, env=environment)
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        return process

    said = ""
    running = [start(seed) for seed in range(3)]
    try:
        for seed in range(3, 9):
            time.sleep(random.uniform(0.05, 0.3))
            killed = running.pop(0)
            killed.send_signal(signal.SIGKILL)
            said += killed.communicate()[0]
            assert held(tmp_path) <= 400_000
            running.append(start(seed))
    finally:
        for process in running:
            process.kill()
            said += process.communicate()[0]
    assert said == ""
    assert held(tmp_path) > 100_000
