"""Sampling: permutations, shares and steps, and docs/sampling.md in plain integers."""

import json
import math
import re
import tracemalloc
from collections import Counter
from collections.abc import Sequence
from hashlib import blake2b
from itertools import permutations
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from app.sampling import (
    ROUNDS,
    Mixture,
    Steps,
    derive_keys,
    draw,
    find_step,
    order_rows,
    permute,
)

PAGE = (Path(__file__).parents[1] / "docs/sampling.md").read_text()
KEYS = derive_keys("dataset", 7, "LADD")[:, np.newaxis]
MASK = 2**64 - 1
HUGE = [10**10, 2**62 - 1, 2**62]


def up_to(n: int, first: int = 0) -> NDArray[np.uint64]:
    return np.arange(first, n, dtype=np.uint64)


def reference_keys(*arguments: int | str) -> list[int]:
    text = "\n".join(["mimicit-sampling-1", *map(str, arguments)]).encode()
    digest = blake2b(text).digest()
    both = digest + blake2b(digest).digest()
    return [int.from_bytes(both[at : at + 8], "little") for at in range(0, 96, 8)]


def reference_permute(v: int, n: int, keys: Sequence[int]) -> int:
    a = math.isqrt(n - 1) + 1
    a += a % 2
    while True:
        left, right = divmod(v, a)
        for key in keys:
            x = (right + key) & MASK
            x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9 & MASK
            x = (x ^ (x >> 27)) * 0x94D049BB133111EB & MASK
            left, right = right, (left + ((x >> 31) * a >> 33)) % a
        v = left * a + right
        if v < n:
            return v


def reference_draw(mixture: Mixture, seed: int, epoch: int, position: int) -> tuple[str, int, int]:
    keys = reference_keys("group", seed, epoch, mixture.group)
    place = reference_permute(position, mixture.samples, keys)
    for name, m, n in zip(mixture.names, mixture.usable, mixture.draws, strict=True):
        if place < n:
            keys = reference_keys("dataset", seed, name)
            return name, place % m, reference_permute(place % m, m, keys)
        place -= n
    raise AssertionError(position)


def reference_step(step: int, seed: int, epoch: int, counts: Sequence[int]) -> tuple[int, int]:
    keys = reference_keys("steps", seed, epoch)
    place = reference_permute(step, sum(counts), keys)
    steps = [(group, own) for group, count in enumerate(counts) for own in range(count)]
    return steps[place]


def list_draws(mixture: Mixture, seed: int, epoch: int) -> list[tuple[str, int, int]]:
    """Dataset, order and row of every position of an epoch."""
    found = draw(mixture, seed, epoch, 0, mixture.samples)
    names = [mixture.names[index] for index in found.dataset]
    return list(zip(names, found.order.tolist(), found.row.tolist(), strict=True))


def table_rows(start: str) -> list[list[str]]:
    """The cells of the table of the page whose heading begins so."""
    table = PAGE[PAGE.index(f"\n| {start} |") :].strip().split("\n\n")[0]
    rows = [[cell.strip(" `") for cell in line.split("|")[1:-1]] for line in table.splitlines()]
    assert len(rows) > 3
    return rows[2:]


# Numbers of a data YAML's size and less, so that all cases of n and m come up.
datasets = st.lists(st.tuples(st.integers(1, 40), st.integers(1, 90)), min_size=1, max_size=5)


def mix(sizes: Sequence[tuple[int, int]]) -> Mixture:
    """A mixture of datasets of so many usable rows and draws."""
    names = tuple(f"D{index}" for index in range(len(sizes)))
    return Mixture("G", names, tuple(m for m, _ in sizes), tuple(n for _, n in sizes))


# --- the permutation


def test_every_size_up_to_2000_is_permuted() -> None:
    counts = np.arange(1, 2001)
    sizes = np.repeat(counts, counts).astype(np.uint64)
    values = np.concatenate([up_to(n) for n in range(1, 2001)])
    found = permute(values, sizes, KEYS)
    # Sizes are kept apart by adding to each what the ones before it span.
    starts = np.repeat(np.cumsum(counts) - counts, counts).astype(np.uint64)
    np.testing.assert_array_equal(np.sort(found + starts), values + starts)


