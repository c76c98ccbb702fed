"""Reads instructions, images and training batches from a mimicit service.

`Client` and `AsyncClient` ask for what the API has. `MimicITDataset` iterates over the batches of
an epoch; with torch installed it is an IterableDataset. `errors` says what is raised.
"""

from typing import TYPE_CHECKING, Any

from mimicit_client.answers import (
    Dataset,
    DatasetPlan,
    FoundImage,
    GroupPlan,
    Instruction,
    Plan,
)
from mimicit_client.batch import Batch
from mimicit_client.calls import BatchOptions
from mimicit_client.client import AsyncClient, Client
from mimicit_client.collate import collate
from mimicit_client.errors import (
    AmbiguousKeyError,
    AnswerError,
    ConnectionFailedError,
    ImageUnreadableError,
    InternalError,
    InvalidRequestError,
    MethodNotAllowedError,
    MimicitError,
    NotReadyError,
    OverloadedError,
    PreconditionFailedError,
    ProblemError,
    RateLimitedError,
    RevisionChangedError,
    SourceChangedError,
    SourceUnavailableError,
    StateError,
    StepOutOfRangeError,
    TooLargeError,
    UnauthorizedError,
    UnknownDatasetError,
    UnknownImageError,
    UnknownInstructionError,
    UnknownPathError,
)
from mimicit_client.retries import Retries
from mimicit_client.sample import Sample, Turn
from mimicit_client.transport import Timeouts

if TYPE_CHECKING:
    from mimicit_client.dataset import MimicITDataset

__all__ = [
    "AmbiguousKeyError",
    "AnswerError",
    "AsyncClient",
    "Batch",
    "BatchOptions",
    "Client",
    "ConnectionFailedError",
    "Dataset",
    "DatasetPlan",
    "FoundImage",
    "GroupPlan",
    "ImageUnreadableError",
    "Instruction",
    "InternalError",
    "InvalidRequestError",
    "MethodNotAllowedError",
    "MimicITDataset",
    "MimicitError",
    "NotReadyError",
    "OverloadedError",
    "Plan",
    "PreconditionFailedError",
    "ProblemError",
    "RateLimitedError",
    "Retries",
    "RevisionChangedError",
    "Sample",
    "SourceChangedError",
    "SourceUnavailableError",
    "StateError",
    "StepOutOfRangeError",
    "Timeouts",
    "TooLargeError",
    "Turn",
    "UnauthorizedError",
    "UnknownDatasetError",
    "UnknownImageError",
    "UnknownInstructionError",
    "UnknownPathError",
    "collate",
]


def __getattr__(name: str) -> Any:
    # Only now: it imports torch, if there is one, which takes seconds that a Client needs not wait.
    if name == "MimicITDataset":
        from mimicit_client.dataset import MimicITDataset

        return MimicITDataset
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
