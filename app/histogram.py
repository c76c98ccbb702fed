"""Histograms: edges that suit the values, and how many values lie between them."""

import math

import msgspec
import numpy as np
from numpy.typing import NDArray

_MAX_UNIT_BINS = 24  # whole numbers this close together have a bin each
_LINEAR_BINS = 20
_LINEAR_RATIO = 20  # of the greatest value to the least: beyond it equal bins leave one full
_FINE_DECADES = 3
# Preferred numbers: ten to a decade, or three where there are many decades.
_FINE = (1.0, 1.2, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 8.0)
_COARSE = (1.0, 2.0, 5.0)


class Histogram(msgspec.Struct, frozen=True):
    """How whole numbers of at least 0 are distributed.

    Bin n holds the values from edges[n] to below edges[n + 1]; `counts` has one entry less than
    `edges`. Both are empty where there are no values.
    """

    total: int
    least: int
    median: int
    mean: float
    greatest: int
    edges: list[int]
    counts: list[int]


def make_histogram(values: NDArray[np.int64], counts: NDArray[np.int64]) -> Histogram:
    """The histogram of `values`, which are in order and each there `counts` times."""
    if not len(values):
        return Histogram(0, 0, 0, 0.0, 0, [], [])
    total = int(counts.sum())
    least, greatest = int(values[0]), int(values[-1])
    upto = np.cumsum(counts)
    median = int(values[np.searchsorted(upto, (total + 1) // 2)])
    mean = float(np.dot(values.astype(np.float64), counts) / total)
    edges = choose_edges(least, greatest)
    bins = np.searchsorted(edges, values, side="right") - 1
    in_bins = np.zeros(len(edges) - 1, np.int64)
    np.add.at(in_bins, bins, counts)
    return Histogram(total, least, median, round(mean, 3), greatest, edges, in_bins.tolist())


def choose_edges(least: int, greatest: int) -> list[int]:
    """Edges of bins that hold least to greatest: a bin a number, equal ones, or by ratio if the
    values are far apart, where equal ones would put nearly all into the first."""
    if greatest - least < _MAX_UNIT_BINS:
        return list(range(least, greatest + 2))
    if greatest <= _LINEAR_RATIO * least:
        step = _nice_step((greatest - least) / _LINEAR_BINS)
        return list(range(least // step * step, greatest + step + 1, step))
    first = max(least, 1)
    decades = range(int(math.log10(first)), int(math.log10(greatest)) + 2)
    series = _FINE if len(decades) - 1 <= _FINE_DECADES else _COARSE
    edges = sorted({round(one * 10**decade) for decade in decades for one in series})
    last = next(number for number, edge in enumerate(edges) if edge > greatest)
    start = max(number for number, edge in enumerate(edges) if edge <= first)
    return [0] * (least == 0) + edges[start : last + 1]


def _nice_step(step: float) -> int:
    decade: int = 10 ** int(math.log10(max(step, 1)))
    return next(n * decade for n in (1, 2, 5, 10) if n * decade >= step)
