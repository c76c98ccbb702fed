"""Properties of the parts that read Parquet: they are right, and survive any bytes."""

import time
from concurrent.futures import ThreadPoolExecutor
from random import Random
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.errors import DamagedFileError, UnsupportedError
from app.parquet import thrift
from app.parquet.body import Body
from app.parquet.codecs import decompress_page, has_length
from app.parquet.encodings import decode_hybrid
from app.parquet.pages import CODECS, Layout, Page, PageHeader, list_pages, pack_page, unpack_page
from app.parquet.reader import PageCache
from app.parquet.snappy import FRAGMENT_BYTES, LITERAL_TAG, decompress, encode_varint, walk
from app.storage import FileStamp

SNAPPY = pa.Codec("snappy")
settings.register_profile("parts", deadline=None, max_examples=60)
settings.load_profile("parts")


# Snappy


def structured(seed: int, length: int) -> bytes:
    """Bytes as columns of pictures have them: runs, repeats of what was before, and noise."""
    random = Random(seed)
    data = bytearray()
    while len(data) < length:
        kind = random.randrange(4)
        if kind == 0:
            data += random.randbytes(random.choice([1, 50, 5000, 100_000]))
        elif kind == 1:
            data += bytes([random.randrange(256)]) * random.choice([3, 64, 70_000])
        elif kind == 2 and data:
            start = random.randrange(len(data))
            data += data[start : start + random.choice([4, 60, 20_000])]
        else:
            data += b"".join(b"%d," % number for number in range(random.randrange(2000)))
    return bytes(data[:length])


def walk_all(stream: bytes, length: int, before: bytes = b"") -> tuple[bytes, list[int]]:
    """What the stream stands for, and its seek points; `before` lies in front of it in the file."""
    file = before + stream + b"behind"
    seeks: list[int] = []

    def read(offset: int, count: int) -> bytes:
        assert len(before) <= offset <= offset + count <= len(before) + len(stream)
        return file[offset : offset + count]

    windows = list(walk(read, len(before), len(stream), length, seeks.append))
    assert all(0 < len(window) <= 1 << 20 for window in windows)
    assert all(window.format == "B" for window in windows)
    return b"".join(windows), seeks


LENGTHS = [
    1,
    5,
    65535,
    65536,
    65537,
    131072,
    200_000,
    (1 << 20) - 1,
    1 << 20,
    (1 << 20) + 1,
    2_500_000,
]


