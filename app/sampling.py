"""Sampling, version 1: which sample comes at which place of which epoch, as docs/sampling.md says.

Everything here is a function of numbers and names, and takes as long for ten billion samples as
for ten thousand.
"""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b
from itertools import accumulate
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

VERSION = 1
# At 16 values and fewer, which mix worst, a chi-square over 300,000 keys is off by 8 of its
# standard deviations after 8 rounds, and by 0.03 after 12 (docs/sampling.md).
ROUNDS = 12
# Stafford's mixer 13, of which the last shift is left out: it leaves the upper bits as they are.
_SHIFT_1, _FACTOR_1 = np.uint64(30), np.uint64(0xBF58476D1CE4E5B9)
_SHIFT_2, _FACTOR_2 = np.uint64(27), np.uint64(0x94D049BB133111EB)
# The upper 33 bits, times a side of up to 2**31, are what 64 bits hold.
_DROPPED, _KEPT = np.uint64(31), np.uint64(33)


def derive_keys(kind: str, *parts: int | str) -> NDArray[np.uint64]:
    """The round keys of the permutation of that kind and those arguments, a name only last."""
    text = "\n".join([f"mimicit-sampling-{VERSION}", kind, *map(str, parts)])
    first = blake2b(text.encode()).digest()
    return np.frombuffer(first + blake2b(first).digest(), "<u8", ROUNDS).astype(np.uint64)


def permute(
    values: NDArray[np.uint64], sizes: NDArray[np.uint64] | int, keys: NDArray[np.uint64]
) -> NDArray[np.uint64]:
    """Where each value, below its size, goes in the permutation of its size and keys.

    Values are of shape (k,), sizes (1 to 2**62) are one or (k,), keys (ROUNDS, k) or (ROUNDS, 1).
    """
    sizes = np.atleast_1d(np.asarray(sizes, np.uint64))
    # Exact: up to 2**62 the float's root, cut off, is the ceiling of the true one or 1 less.
    sides = np.sqrt(sizes.astype(np.float64)).astype(np.uint64)
    sides += sides * sides < sizes
    sides += sides & 1  # an odd side gives half of all permutations only
    found = _permute_square(values, sides, keys)
    outside = np.flatnonzero(found >= sizes)
    if outside.size:
        sizes, sides = np.broadcast_to(sizes, found.shape), np.broadcast_to(sides, found.shape)
        keys = np.broadcast_to(keys, (ROUNDS, found.size))
    while outside.size:
        found[outside] = _permute_square(found[outside], sides[outside], keys[:, outside])
        outside = outside[found[outside] >= sizes[outside]]
    return found


def _permute_square(
    values: NDArray[np.uint64], sides: NDArray[np.uint64], keys: NDArray[np.uint64]
) -> NDArray[np.uint64]:
    """Permute 0 to side**2 - 1: a Feistel network whose halves are numbers below the side."""
    left = values // sides
    right = values - left * sides
    mixed, other = np.empty_like(values), np.empty_like(values)
    for key in keys:
        np.add(right, key, out=mixed)
        np.right_shift(mixed, _SHIFT_1, out=other)
        mixed ^= other
        mixed *= _FACTOR_1
        np.right_shift(mixed, _SHIFT_2, out=other)
        mixed ^= other
        mixed *= _FACTOR_2
        mixed >>= _DROPPED
        mixed *= sides
        mixed >>= _KEPT
        # The sum modulo the side: below 0, an unsigned number is a large one.
        left += mixed
        np.subtract(left, sides, out=other)
        np.minimum(left, other, out=left)
        left, right = right, left
    left *= sides
    left += right
    return left


@dataclass(frozen=True, slots=True)
class Mixture:
    """What a group's epoch is mixed of: of each dataset, how many rows are usable and are drawn."""

    group: str
    names: tuple[str, ...]
    usable: tuple[int, ...]
    draws: tuple[int, ...]

    @property
    def samples(self) -> int:
        """The samples of an epoch."""
        return sum(self.draws)


class Draws(NamedTuple):
    """What is drawn, as parallel arrays."""

    dataset: NDArray[np.int64]  # its index in the mixture's names
    order: NDArray[np.uint64]  # the place in the order of the dataset's permutation
    row: NDArray[np.uint64]  # what is at that place: an index into the dataset's usable rows


def draw(mixture: Mixture, seed: int, epoch: int, first: int, count: int) -> Draws:
    """The draws at so many positions of the shuffled epoch; raises ValueError if it has fewer."""
    if not 0 <= first <= first + count <= mixture.samples:
        raise ValueError(f"{first} + {count} is not within {mixture.samples} positions")
    positions = np.arange(first, first + count, dtype=np.uint64)
    keys = derive_keys("group", seed, epoch, mixture.group)[:, np.newaxis]
    places = permute(positions, mixture.samples, keys)
    starts = np.array([0, *accumulate(mixture.draws)], np.uint64)
    dataset = np.searchsorted(starts[1:], places, side="right")
    usable = np.array(mixture.usable, np.uint64)[dataset]
    order = (places - starts[dataset]) % usable
    row = permute(order, usable, _dataset_keys(mixture.names, seed)[:, dataset])
    return Draws(dataset, order, row)


@lru_cache(maxsize=64)
def _dataset_keys(names: tuple[str, ...], seed: int) -> NDArray[np.uint64]:
    """The keys of each dataset's permutation, of shape (ROUNDS, datasets)."""
    return np.stack([derive_keys("dataset", seed, name) for name in names], axis=1)


def order_rows(name: str, usable: int, seed: int, orders: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The indexes into a dataset's usable rows at those places, below `usable`, of its order."""
    return permute(orders, usable, _dataset_keys((name,), seed))


@dataclass(frozen=True, slots=True)
class Steps:
    """How an epoch falls into steps, of a batch for each rank."""

    samples: int
    batch_size: int
    world_size: int
    drop_last: bool

    @property
    def count(self) -> int:
        """The number of steps."""
        whole, rest = divmod(self.samples, self.batch_size * self.world_size)
        return whole if self.drop_last or not rest else whole + 1

    @property
    def left_over(self) -> int:
        """The samples that are in no step."""
        return max(0, self.samples - self.count * self.batch_size * self.world_size)

    def span(self, step: int, rank: int) -> tuple[int, int]:
        """First position and number of samples of that rank's batch; fewer in a short last step."""
        first = min((step * self.world_size + rank) * self.batch_size, self.samples)
        return first, min(self.batch_size, self.samples - first)


def find_step(step: int, seed: int, epoch: int, counts: Sequence[int]) -> tuple[int, int]:
    """The index of the group, and which of its steps that step is, if they have so many each.

    Raises ValueError if they do not have it together.
    """
    total = sum(counts)
    if not 0 <= step < total:
        raise ValueError(f"{step} is not one of {total} steps")
    keys = derive_keys("steps", seed, epoch)[:, np.newaxis]
    place = int(permute(np.array([step], np.uint64), total, keys)[0])
    starts = [0, *accumulate(counts)]
    group = bisect_right(starts, place) - 1
    return group, place - starts[group]
