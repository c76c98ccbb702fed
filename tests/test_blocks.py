"""An object read from the front: every byte once, few blocks at a time."""

import io
import threading
from collections.abc import Iterator
from random import Random
from typing import Any

import pytest

from app.errors import DamagedFileError
from app.storage import FileStamp, ObjectLimits
from app.storage.blocks import BlockFile, Blocks

DATA = Random(1).randbytes(100_003)
STAMP = FileStamp("s3://b/a", len(DATA), 0)


class Counting:
    """Objects that count what is asked of them, and how much of it is held at once."""

    def __init__(self) -> None:
        self.limits = ObjectLimits(read_bytes=1000, read_ahead=4)
        self.asked: list[int] = []
        self._lock = threading.Lock()

    def read(self, stamp: FileStamp, offset: int, length: int) -> Iterator[memoryview]:
        with self._lock:
            self.asked.append(offset)
        yield memoryview(DATA)[offset : offset + length]


@pytest.fixture
def counting() -> Counting:
    return Counting()


@pytest.fixture
def blocks(counting: Counting) -> Iterator[Blocks]:
    objects: Any = counting
    blocks = Blocks(objects, STAMP, lambda _: None)
    yield blocks
    blocks.close()


@pytest.mark.parametrize("step", [1, 7, 999, 1000, 1001, 5000, 100_003])
def test_read_from_the_front_every_block_is_fetched_once(
    step: int, blocks: Blocks, counting: Counting
) -> None:
    found = b""
    for at in range(0, len(DATA), step):
        found += blocks.read(at, min(step, len(DATA) - at))
        assert len(blocks._held) <= 7
    assert found == DATA
    assert sorted(counting.asked) == list(range(0, len(DATA), 1000))


def test_two_columns_side_by_side(blocks: Blocks, counting: Counting) -> None:
    """As the values and the keys of a row group behind one another."""
    for at in range(0, 40_000, 100):
        assert blocks.read(at, 100) == DATA[at : at + 100]
        key = 60_000 + at // 50
        assert blocks.get(key, 2) == DATA[key : key + 2]
        assert len(blocks._held) <= 7
    assert len(counting.asked) == len(set(counting.asked))
    assert len(counting.asked) <= 40 + 4 + 1


def test_any_range(blocks: Blocks) -> None:
    random = Random(2)
    for _ in range(300):
        offset = random.randint(0, len(DATA))
        length = random.randint(0, min(4000, len(DATA) - offset))
        assert blocks.read(offset, length) == DATA[offset : offset + length]
        assert blocks.get(offset, length) == DATA[offset : offset + length]


@pytest.mark.parametrize(("offset", "length"), [(100_000, 4), (100_004, 0), (-8, 4), (0, 2**62)])
def test_behind_the_end(offset: int, length: int, blocks: Blocks, counting: Counting) -> None:
    with pytest.raises(DamagedFileError, match="ends too early"):
        blocks.get(offset, length)
    assert counting.asked == []


def test_as_a_file(blocks: Blocks) -> None:
    file = io.BufferedReader(BlockFile(blocks), 500)
    assert file.read(10) == DATA[:10]
    assert file.seek(-8, io.SEEK_END) == len(DATA) - 8
    assert file.read() == DATA[-8:]
    assert file.read() == b""
    file.seek(50)
    file.seek(5, io.SEEK_CUR)
    assert file.read(3000) == DATA[55:3055]