@pytest.mark.parametrize("length", LENGTHS)
@given(seed=st.integers(0, 1 << 30), before=st.integers(0, 5))
@settings(max_examples=8)
def test_any_run_of_fragments_can_be_entered(length: int, seed: int, before: int) -> None:
    data = structured(seed, length)
    stream = bytes(SNAPPY.compress(data))
    found, seeks = walk_all(stream, length, bytes(before))
    assert found == data
    fragments = -(-length // FRAGMENT_BYTES)
    assert len(seeks) == fragments
    file = bytes(before) + stream
    ends = [seek >> 1 for seek in seeks[1:]] + [len(file)]
    random = Random(seed)
    for _ in range(20):
        first = random.randrange(fragments)
        last = random.randrange(first, fragments)
        expected = data[first * FRAGMENT_BYTES : (last + 1) * FRAGMENT_BYTES]
        code = file[seeks[first] >> 1 : ends[last]]
        assert bytes(decompress(code, len(expected))) == expected
    for number, seek in enumerate(seeks):
        if seek & 1:
            at = seek >> 1
            assert file[at : at + 3] == LITERAL_TAG
            literal = file[at + 3 : at + 3 + FRAGMENT_BYTES]
            assert literal == data[number * FRAGMENT_BYTES :][:FRAGMENT_BYTES]


def test_noise_is_literals_and_text_is_not() -> None:
    noise = Random(1).randbytes(FRAGMENT_BYTES * 3 + 100)
    _, seeks = walk_all(bytes(SNAPPY.compress(noise)), len(noise))
    assert [seek & 1 for seek in seeks] == [1, 1, 1, 0]
    _, seeks = walk_all(bytes(SNAPPY.compress(bytes(200_000))), 200_000)
    assert {seek & 1 for seek in seeks} == {0}


def literal(data: bytes) -> bytes:
    return b"\xf8" + (len(data) - 1).to_bytes(3, "little") + data


def copy(back: int, length: int) -> bytes:
    return bytes([(length - 1) << 2 | 2]) + back.to_bytes(2, "little")


@pytest.mark.parametrize(
    "code",
    [
        literal(bytes(65536)) + copy(10, 60),
        literal(bytes(65536)) + literal(b"abc") + copy(4, 57),
        literal(bytes(65530)) + copy(10, 60) + literal(b"123456"),
        literal(bytes(65596)),
        literal(bytes(65536 * 16 - 1)) + literal(bytes(61)),
        literal(bytes(65536)) + b"\x0d\x01" * 8 + literal(bytes(4)),
        literal(bytes(65536)) + (b"\xef" + (65000).to_bytes(4, "little")),
    ],
    ids=["copy", "copy past a literal", "copy across", "literal across", "run", "near", "far"],
)
def test_streams_that_cross_a_boundary_are_not_entered(code: bytes) -> None:
    """They are legal: Snappy reads them."""
    for length in range(60_000, 1_100_000):
        if length in (65596, 65536 * 16 + 60):
            stream = encode_varint(length) + code
            try:
                assert len(SNAPPY.decompress(stream, length)) == length
            except OSError:
                continue
            with pytest.raises(UnsupportedError):
                walk_all(stream, length)
            return
    raise AssertionError("the stream is none")


def test_a_stream_of_the_longest_code() -> None:
    """One-byte literals whose lengths take four bytes: six bytes of code for every byte."""
    data = Random(2).randbytes(FRAGMENT_BYTES * 2 + 10)
    stream = encode_varint(len(data)) + b"".join(b"\xfc\0\0\0\0%c" % byte for byte in data)
    found, seeks = walk_all(stream, len(data))
    assert found == data
    assert len(seeks) == 3


@given(st.binary(max_size=300), st.integers(0, 300))
@settings(max_examples=300)
def test_any_bytes_as_a_stream(data: bytes, length: int) -> None:
    for stream in (data, encode_varint(length) + data):
        try:
            found, _ = walk_all(stream, length)
        except (DamagedFileError, UnsupportedError):
            continue
        assert found == (bytes(SNAPPY.decompress(stream, length)) if length else b"")


@given(st.integers(0, 1 << 30), st.integers(1, 200_000))
def test_damaged_streams(seed: int, length: int) -> None:
    """A stream cut short is refused; one with other bytes is, or gives what Snappy gives."""
    random = Random(seed)
    data = structured(seed, length)
    stream = bytearray(SNAPPY.compress(data))
    with pytest.raises(DamagedFileError):
        walk_all(bytes(stream[: random.randrange(len(stream))]), length)
    for wrong in (length - 1, length + 1, length + FRAGMENT_BYTES):
        if wrong:
            with pytest.raises(DamagedFileError):
                walk_all(bytes(stream), wrong)
    for _ in range(5):
        stream[random.randrange(len(stream))] ^= random.randint(1, 255)
    try:
        found, _ = walk_all(bytes(stream), length)
    except (DamagedFileError, UnsupportedError):
        return
    assert found == bytes(SNAPPY.decompress(bytes(stream), length))


# Codecs


@pytest.mark.parametrize("codec", CODECS)
@given(data=st.binary(max_size=400) | st.integers(1, 5000).map(bytes))
@settings(max_examples=30)
def test_pages_decode_whole(codec: str, data: bytes) -> None:
    stored = data if codec == "uncompressed" else bytes(pa.Codec(codec).compress(data))
    found = decompress_page(codec, stored, len(data))
    assert (bytes(found), found.format) == (data, "B")
    assert has_length(codec, stored, len(data))
    if not data:
        return
    if len(data) > 1:
        with pytest.raises(DamagedFileError):
            decompress_page(codec, stored, len(data) - 1)
    try:
        decompress_page(codec, stored, len(data) + 1)
    except DamagedFileError:
        return
    assert not has_length(codec, stored, len(data) + 1)


# Thrift


def encode_zigzag(number: int) -> bytes:
    return encode_varint(number << 1 if number >= 0 else (-number << 1) - 1)


Kind = tuple[int, Any]  # a type of the compact protocol and a value of it


def encode_value(kind: int, value: Any) -> bytes:
    if kind in (1, 2):  # of a list: a byte of its own
        return b"\x01" if value else b"\x02"
    if kind == 3:
        return bytes([value])
    if kind in (4, 5, 6):
        return encode_zigzag(value)
    if kind == 7:
        return bytes(value)
    if kind == 8:
        return encode_varint(len(value)) + bytes(value)
    if kind in (9, 10):
        of, items = value
        size = len(items)
        head = bytes([size << 4 | of]) if size < 15 else bytes([0xF0 | of]) + encode_varint(size)
        return head + b"".join(encode_value(of, item) for item in items)
    return encode_struct(value)


def encode_struct(fields: dict[int, Kind]) -> bytes:
    out, last = b"", 0
    for number, (kind, value) in fields.items():
        kind = kind if kind not in (1, 2) else 1 if value else 2
        step = number - last
        out += bytes([step << 4 | kind]) if 0 < step < 16 else bytes([kind]) + encode_zigzag(number)
        out += b"" if kind in (1, 2) else encode_value(kind, value)
        last = number
    return out + b"\0"


def plain_of(kind: int, value: Any) -> Any:
    if kind in (9, 10):
        return [plain_of(value[0], item) for item in value[1]]
    if kind == 12:
        return {number: plain_of(*field) for number, field in value.items()}
    return value


def kinds(inner: st.SearchStrategy[Kind]) -> st.SearchStrategy[Kind]:
    numbers = st.integers(-(2**63), 2**63 - 1)
    lists = st.one_of(
        st.tuples(st.just(6), st.lists(numbers, max_size=40)),
        st.tuples(st.just(8), st.lists(st.binary(max_size=9), max_size=20)),
        st.tuples(st.just(1), st.lists(st.booleans(), max_size=20)),
        st.tuples(
            st.just(12),
            st.lists(st.dictionaries(st.integers(1, 99), inner, max_size=2), max_size=3),
        ),
    )
    return st.one_of(
        st.tuples(st.sampled_from([9, 10]), lists),
        st.tuples(st.just(12), st.dictionaries(st.integers(-5, 400), inner, max_size=4)),
    )


leaves: st.SearchStrategy[Kind] = st.one_of(
    st.tuples(st.sampled_from([1, 2]), st.booleans()),
    st.tuples(st.just(3), st.integers(0, 255)),
    st.tuples(st.sampled_from([4, 5, 6]), st.integers(-(2**63), 2**63 - 1)),
    st.tuples(st.just(7), st.binary(min_size=8, max_size=8)),
    st.tuples(st.just(8), st.binary(max_size=50)),
)
structs = st.dictionaries(
    st.integers(-(2**15), 2**15 - 1), st.recursive(leaves, kinds, max_leaves=8), max_size=5
)


@given(structs, st.binary(max_size=5))
def test_thrift_structs_are_read_back(fields: dict[int, Kind], behind: bytes) -> None:
    data = encode_struct(fields)
    assert thrift.read_struct(data + behind) == (plain_of(12, fields), len(data))
    assert thrift.read_struct(memoryview(data)) == (plain_of(12, fields), len(data))
    for length in range(len(data)):
        with pytest.raises(thrift.TruncatedError):
            thrift.read_struct(data[:length])


@given(
    st.binary(max_size=200)
    | st.lists(st.sampled_from([0, 9, 12, 0x19, 0x1C, 0xFC, 255])).map(bytes)
)
@settings(max_examples=400)
def test_any_bytes_as_a_struct(data: bytes) -> None:
    try:
        fields, used = thrift.read_struct(data)
    except DamagedFileError:
        return
    assert isinstance(fields, dict)
    assert 0 < used <= len(data)


@pytest.mark.parametrize(
    "data",
    [
        b"\x1c" * (1 << 20),
        b"\x19\x19" * (1 << 19),
        b"\x19\xfc" + encode_varint(1 << 62) + b"\0" * (1 << 20),
        b"\x19\xf1" + encode_varint(1 << 62) + b"\x01" * (1 << 20),
        b"\x1b" + encode_varint(1 << 62) + b"\x33" + b"\x01" * (1 << 20),
        b"\x18" + encode_varint(1 << 62) + b"x" * (1 << 20),
        b"\x15\x00" * (1 << 19),
        b"\x15" + b"\xff" * (1 << 20),
        b"\x19\xf0" + encode_varint(1 << 62) + b"\x01" * (1 << 20),
        b"\x1d" + b"\0" * (1 << 20),
    ],
    ids=["structs", "lists", "empty structs", "booleans", "map", "string", "fields", "number",
         "no type", "type 13"],
)  # fmt: skip
def test_a_megabyte_of_thrift_is_refused_in_time(data: bytes) -> None:
    started = time.process_time()
    with pytest.raises(DamagedFileError):
        thrift.read_struct(data)
    assert time.process_time() - started < 5  # it takes under one second


# Runs and bit-packing


def encode_hybrid(values: list[int], bit_width: int, random: Random) -> bytes:
    """The values in runs of both kinds, as an encoder may choose them."""
    out, at = b"", 0
    while at < len(values):
        run = 1
        while at + run < len(values) and values[at + run] == values[at]:
            run += 1
        if run >= 8 or random.random() < 0.3:
            run = random.randint(1, run)
            out += encode_varint(run << 1) + values[at].to_bytes((bit_width + 7) // 8, "little")
            at += run
        else:
            groups = random.randint(1, 9)
            packed = values[at : at + groups * 8]
            packed += [0] * (groups * 8 - len(packed))
            bits = sum(value << (number * bit_width) for number, value in enumerate(packed))
            out += encode_varint(groups << 1 | 1) + bits.to_bytes(groups * bit_width, "little")
            at += groups * 8
    return out


@pytest.mark.parametrize("bit_width", range(33))
def test_hybrid_runs_are_read_back(bit_width: int) -> None:
    for seed in range(12):
        random = Random(f"{bit_width} {seed}")
        values: list[int] = []
        for _ in range(random.randint(1, 40)):
            value = random.randrange(1 << bit_width)
            values += [value] * random.choice([1, 1, 2, 9, 200])
        data = encode_hybrid(values, bit_width, random) if bit_width else b""
        for count in (len(values), 1, len(values) // 2, 0):
            found = decode_hybrid(data, bit_width, count)
            assert found.dtype == np.uint32
            assert found.tolist() == values[:count]
        if bit_width:
            with pytest.raises(DamagedFileError):
                decode_hybrid(data[: len(data) // 2], bit_width, len(values) * 2 + 100)


def test_a_long_bit_packed_run_takes_little_memory() -> None:
    count = 1 << 20
    values = np.random.default_rng(1).integers(0, 1 << 20, count, dtype=np.uint32)
    bits = (values[:, None] >> np.arange(20, dtype=np.uint32)) & 1
    packed = np.packbits(bits.astype(np.uint8), bitorder="little").tobytes()
    data = encode_varint((count // 8) << 1 | 1) + packed
    assert np.array_equal(decode_hybrid(data, 20, count), values)


@given(st.binary(max_size=80), st.integers(-1, 34), st.integers(0, 3000))
@settings(max_examples=400)
def test_any_bytes_as_hybrid_runs(data: bytes, bit_width: int, count: int) -> None:
    try:
        found = decode_hybrid(data, bit_width, count)
    except DamagedFileError:
        return
    assert len(found) == count
    assert bit_width >= 32 or not count or int(found.max()) < 1 << bit_width


# Bodies


@given(
    st.lists(st.binary(max_size=20), max_size=8),
    st.lists(st.integers(0, 30), max_size=12),
    st.data(),
)
def test_bodies_are_taken_and_skipped(
    windows: list[bytes], counts: list[int], data: st.DataObject
) -> None:
    whole = b"".join(windows)
    length = data.draw(st.integers(max(0, len(whole) - 3), len(whole) + 3))
    body = Body(iter([memoryview(window) for window in windows]), length)
    at = 0
    for count in counts:
        is_taken = data.draw(st.booleans())
        if at + count > min(length, len(whole)):
            with pytest.raises(DamagedFileError):
                body.take(count) if is_taken else body.skip(count)
            return
        if is_taken:
            assert bytes(body.take(count)) == whole[at : at + count]
        else:
            body.skip(count)
        at += count
        assert (body.position, body.left) == (at, length - at)
    if at < length:
        with pytest.raises(UnsupportedError):
            body.finish()


# Pages


@given(
    st.integers(0, 2**32 - 1), st.sampled_from(Layout), st.sampled_from(CODECS),
    st.lists(st.integers(0, 2**64 - 1), min_size=4, max_size=4), st.integers(0, 3),
)  # fmt: skip
def test_pages_are_packed_and_unpacked(
    file: int, layout: Layout, codec: str, numbers: list[int], row: int
) -> None:
    page = Page(file, layout, codec, *numbers)
    other = Page(1, Layout.AS_IS, "zstd", 2, 3, 4, 5)
    pages = [other] * 4
    pages[row] = page
    packed = memoryview(b"".join(map(pack_page, pages)))
    assert [unpack_page(packed, number) for number in range(4)] == pages


def page_header(
    kind: int, stored: int, length: int, own: dict[int, Kind], statistics: int
) -> bytes:
    more: dict[int, Kind] = {20: (8, bytes(statistics))} if statistics else {}
    number = {0: 5, 1: 6, 2: 7, 3: 8}[kind]
    fields: dict[int, Kind] = {1: (5, kind), 2: (5, length), 3: (5, stored)}
    return encode_struct({**fields, number: (12, {**own, **more})})


@given(
    st.lists(
        st.tuples(
            st.sampled_from([0, 1, 2, 3]), st.integers(0, 500), st.integers(0, 9999),
            st.integers(0, 2**31 - 1), st.sampled_from([0, 2, 6, 7, 8]),
            st.sampled_from([0, 0, 300, 5000, 70_000]), st.none() | st.booleans(),
        ),
        max_size=6,
    ),
    st.integers(4, 50),
)  # fmt: skip
def test_pages_are_listed(
    pages: list[tuple[int, int, int, int, int, int, bool | None]], start: int
) -> None:
    file, expected = bytes(start), []
    for kind, stored, length, count, encoding, statistics, is_compressed in pages:
        levels = min(stored, length) // 2
        own: dict[int, Kind] = {1: (5, count), 2: (5, encoding)}
        if kind == 0:
            own |= {3: (5, 3), 4: (5, 3)}
        elif kind == 3:
            own = {1: (5, count), 2: (5, 0), 3: (5, count), 4: (5, encoding)}
            own |= {5: (5, levels), 6: (5, 0)}
            own |= {} if is_compressed is None else {7: (1, is_compressed)}
        file += page_header(kind, stored, length, own, statistics)
        if kind != 1:
            v2 = (levels, is_compressed is not False)
            last = v2 if kind == 3 else (None, True)
            expected.append(
                PageHeader(kind == 2, count, encoding, len(file), stored, length, *last)
            )
        file += bytes(stored)

    def read(offset: int, count: int) -> bytes:
        assert start <= offset <= offset + count <= len(file)
        return file[offset : offset + count]

    assert list(list_pages(read, start, len(file))) == expected
    if file[start:]:
        with pytest.raises(DamagedFileError):
            list(list_pages(read, start, len(file) - 1))


@given(st.binary(max_size=300))
@settings(max_examples=300)
def test_any_bytes_as_pages(data: bytes) -> None:
    try:
        for page in list_pages(lambda at, count: data[at : at + count], 0, len(data)):
            assert page.body + page.stored_bytes <= len(data)
    except (DamagedFileError, UnsupportedError):
        pass


# The cache of decoded pages

STAMP = FileStamp("a", 1, 2)


@given(st.integers(0, 100), st.lists(st.tuples(st.integers(0, 9), st.integers(0, 60)), max_size=60))
def test_a_cache_stays_within_its_bytes(max_bytes: int, added: list[tuple[int, int]]) -> None:
    cache = PageCache(max_bytes)
    pages: dict[int, memoryview] = {}
    for offset, length in added:
        page = pages.setdefault(offset, memoryview(bytes(length)))
        cache.add(STAMP, offset, page)
        held = [kept for number in range(10) if (kept := cache.get(STAMP, number)) is not None]
        assert sum(map(len, held)) <= max_bytes
        assert sum(map(len, held)) == cache._bytes
        assert (cache.get(STAMP, offset) is page) == (len(page) <= max_bytes)


def test_a_cache_forgets_the_oldest_and_tells_files_apart() -> None:
    cache = PageCache(30)
    other = FileStamp("a", 1, 3)
    pages = [memoryview(bytes([number]) * 10) for number in range(4)]
    for number, page in enumerate(pages):
        cache.add(STAMP, number, page)
    assert [cache.get(STAMP, number) for number in range(4)] == [None, *pages[1:]]
    assert cache.get(other, 1) is None


def test_a_cache_counts_right_under_threads() -> None:
    cache = PageCache(5000)

    def work(seed: int) -> None:
        random = Random(seed)
        for _ in range(3000):
            offset = random.randrange(50)
            found = cache.get(STAMP, offset)
            assert found is None or (len(found), bytes(found[:1])) == (
                100 + offset,
                bytes([offset]),
            )
            cache.add(STAMP, offset, memoryview(bytes([offset]) * (100 + offset)))

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(work, range(6)))
    held = [page for number in range(50) if (page := cache.get(STAMP, number)) is not None]
    assert sum(map(len, held)) == cache._bytes <= 5000
