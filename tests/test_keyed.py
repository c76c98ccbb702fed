"""Keys in byte order, with their records, whatever the keys are."""

from itertools import groupby
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.catalog.keyed import MAX_KEY_BYTES, KeyedFile, sort_key, write_keyed

RECORD = 5

keys = st.binary(min_size=1, max_size=12) | st.builds(
    # Around 494 bytes, where keys go in by hash, and up to what a client may ask for.
    lambda head, length, tail: (head * 1000)[:length] + tail,
    st.sampled_from([b"k", b"ab", b"\xff", b"\0"]),
    st.sampled_from([490, 493, 494, 495, 496, 510, 511, 512, 900]),
    st.binary(max_size=4),
)


def opened(folder: Path, found: list[bytes]) -> KeyedFile:
    entries = sorted((sort_key(key), key) for key in found)
    path = folder / "keys.lmdb"
    pairs = ((key, record_of(key)) for _, key in entries)
    write_keyed(path, pairs, max_entries=len(entries))
    return KeyedFile(path, RECORD)


def record_of(key: bytes) -> bytes:
    return (len(key) * 31 + sum(key)).to_bytes(RECORD, "little")


def list_pages(file: KeyedFile, limit: int, prefix: bytes) -> list[bytes]:
    """Every key, page by page, as a client reads them."""
    found: list[bytes] = []
    after = b""
    while page := list(file.list_after(after, limit, prefix)):
        assert len(page) <= limit
        assert all(record == record_of(key) for key, record in page)
        found += [key for key, _ in page]
        after = found[-1]
    return found


@settings(deadline=None, max_examples=60)
@given(st.sets(keys, max_size=30), st.integers(1, 7), keys, st.integers(0, 1000))
def test_every_key_is_found_and_paged(
    found: set[bytes], limit: int, other: bytes, cut: int
) -> None:
    with TemporaryDirectory() as folder:
        file = opened(Path(folder), list(found))
        assert len(file) == len(found)
        for key in found:
            assert file.get(key) == record_of(key)
        for absent in (other, other + b"x", b"", b"k" * 494, b"k" * 1000):
            if absent not in found:
                assert file.get(absent) is None
        in_order = sorted(found, key=sort_key)
        assert list_pages(file, limit, b"") == in_order
        for prefix in (other[:cut], *(key[:cut] for key in in_order[:5])):
            expected = [key for key in in_order if key.startswith(prefix)]
            assert list_pages(file, limit, prefix) == expected
        file.close()


def test_short_keys_are_in_byte_order(tmp_path: Path) -> None:
    words = ["b", "a", "é", "漢", "\U0001f600", "\uffff", "a\0", "A", "part.10", "part.2"]
    file = opened(tmp_path, [word.encode() for word in words])
    in_order = [key.decode() for key, _ in file.list_after(b"", 100)]
    assert in_order == sorted(words, key=str.encode)
    file.close()


def test_after_a_key_that_is_not_there(tmp_path: Path) -> None:
    file = opened(tmp_path, [b"a", b"c", b"e", b"x" * 600])
    assert [key for key, _ in file.list_after(b"b", 2)] == [b"c", b"e"]
    assert [key for key, _ in file.list_after(b"c\0", 1)] == [b"e"]
    assert [key for key, _ in file.list_after(b"f", 9)] == [b"x" * 600]
    assert list(file.list_after(b"y", 9)) == []
    assert list(file.list_after(b"c", 0)) == []
    # A prefix before `after`, around it and behind it.
    assert list(file.list_after(b"d", 9, b"a")) == []
    assert [key for key, _ in file.list_after(b"a", 9, b"c")] == [b"c"]
    assert list(file.list_after(b"c", 9, b"c")) == []
    file.close()


def test_long_keys_of_one_beginning(tmp_path: Path) -> None:
    """A thousand keys that differ only behind what the index holds of them."""
    found = [b"k" * 900 + f"{number:04}".encode() for number in range(1000)]
    file = opened(tmp_path, found)
    assert all(file.get(key) == record_of(key) for key in found)
    assert file.get(b"k" * 900 + b"1000") is None
    assert sorted(list_pages(file, 64, b"")) == found
    prefix = b"k" * 900 + b"012"
    assert sorted(list_pages(file, 3, prefix)) == found[120:130]
    assert list_pages(file, 3, b"k" * 900 + b"x") == []
    file.close()


def test_sort_keys_fit_and_are_the_keys_own() -> None:
    lengths = [1, 493, 494, 495, 511, 512, MAX_KEY_BYTES]
    found = [b"k" * length for length in lengths]
    in_index = [sort_key(key) for key in found]
    assert all(len(key) <= 511 for key in in_index)
    assert len(set(in_index)) == len(found)
    assert [key for key, group in groupby(sorted(in_index)) if len(list(group)) > 1] == []
    assert in_index[:3] == found[:3]


def test_an_empty_file(tmp_path: Path) -> None:
    file = opened(tmp_path, [])
    assert len(file) == 0
    assert file.get(b"a") is file.get(b"") is None
    assert list(file.list_after(b"", 10)) == list(file.list_after(b"a", 10, b"b")) == []
    file.close()


@pytest.mark.parametrize("count", [19_999, 20_000, 20_001, 100_000])
def test_many_keys(count: int, tmp_path: Path) -> None:
    found = [f"{number:07}".encode() for number in range(count)]
    file = opened(tmp_path, found)
    assert len(file) == count
    assert [key for key, _ in file.list_after(b"0000005", 3)] == found[6:9]
    assert [key for key, _ in file.list_after(found[-2], 10)] == found[-1:]
    assert file.get(found[-1]) == record_of(found[-1])
    file.close()