@pytest.mark.parametrize("n", HUGE)
def test_no_two_of_many_values_meet(n: int) -> None:
    for first in (0, n // 2, n - 100_000):
        found = permute(up_to(first + 100_000, first), n, KEYS)
        assert found.max() < n
        assert np.unique(found).size == found.size


def test_one_call_permutes_values_of_many_sizes_each_by_its_own_keys() -> None:
    generator = np.random.default_rng(1)
    sizes = generator.integers(1, 2**62, 300, np.uint64) >> generator.integers(
        0, 62, 300, np.uint64
    )
    sizes = np.maximum(sizes, 1)
    values = generator.integers(0, 2**62, 300, np.uint64) % sizes
    keys = generator.integers(0, 2**64, (ROUNDS, 300), np.uint64)
    found = permute(values, sizes, keys)
    for at in range(300):
        column = [int(key) for key in keys[:, at]]
        assert found[at] == reference_permute(int(values[at]), int(sizes[at]), column)


@settings(deadline=None)
@given(st.data(), st.integers(1, 2**62), st.integers(0, 61))
def test_a_permutation_is_what_the_page_says(data: st.DataObject, n: int, shift: int) -> None:
    n = max(1, n >> shift)
    v = data.draw(st.integers(0, n - 1))
    keys = [int(key) for key in KEYS[:, 0]]
    assert permute(np.array([v], np.uint64), n, KEYS)[0] == reference_permute(v, n, keys)


def test_the_root_is_exact_next_to_every_kind_of_square() -> None:
    roots = [2**31, 2**31 - 1, 2**31 - 2, 2**30 + 1, 3 * 2**29 + 1, 94_906_267, 2**26 + 1, 2, 1]
    sizes = [root * root + by for root in roots for by in (-1, 0, 1) if root * root + by > 0]
    sizes = [n for n in sizes if n <= 2**62]
    last = np.array([n - 1 for n in sizes], np.uint64)
    found = permute(last, np.array(sizes, np.uint64), KEYS)
    keys = [int(key) for key in KEYS[:, 0]]
    assert found.tolist() == [reference_permute(n - 1, n, keys) for n in sizes]


def critical(freedom: int) -> float:
    """What chi-square passes once in 30,000 times, by Wilson and Hilferty: 4 deviations."""
    part = 2 / (9 * freedom)
    return freedom * (1 - part + 4 * math.sqrt(part)) ** 3


def check_even(counts: NDArray[np.int64]) -> None:
    """Assert that chance could have dealt out the counts evenly."""
    expected = counts.sum() / counts.size
    assert expected >= 5
    assert ((counts - expected) ** 2 / expected).sum() < critical(counts.size - 1)


def permute_all(n: int, keys: int, seed: int) -> NDArray[np.int64]:
    """The permutations of n values of so many random keys, a row each."""
    some = np.random.default_rng(seed).integers(0, 2**64, (ROUNDS, keys), np.uint64)
    values = np.tile(up_to(n), keys)
    found = permute(values, n, np.repeat(some, n, axis=1))
    return found.reshape(keys, n).astype(np.int64)


@pytest.mark.parametrize("n", [2, 3, 4, 5])
def test_every_permutation_of_a_few_values_is_as_likely(n: int) -> None:
    found = permute_all(n, 300_000, n)
    weights = n ** np.arange(n)
    counts = np.bincount(found @ weights, minlength=n**n)
    codes = [int(np.array(one) @ weights) for one in permutations(range(n))]
    assert counts[codes].sum() == 300_000
    check_even(counts[codes])


@pytest.mark.parametrize(("n", "keys"), [(6, 100_000), (9, 100_000), (12, 80_000), (100, 4_000)])
def test_every_value_and_pair_of_neighbours_is_as_likely_over_keys(n: int, keys: int) -> None:
    found = permute_all(n, keys, n)
    for at in range(0, n, max(1, n // 12)):
        check_even(np.bincount(found[:, at], minlength=n))
    pairs = found[:, :-1] * n + found[:, 1:]
    different = ~np.eye(n, dtype=bool).ravel()
    if n <= 12:
        for at in range(n - 1):
            check_even(np.bincount(pairs[:, at], minlength=n * n)[different])
    # Pairs of one permutation exclude each other, which makes the sum smaller, never larger.
    check_even(np.bincount(pairs[:, ::2].ravel(), minlength=n * n)[different])


@pytest.mark.parametrize("n", [1_000_003, *HUGE])
@pytest.mark.parametrize("bins", [16, 17])
def test_values_and_pairs_of_neighbours_spread_evenly_in_one_permutation(n: int, bins: int) -> None:
    found = permute(up_to(200_000), n, KEYS)
    by_size = (found // (n // bins + 1)).astype(np.int64)
    by_rest = (found % bins).astype(np.int64)
    for part in (by_size, by_rest):
        check_even(np.bincount(part, minlength=bins))
        check_even(np.bincount(part[:-1:2] * bins + part[1::2], minlength=bins**2))


@pytest.mark.parametrize("n", HUGE)
def test_derived_keys_of_neighbouring_seeds_have_nothing_in_common(n: int) -> None:
    keys = np.stack([derive_keys("dataset", seed, "LADD") for seed in range(20_000)], axis=1)
    found = permute(np.zeros(20_000, np.uint64), n, keys)
    part = (found // (n // 16 + 1)).astype(np.int64)
    check_even(np.bincount(part, minlength=16))
    check_even(np.bincount(part[:-1:2] * 16 + part[1::2], minlength=256))
    check_even(np.bincount(keys.view(np.uint8).ravel(), minlength=256))


# --- keys


def test_different_arguments_have_different_keys() -> None:
    arguments: list[tuple[str, *tuple[int | str, ...]]] = [
        ("dataset", 1, "A"),
        ("dataset", 2, "A"),
        ("dataset", -1, "A"),
        ("dataset", 1, "B"),
        ("dataset", 1, "2\nA"),
        ("dataset", 12, "A"),
        ("group", 1, 2, "A"),
        ("group", 2, 1, "A"),
        ("group", 1, 2, "3\nA"),
        ("steps", 1, 2),
        ("steps", 12, 0),
    ]
    keys = {tuple(derive_keys(*one).tolist()) for one in arguments}
    assert len(keys) == len(arguments)
    assert len({word for one in keys for word in one}) == len(arguments) * ROUNDS


def test_another_seed_epoch_or_name_is_another_order() -> None:
    mixture = Mixture("G", ("A", "B"), (500, 500), (500, 300))
    base = list_draws(mixture, 1, 0)
    assert base == list_draws(mixture, 1, 0)
    assert base != list_draws(mixture, 1, 1)
    other_group = Mixture("H", ("A", "B"), (500, 500), (500, 300))
    assert base != list_draws(other_group, 1, 0)
    assert set(base) == set(list_draws(other_group, 1, 0))
    assert set(base) == set(list_draws(mixture, 1, 1))
    assert set(base) != set(list_draws(mixture, 2, 0))
    orders = up_to(500)
    assert (order_rows("A", 500, 1, orders) != order_rows("B", 500, 1, orders)).any()


# --- an epoch


@settings(deadline=None)
@given(datasets, st.integers(-3, 3), st.integers(0, 3))
def test_shares_are_exact_and_every_draw_comes_once(
    sizes: list[tuple[int, int]], seed: int, epoch: int
) -> None:
    mixture = mix(sizes)
    found = Counter(list_draws(mixture, seed, epoch))
    expected: Counter[tuple[str, int, int]] = Counter()
    for name, m, n in zip(mixture.names, mixture.usable, mixture.draws, strict=True):
        rows = order_rows(name, m, seed, up_to(m)).tolist()
        assert sorted(rows) == list(range(m))
        # Rule 2 as the design has it: each row n // m times, then the first n mod m once more.
        for order, row in enumerate(rows):
            expected[name, order, row] += n // m + (order < n % m)
    assert found == +expected
    assert found.total() == mixture.samples


@settings(deadline=None)
@given(datasets, st.integers(0, 3), st.data())
def test_a_draw_is_what_the_page_says(
    sizes: list[tuple[int, int]], seed: int, data: st.DataObject
) -> None:
    mixture = mix([(m << 30, n << 45) for m, n in sizes])
    position = data.draw(st.integers(0, mixture.samples - 1))
    found = draw(mixture, seed, 5, position, 1)
    name = mixture.names[found.dataset[0]]
    expected = reference_draw(mixture, seed, 5, position)
    assert (name, found.order[0], found.row[0]) == expected


def test_fewer_draws_than_rows_are_the_same_subset_in_every_epoch() -> None:
    mixture = Mixture("G", ("A",), (1000,), (100,))
    epochs = [{row for _, _, row in list_draws(mixture, 3, epoch)} for epoch in range(4)]
    assert epochs[0] == set(order_rows("A", 1000, 3, up_to(100)).tolist())
    assert epochs == epochs[:1] * 4


def test_datasets_without_draws_are_never_drawn() -> None:
    mixture = Mixture("G", ("A", "B", "C", "D"), (0, 3, 0, 2), (0, 3, 0, 4))
    assert Counter(name for name, _, _ in list_draws(mixture, 1, 1)) == {"B": 3, "D": 4}
    assert list_draws(Mixture("G", ("A",), (0,), (0,)), 1, 1) == []


@pytest.mark.parametrize(("first", "count"), [(0, 11), (10, 1), (-1, 1), (3, -1), (11, 0)])
def test_positions_that_an_epoch_does_not_have_are_refused(first: int, count: int) -> None:
    with pytest.raises(ValueError, match="10 positions"):
        draw(Mixture("G", ("A",), (10,), (10,)), 1, 1, first, count)


def test_ten_billion_samples_take_no_more_memory_than_ten_thousand() -> None:
    peaks = []
    for n in (10_000, 10**10):
        mixture = mix([(n // 20, n // 20)] * 20)
        draw(mixture, 1, 1, 0, 256)  # the keys of the datasets are kept from here on
        tracemalloc.start()
        draw(mixture, 1, 1, n // 2, 256)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] <= peaks[0] * 1.05 < 200_000


# --- steps


@given(st.integers(0, 500), st.integers(1, 20), st.integers(1, 9), st.booleans(), st.integers(0, 3))
def test_ranks_and_steps_share_out_an_epoch(
    samples: int, batch_size: int, world_size: int, drop_last: bool, seed: int
) -> None:
    steps = Steps(samples, batch_size, world_size, drop_last)
    spans = [steps.span(step, rank) for step in range(steps.count) for rank in range(world_size)]
    positions = [first + at for first, count in spans for at in range(count)]
    assert positions == list(range(samples - steps.left_over))
    if drop_last:
        assert {count for _, count in spans} <= {batch_size}
        assert steps.left_over < batch_size * world_size
    else:
        assert steps.left_over == 0
        assert all(0 <= count <= batch_size for _, count in spans)
        assert all(steps.span(step, 0)[1] > 0 for step in range(steps.count))
    if samples:
        mixture = Mixture("G", ("A",), (samples,), (samples,))
        drawn = [row for first, count in spans for row in draw(mixture, seed, 0, first, count).row]
        assert len(set(drawn)) == len(drawn) == samples - steps.left_over


@pytest.mark.parametrize("drop_last", [True, False])
def test_the_world_size_changes_nothing_at_the_same_global_batch(drop_last: bool) -> None:
    mixture = mix([(300, 300), (50, 170), (90, 41)])
    contents = []
    for world_size in (1, 2, 3, 8):
        steps = Steps(mixture.samples, 48 // world_size, world_size, drop_last)
        assert steps.count == (10 if drop_last else 11)
        contents.append(
            [
                [
                    pair
                    for rank in range(world_size)
                    for found in [draw(mixture, 2, 1, *steps.span(step, rank))]
                    for pair in zip(found.dataset.tolist(), found.row.tolist(), strict=True)
                ]
                for step in range(steps.count)
            ]
        )
    assert contents == contents[:1] * 4


@settings(deadline=None, max_examples=25)
@given(
    st.lists(st.integers(0, 30), min_size=1, max_size=5).filter(any),
    st.integers(0, 9),
    st.integers(0, 9),
)
def test_every_step_of_every_group_comes_once(counts: list[int], seed: int, epoch: int) -> None:
    found = [find_step(step, seed, epoch, counts) for step in range(sum(counts))]
    every = [(group, own) for group, count in enumerate(counts) for own in range(count)]
    assert sorted(found) == every
    assert found == [reference_step(step, seed, epoch, counts) for step in range(sum(counts))]


def test_steps_are_in_another_order_in_every_epoch() -> None:
    orders = [[find_step(step, 1, epoch, [40, 60]) for step in range(100)] for epoch in range(3)]
    assert all(one != other for one, other in permutations(orders, 2))


@pytest.mark.parametrize(("step", "counts"), [(-1, [3]), (3, [1, 2]), (0, [0, 0]), (0, [])])
def test_steps_that_an_epoch_does_not_have_are_refused(step: int, counts: list[int]) -> None:
    with pytest.raises(ValueError, match="is not one of"):
        find_step(step, 1, 1, counts)


# --- the test vectors of the page


def test_the_keys_of_the_page() -> None:
    for text, *cells in table_rows("kind and arguments | key 1"):
        arguments = json.loads(text)
        expected = [int(cell, 16) for cell in cells]
        keys = [int(key) for key in derive_keys(*arguments)]
        assert [keys[at] for at in (0, 7, 8, 11)] == expected
        assert keys == reference_keys(*arguments)


def test_the_permutations_of_the_page() -> None:
    for text, size, *cells in table_rows("kind and arguments | n"):
        n = int(size)
        arguments = json.loads(text)
        keys = derive_keys(*arguments)[:, np.newaxis]
        for v, cell in zip((0, 1, 2, n - 1), cells, strict=True):
            assert bool(cell) == (v < n)
            if cell:
                assert permute(np.array([v], np.uint64), n, keys)[0] == int(cell)
                assert reference_permute(v, n, reference_keys(*arguments)) == int(cell)


def test_the_draws_of_the_page() -> None:
    found = re.findall(r"(\w+)\s\(m = (\d+), n = (\d+)\)", PAGE)
    names, usable, draws = zip(*found, strict=True)
    mixture = Mixture("IMAGE_TEXT", names, tuple(map(int, usable)), tuple(map(int, draws)))
    rows = table_rows("position")
    assert len(rows) == mixture.samples
    for epoch in (0, 1):
        cells = [row[1 + epoch] for row in rows]
        expected = [reference_draw(mixture, 7, epoch, int(row[0])) for row in rows]
        assert cells == [f"{name} {order} {row}" for name, order, row in expected]
        assert expected == list_draws(mixture, 7, epoch)


def test_the_spans_of_the_page() -> None:
    rows = table_rows("step | rank 0")
    steps = Steps(16, 3, 2, drop_last=False)
    assert steps.count == len(rows)
    for step, *cells in rows:
        assert cells == ["{} {}".format(*steps.span(int(step), rank)) for rank in (0, 1)]
    assert Steps(16, 3, 2, drop_last=True).count == 2
    assert Steps(16, 3, 2, drop_last=True).left_over == 4


def test_the_steps_of_the_page() -> None:
    for step, *cells in table_rows("step | epoch 0"):
        for epoch, cell in enumerate(cells):
            assert cell == "{} {}".format(*find_step(int(step), 7, epoch, [3, 1, 4]))
            assert cell == "{} {}".format(*reference_step(int(step), 7, epoch, [3, 1, 4]))
