"""Where an iteration is, as what can be saved and loaded."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from mimicit_client.errors import StateError

VERSION = 1


@dataclass(frozen=True, slots=True)
class Order:
    """What fixes which samples each step has: a state is only good for the same."""

    revision: str
    group: str | None
    seed: int
    global_batch_size: int
    drop_last: bool


@dataclass(frozen=True, slots=True)
class Position:
    """The next step to yield.

    `worker` and `workers` are None in a state of a whole dataset, where any number of workers may
    go on from `step`; else only that worker of so many does, with every `workers`-th step.
    """

    epoch: int
    step: int
    worker: int | None = None
    workers: int | None = None


def save(order: Order, position: Position) -> dict[str, Any]:
    """A state: a flat dict of texts and numbers."""
    return {"version": VERSION, **asdict(order), **asdict(position)}


def load(state: Mapping[str, Any], order: Order) -> Position:
    """The position of a state; raises StateError, which says what differs, if it is of another."""
    if state.get("version") != VERSION:
        raise StateError(f"a state of version {state.get('version')!r}, and not {VERSION}")
    try:
        position = Position(*(state[field.name] for field in fields(Position)))
        saved = {field.name: state[field.name] for field in fields(Order)}
    except KeyError as error:
        raise StateError(f"a state without {error}") from error
    differences = [
        f"{name} {saved[name]!r} is now {value!r}"
        for name, value in asdict(order).items()
        if saved[name] != value
    ]
    if differences:
        raise StateError(
            f"the state is of another order of samples: {'; '.join(differences)}. Make the dataset "
            "as it was (global_batch_size is batch_size * world_size), or begin anew"
        )
    return position
