"""The requests of the API, each written once, for whoever sends them."""

import base64
import json
from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypedDict, Unpack

from mimicit_client.answers import (
    Dataset,
    FoundImage,
    Instruction,
    Plan,
    make,
    make_instruction,
    make_plan,
)
from mimicit_client.batch import Batch
from mimicit_client.endpoints import Endpoints
from mimicit_client.errors import AnswerError, TooLargeError, make_problem
from mimicit_client.request import ARROW, JSON, Answer, Request, make_path, make_query
from mimicit_client.retries import Flow, Retries, exchange

# 256 images of 75 KB are 26 MB of base64: under the service's 64 MiB, and long enough.
_KEYS_OF_A_LOOKUP = 256


class BatchOptions(TypedDict, total=False):
    """How the samples of a batch come; what is left out is as the service has it."""

    images: Literal["original", "none"]
    """The images' own bytes (the default), or no images."""
    size: int
    """Resize to a square of that side, in pixels."""
    fit: Literal["contain", "cover"]
    """Fit the picture into the square, or fill it and crop (the default)."""
    pixels: bool
    """With size: images as uint8 pixels [size, size, 3], not as files."""
    frames: int
    """That many images of each sample, spread evenly."""
    context: bool
    """The instructions that go before; by default for IMAGE_TEXT_IN_CONTEXT only."""
    on_error: Literal["substitute", "fail"]
    """What becomes of a sample that can not be read: another one (the default), or an error."""


def check_options(options: BatchOptions) -> None:
    """Raises TypeError for an option that there is not."""
    unknown = sorted(options.keys() - BatchOptions.__annotations__.keys())
    if unknown:
        known = ", ".join(BatchOptions.__annotations__)
        raise TypeError(f"no such option: {', '.join(unknown)}; there are {known}")


class Session:
    """What all requests of a client share."""

    def __init__(self, url: str | Sequence[str], retries: Retries) -> None:
        self._endpoints = Endpoints(url)
        self._retries = retries

    def ask(self, target: str, accept: str = JSON, body: bytes | None = None) -> Flow[Answer]:
        """The answer of status 2xx; raises what `exchange` does."""
        return exchange(Request(target, accept, body), self._endpoints, self._retries)


def datasets(session: Session) -> Flow[tuple[Dataset, ...]]:
    """Every dataset, in the order of the data YAML."""
    answer = yield from session.ask(make_path("datasets"))
    return tuple(make(Dataset, item) for item in _items(answer))


def instruction(
    session: Session, id: str, dataset: str | None = None, related: bool = False
) -> Flow[Instruction]:
    """The instruction of that id, in that dataset or in whichever has it.

    With `related` also its context in order, and the ids of it that do not exist. Raises
    UnknownInstructionError, UnknownDatasetError, AmbiguousKeyError.
    """
    query = make_query({"related": related or None})
    answer = yield from session.ask(_in_dataset(dataset, "instructions", id) + query)
    return make_instruction(answer.json())


def image(session: Session, key: str, dataset: str | None = None) -> Flow[bytes]:
    """The bytes of the image of that key, in that dataset or in whichever has it.

    Raises UnknownImageError, UnknownDatasetError, AmbiguousKeyError, ImageUnreadableError.
    """
    answer = yield from session.ask(_in_dataset(dataset, "images", key), "*/*")
    data: bytes = answer.body.to_pybytes()
    return data


def images(session: Session, keys: Sequence[str], dataset: str) -> Flow[tuple[FoundImage, ...]]:
    """Those images of that dataset, in the order of the keys; a bad key has an `error`.

    Asks for as many at a time as the service answers. Raises UnknownDatasetError, and
    TooLargeError if one image alone is too large.
    """
    found: list[FoundImage] = []
    waiting = [list(keys[at : at + _KEYS_OF_A_LOOKUP]) for at in _every(len(keys))]
    waiting.reverse()
    while waiting:
        part = waiting.pop()
        body = json.dumps({"dataset": dataset, "keys": part}).encode()
        try:
            answer = yield from session.ask("/v1/images:lookup", body=body)
        except TooLargeError:
            if len(part) == 1:
                raise
            half = len(part) // 2
            waiting += [part[half:], part[:half]]
        else:
            found += map(_found_image, _items(answer))
    return tuple(found)


def plan(
    session: Session,
    *,
    batch_size: int,
    group: str | None = None,
    seed: int = 0,
    epoch: int = 0,
    world_size: int = 1,
    drop_last: bool = True,
    revision: str | None = None,
) -> Flow[Plan]:
    """How an epoch of that group, or of all, falls into steps of batch_size * world_size samples.

    Raises RevisionChangedError if another revision is served.
    """
    query = make_query(
        {
            "batch_size": batch_size,
            "seed": seed,
            "epoch": epoch,
            "world_size": world_size,
            "drop_last": drop_last,
            "revision": revision,
        }
    )
    answer = yield from session.ask(_in_group(group, "plan") + query)
    return make_plan(answer.json(), answer.headers.get("x-catalog-revision", ""))


def batch(
    session: Session,
    step: int,
    *,
    batch_size: int,
    group: str | None = None,
    seed: int = 0,
    epoch: int = 0,
    rank: int = 0,
    world_size: int = 1,
    drop_last: bool = True,
    revision: str | None = None,
    **options: Unpack[BatchOptions],
) -> Flow[Batch]:
    """The samples of that step for that rank: batch_size of them, fewer in a last step.

    Raises StepOutOfRangeError, RevisionChangedError, ImageUnreadableError, TooLargeError.
    """
    check_options(options)
    query = make_query(
        {
            "batch_size": batch_size,
            "seed": seed,
            "epoch": epoch,
            "rank": rank,
            "world_size": world_size,
            "drop_last": drop_last,
            "revision": revision,
            **options,
        }
    )
    answer = yield from session.ask(_in_group(group, "batches", str(step)) + query, ARROW)
    headers = answer.headers
    return Batch(
        answer.body,
        group=headers.get("x-batch-group", group or ""),
        epoch=epoch,
        step=step,
        revision=headers.get("x-catalog-revision", ""),
    )


def _in_dataset(dataset: str | None, *rest: str) -> str:
    return make_path(*rest) if dataset is None else make_path("datasets", dataset, *rest)


def _in_group(group: str | None, *rest: str) -> str:
    return make_path(*rest) if group is None else make_path("groups", group, *rest)


def _every(count: int) -> range:
    return range(0, count, _KEYS_OF_A_LOOKUP)


def _items(answer: Answer) -> list[dict[str, Any]]:
    items = answer.json().get("items")
    if not isinstance(items, list):
        raise AnswerError("an answer without items")
    return items


def _found_image(item: Mapping[str, Any]) -> FoundImage:
    error, text = item.get("error"), item.get("base64")
    return FoundImage(
        key=item.get("key", ""),
        content_type=item.get("content_type"),
        data=None if text is None else base64.b64decode(text),
        error=None if error is None else make_problem(error),
    )
