"""What leaves the service as JSON."""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, Field


class Problem(BaseModel):
    """An error, as RFC 9457 has it (application/problem+json)."""

    type: str = Field(description="Identifies the kind of problem.")
    title: str
    status: int
    code: str = Field(description="The kind of problem, for programs: a stable name.")
    detail: str = Field(description="What is wrong, and what to do about it.")
    request_id: str | None = Field(
        None, description="The answer's `X-Request-ID`, which the service's log has too."
    )
    candidates: list[str] | None = Field(
        None, description="With `ambiguous_key`: the URLs to ask instead."
    )
    errors: list[dict[str, Any]] | None = Field(
        None, description="With `invalid_request`: what is wrong with each parameter."
    )


class Health(BaseModel):
    """That the process is up."""

    status: str = "ok"


class Reload(BaseModel):
    """The last time that the service looked at its data again, and what came of it."""

    number: int = Field(description="How many there were.")
    outcome: Literal["none", "running", "swapped", "unchanged", "failed"] = Field(
        description="`failed`: the catalog before is served still, and `message` says why."
    )
    since: float = Field(description="When that became so, in Unix time.")
    message: str = Field(description="Empty for who has no token where tokens are needed.")


class Readiness(BaseModel):
    """Whether the catalog is open, or how far its building is."""

    status: str
    revision: str | None = None
    reload: Reload | None = None
    doing: str | None = None
    done_bytes: int | None = None
    total_bytes: int | None = None


class Dataset(BaseModel):
    """A dataset of the data YAML."""

    name: str
    group: str
    task_description: str | None
    instructions: int = Field(description="Instructions in its file.")
    usable: int = Field(description="Those that can be drawn: their images exist and are readable.")
    images: int = Field(description="Images in its source.")
    num_samples: int | None = Field(description="As the data YAML says; null means all.")
    draws: int = Field(description="Samples of it in an epoch.")
    share: float = Field(description="Its part of its group's epoch, 0 to 1.")
    problems: dict[str, int] = Field(description="How many problems of each kind there are.")
    readers: dict[str, int] = Field(
        description="Image files by how they are read: in_place, whole_pages or duckdb (slow)."
    )


class Datasets(BaseModel):
    """Every dataset, in the order of the data YAML."""

    items: list[Dataset]


class Instruction(BaseModel):
    """An instruction, as its file has it."""

    dataset: str
    id: str
    instruction: str
    answer: str
    image_ids: list[str]
    rel_ins_ids: list[str]
    extra: dict[str, Any] | None = Field(description="Its other fields.")
    image_urls: list[str] = Field(description="Where its images are, in the order of image_ids.")


class RelatedInstruction(Instruction):
    """An instruction and what goes before it."""

    context: list[Instruction] | None = Field(
        None, description="The instructions that go before it, in order."
    )
    missing_context_ids: list[str] | None = Field(
        None, description="Ids among those that no instruction of the dataset has."
    )


class InstructionPage(BaseModel):
    """Some instructions, in file order."""

    items: list[Instruction]
    next: str | None = Field(description="The `after` of the next page; null on the last.")


class ImageKey(BaseModel):
    """An image of a dataset."""

    key: str
    url: str
    stored_bytes: int = Field(description="The length of its stored value: base64 is 4/3 of it.")
    problem: str | None = Field(description="Why it can not be read; null if it can.")


class ImagePage(BaseModel):
    """Some images, in key order."""

    items: list[ImageKey]
    next: str | None = Field(description="The `after` of the next page; null on the last.")


class Contribution(BaseModel):
    """What a dataset gives to its group's epoch, and what is left out of it."""

    name: str
    usable: int = Field(description="Instructions that can be drawn.")
    draws: int = Field(description="Samples of it in the epoch.")
    share: float = Field(description="Its part of the group's epoch, 0 to 1.")
    unusable: int = Field(
        description="Instructions that are never drawn: an image of theirs is missing or "
        "unreadable, or the train config does not list them."
    )
    not_drawn: int = Field(description="Usable instructions over num_samples, never drawn.")
    problems: dict[str, int] = Field(description="How many problems of each kind there are.")


class GroupPlan(BaseModel):
    """How a group's epoch falls into steps."""

    group: str
    steps: int
    samples: int = Field(description="Of an epoch: the draws of its datasets.")
    left_over: int = Field(description="Samples in no step, with drop_last.")
    datasets: list[Contribution]


class Plan(BaseModel):
    """How an epoch falls into steps: of all groups, or of the one that is asked for."""

    seed: int
    epoch: int
    batch_size: int
    world_size: int
    drop_last: bool
    steps: int
    samples: int
    left_over: int
    groups: list[GroupPlan]


def _check_text(text: str) -> str:
    text.encode()  # a lone surrogate is no text; UnicodeEncodeError is a ValueError
    return text


Text = Annotated[str, AfterValidator(_check_text)]


class Lookup(BaseModel):
    """The images to look up."""

    dataset: Text
    keys: list[Text] = Field(min_length=1)


class FoundImage(BaseModel):
    """An image that was looked up: its bytes, or why there are none."""

    key: str
    content_type: str | None = None
    base64: str | None = None
    error: Problem | None = None


class FoundImages(BaseModel):
    """The images that were looked up, in the order of the keys."""

    items: list[FoundImage]
