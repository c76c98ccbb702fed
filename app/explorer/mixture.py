"""The mixture as bars: what part of an epoch each group is, and each dataset of its group."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from app.catalog.dataset import Dataset

# Told apart by colour; what is smaller shares one. It is also what a legend has room for.
_SLICES = 8
_LEAST = 0.005  # 5 pixels of a wide screen
_WHOLE = 1000.0  # the length of a bar
_TONES = (1.0, 0.7, 0.45)  # of a group's colour, for its datasets below it


@dataclass(frozen=True, slots=True)
class Slice:
    """A part of a bar, from `start` on; colour 0 is for the rest."""

    label: str
    start: float
    width: float
    share: float
    colour: int
    tone: float = 1.0


@dataclass(frozen=True, slots=True)
class GroupBar:
    """A group: the samples of its epoch, their share of all, and its datasets as slices."""

    name: str
    samples: int
    share: float
    slices: list[Slice]


@dataclass(frozen=True, slots=True)
class Mixture:
    """All groups together, as slices, and below each the slices of its datasets."""

    samples: int
    groups: list[GroupBar]
    group_slices: list[Slice]
    dataset_slices: list[Slice]


def make_mixture(datasets: Iterable[Dataset]) -> Mixture:
    """The mixture of those datasets, by their draws."""
    draws: dict[str, dict[str, int]] = {}
    for dataset in datasets:
        draws.setdefault(dataset.group, {})[dataset.name] = dataset.draws
    counts = {group: sum(members.values()) for group, members in draws.items()}
    total = sum(counts.values())
    groups = [
        GroupBar(group, counts[group], get_share(counts[group], total), _cut(draws[group]))
        for group in draws
    ]
    whole = _cut(counts)
    below = [
        replace(
            one,
            start=round(above.start + one.start * group.share, 3),
            width=round(one.width * group.share, 3),
            share=one.share * group.share,
            colour=above.colour,
            tone=_TONES[number % len(_TONES)],
        )
        for above, group in zip(whole, groups, strict=True)
        for number, one in enumerate(group.slices)
    ]
    return Mixture(total, groups, whole, below)


def get_share(count: int, total: int) -> float:
    """The part that `count` is of `total`; 0 of nothing."""
    return count / total if total else 0.0


def _cut(draws: Mapping[str, int]) -> list[Slice]:
    """The slices of a bar in their order, the smallest of many as one at its end."""
    total = sum(draws.values())
    own = set(draws)
    if len(draws) > _SLICES:
        largest = sorted(draws, key=lambda name: -draws[name])[: _SLICES - 1]
        own = {name for name in largest if draws[name] >= _LEAST * total}
    parts = [(name, count) for name, count in draws.items() if name in own]
    if rest := len(draws) - len(own):
        parts.append((f"{rest:,} others", total - sum(count for _, count in parts)))
    slices: list[Slice] = []
    start = 0.0
    for number, (name, count) in enumerate(parts, 1):
        share = get_share(count, total)
        colour = number if number <= len(own) else 0
        slices.append(Slice(name, round(start, 3), round(_WHOLE * share, 3), share, colour))
        start += _WHOLE * share
    return slices
