"""What the service answers as JSON, as frozen dataclasses; fields are named as in the API."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, TypeVar

from mimicit_client.errors import AnswerError, ProblemError

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Dataset:
    """A dataset of the data YAML."""

    name: str
    group: str
    task_description: str | None
    instructions: int
    usable: int
    images: int
    num_samples: int | None
    draws: int
    share: float
    problems: Mapping[str, int]
    readers: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Instruction:
    """An instruction; `context` and `missing_context_ids` are None unless asked for."""

    dataset: str
    id: str
    instruction: str
    answer: str
    image_ids: tuple[str, ...]
    rel_ins_ids: tuple[str, ...]
    extra: Mapping[str, Any] | None
    context: "tuple[Instruction, ...] | None" = None
    missing_context_ids: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class FoundImage:
    """An image that was looked up: `data` and `content_type`, or the `error` why there are none."""

    key: str
    content_type: str | None = None
    data: bytes | None = None
    error: ProblemError | None = None


@dataclass(frozen=True, slots=True)
class DatasetPlan:
    """What a dataset gives to an epoch, and what is left out of it by kind of problem."""

    name: str
    usable: int
    draws: int
    share: float
    unusable: int
    not_drawn: int
    problems: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class GroupPlan:
    """A group's part of an epoch."""

    group: str
    steps: int
    samples: int
    left_over: int
    datasets: tuple[DatasetPlan, ...]


@dataclass(frozen=True, slots=True)
class Plan:
    """How an epoch falls into steps, and the revision of the catalog that says so."""

    seed: int
    epoch: int
    batch_size: int
    world_size: int
    drop_last: bool
    steps: int
    samples: int
    left_over: int
    groups: tuple[GroupPlan, ...]
    revision: str


def make(kind: type[T], data: Mapping[str, Any], **parsed: Any) -> T:
    """A dataclass of the fields it knows; lists become tuples, and `parsed` goes before `data`.

    Raises AnswerError if one without a default is missing.
    """
    known = {field.name for field in fields(kind)}  # type: ignore[arg-type]
    values = {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in data.items()
        if name in known
    }
    try:
        return kind(**(values | parsed))
    except TypeError as error:
        raise AnswerError(f"a {kind.__name__} without what it needs: {error}") from error


def make_instruction(data: Mapping[str, Any]) -> Instruction:
    """An instruction with its context, if the answer has it."""
    context = data.get("context")
    parsed = None if context is None else tuple(map(make_instruction, context))
    return make(Instruction, data, context=parsed)


def make_plan(data: Mapping[str, Any], revision: str) -> Plan:
    """A plan with its groups and their datasets."""
    groups = tuple(
        make(GroupPlan, one, datasets=tuple(make(DatasetPlan, d) for d in one.get("datasets", ())))
        for one in data.get("groups", ())
    )
    return make(Plan, data, groups=groups, revision=revision)
