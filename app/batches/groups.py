"""The groups of a catalog as sampling takes them: how long an epoch is, and what is at a step."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from app.batches.options import Options
from app.batches.sample import Sample, load_samples
from app.catalog.dataset import Dataset
from app.errors import StepOutOfRangeError, TooLargeError
from app.group import Group
from app.sampling import Draws, Mixture, Steps, draw, find_step


@dataclass(frozen=True, slots=True)
class Epoch:
    """An epoch of a group, or of all of them with no group, and how it falls into steps."""

    group: Group | None
    seed: int
    number: int
    batch_size: int
    world_size: int
    drop_last: bool


class Drawn(NamedTuple):
    """What was drawn for a rank at a step: of one group, from its datasets."""

    group: Group
    datasets: list[Dataset]
    draws: Draws


class GroupSteps(NamedTuple):
    """A group, its datasets, and how its epoch falls into steps."""

    group: Group
    datasets: list[Dataset]
    steps: Steps


class Groups:
    """The groups that the data YAML has, in its order."""

    def __init__(self, datasets: Iterable[Dataset]) -> None:
        self._datasets: dict[Group, list[Dataset]] = {}
        for dataset in datasets:
            self._datasets.setdefault(dataset.group, []).append(dataset)
        self._mixtures = {
            group: Mixture(
                group,
                tuple(dataset.name for dataset in members),
                tuple(dataset.facts.usable for dataset in members),
                tuple(dataset.draws for dataset in members),
            )
            for group, members in self._datasets.items()
        }

    def list_steps(self, epoch: Epoch) -> list[GroupSteps]:
        """The steps of the epoch's group, or of every group."""
        how = (epoch.batch_size, epoch.world_size, epoch.drop_last)
        return [
            GroupSteps(group, self._datasets[group], Steps(mixture.samples, *how))
            for group, mixture in self._mixtures.items()
            if epoch.group in (None, group)
        ]

    def draw(self, epoch: Epoch, step: int, rank: int) -> Drawn:
        """What `rank` gets at `step`; raises StepOutOfRangeError."""
        groups = self.list_steps(epoch)
        counts = [one.steps.count for one in groups]
        if step >= sum(counts):
            raise StepOutOfRangeError(
                f"the epoch has {sum(counts)} steps of {epoch.batch_size} x {epoch.world_size} "
                f"samples, counted from 0; there is no step {step}"
            )
        at = 0
        if epoch.group is None:
            at, step = find_step(step, epoch.seed, epoch.number, counts)
        group, datasets, steps = groups[at]
        first, count = steps.span(step, rank)
        draws = draw(self._mixtures[group], epoch.seed, epoch.number, first, count)
        return Drawn(group, datasets, draws)


def load_drawn(drawn: Drawn, options: Options, max_bytes: int) -> tuple[list[Sample], Options]:
    """The drawn samples, and the options with what the group decides.

    Raises TooLargeError if they take over `max_bytes`, before a picture is read.
    """
    if options.context is None:
        options = replace(options, context=drawn.group == Group.IMAGE_TEXT_IN_CONTEXT)
    samples: dict[int, Sample] = {}
    taken = 0
    for number in np.unique(drawn.draws.dataset).tolist():
        dataset = drawn.datasets[number]
        places = np.flatnonzero(drawn.draws.dataset == number)
        rows = [dataset.usable[row] for row in drawn.draws.row[places].tolist()]
        orders = drawn.draws.order[places].tolist()
        # Of their texts alone first: these are read for all of them at once.
        _check_size(taken + sum(map(dataset.instructions.get_size, rows)), max_bytes)
        found = load_samples(dataset, rows, orders, options)
        for place, sample in zip(places.tolist(), found, strict=True):
            samples[place] = sample
            taken += sample.size_bytes
            _check_size(taken, max_bytes)
    return [samples[place] for place in range(len(samples))], options


def _check_size(size_bytes: int, max_bytes: int) -> None:
    if size_bytes > max_bytes:
        raise TooLargeError(
            f"the batch takes more than the {max_bytes:,} bytes of one answer (setting "
            "max_batch_bytes); ask for fewer samples, for smaller pictures, or for fewer frames"
        )
