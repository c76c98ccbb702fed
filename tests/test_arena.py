"""Arenas: what lies in a row is taken as it is, and memory is used again once nobody has it."""

import gc

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from app.batches.arena import Arenas, Extent


@given(st.lists(st.binary(max_size=20)), st.integers(0, 100), st.booleans())
def test_joined_images_are_the_images(images: list[bytes], room: int, turned: bool) -> None:
    arena = Arenas(1, 1 << 20).open(room)
    kept = [arena.put(image) for image in images]
    if turned:
        images, kept = images[::-1], kept[::-1]
    joined, lengths = arena.join(kept)
    assert joined.to_pybytes() == b"".join(images)
    assert lengths == [len(image) for image in images]


def test_images_in_a_row_are_not_copied() -> None:
    arena = Arenas(1, 1 << 20).open(100)
    kept = [arena.put(b"x" * size) for size in (10, 20, 0, 30)]
    whole, _ = arena.join(kept)
    part, _ = arena.join(kept[1:])
    assert part.address == whole.address + 10
    assert isinstance(kept[0], Extent)
    assert arena.join(kept[::-1])[0].address not in (whole.address, part.address)


def test_memory_is_used_again_only_when_nobody_has_it() -> None:
    arenas = Arenas(2, 1 << 20)
    arena = arenas.open(1000)
    arena.put(b"first")
    joined, _ = arena.join([arena.put(b"second")])
    address = joined.address
    view = memoryview(joined)  # as a connection that still has to send it
    del arena, joined
    gc.collect()
    other = arenas.open(1000)
    kept = other.put(b"other!")
    assert bytes(view) == b"second"
    assert other.join([kept])[0].address != address
    del view
    again = arenas.open(1000)
    buffer, _ = again.join([again.put(b"12345"), again.put(b"third")])
    assert address - 5 == buffer.address
    assert isinstance(buffer, pa.Buffer)


def test_only_so_many_are_kept() -> None:
    arenas = Arenas(2, 1 << 20)
    held = [arenas.open(100) for _ in range(5)]
    del held
    gc.collect()
    assert len(arenas._free) == 2


def test_large_ones_are_not_kept() -> None:
    arenas = Arenas(2, 1000)
    held = [arenas.open(size) for size in (1025, 100)]
    del held
    gc.collect()
    assert [memory.size for memory in arenas._free] == [128]
