"""What can go wrong, as facts. Imports nothing; `app.routes.problems` maps facts to statuses.

MimicitError
├── DataYamlError            the data YAML has mistakes, all of them listed
├── SourceError              a source file can not be read as what it should be
│   ├── DamagedFileError     its bytes break the format's own rules
│   ├── UnsupportedError     a legal file that the byte-range reader does not enter
│   └── SourceUnavailableError  an object store does not answer, or refuses
├── ConvertError             what is to be converted is not what it should be, or can not be written
├── CatalogError             the catalog is missing, stale or can not be built
├── WorkerDiedError          a process that did part of the work was killed
├── ClusterError             no cluster of machines can be reached
├── UnknownDatasetError, UnknownInstructionError, UnknownImageError
├── AmbiguousKeyError        more than one source has it
├── StepOutOfRangeError      the epoch has no such step
├── InvalidRequestError      the request is not of the form the API takes
├── RevisionChangedError     the request pins another catalog revision
├── PreconditionFailedError  the request is for other bytes than there are
├── SourceChangedError       a source is no longer what the catalog was built from
├── ImageUnreadableError     the value is there, a picture can not be made of it
│   └── PictureTooLargeError it has more pixels than are decoded
├── TooLargeError            over a limit, which the message names
├── OverloadedError          too much in flight
├── UnauthorizedError        no token came with the request, or none of the service's
├── RateLimitedError         too many requests a second of one who asks
└── NotReadyError            the catalog is not open yet
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar


class MimicitError(Exception):
    """A fact that stops the work, with a message that says what to do about it."""

    code: ClassVar[str] = "error"


@dataclass(frozen=True, slots=True)
class Mistake:
    """One mistake of a data YAML: where it is, what it is, and what to write instead."""

    line: int
    group: str | None
    dataset: str | None
    message: str

    def __str__(self) -> str:
        where = "/".join(part for part in (self.group, self.dataset) if part)
        return f"line {self.line}: {where + ': ' if where else ''}{self.message}"


class DataYamlError(MimicitError):
    """The data YAML has mistakes; `mistakes` lists every one of them, in line order."""

    code = "data_yaml"

    def __init__(self, path: str, mistakes: Sequence[Mistake]) -> None:
        self.path = path
        self.mistakes = tuple(mistakes)
        count = f"{len(mistakes)} mistake{'s' if len(mistakes) != 1 else ''}"
        super().__init__("\n".join([f"{path}: {count}", *(f"  {m}" for m in mistakes)]))


class SourceError(MimicitError):
    """A source file can not be read as what the data YAML says it is."""

    code = "source"


class DamagedFileError(SourceError):
    """A file's bytes break the rules of its own format."""


class UnsupportedError(SourceError):
    """A legal file whose values the byte-range reader does not enter; DuckDB reads it."""


class SourceUnavailableError(SourceError):
    """An object store does not answer, or refuses the credentials it is asked with."""

    code = "source_unavailable"


class ConvertError(MimicitError):
    """What is to be converted is not what it should be, or its output can not be written."""

    code = "convert"


class CatalogError(MimicitError):
    """The catalog is missing, stale, in use by another builder, or can not be written."""

    code = "catalog"


class WorkerDiedError(MimicitError):
    """A process that did part of the work was killed, or was never ready for it."""

    code = "worker_died"


class ClusterError(MimicitError):
    """The cluster that the work was to be done on can not be reached or used."""

    code = "cluster"


class UnknownDatasetError(MimicitError):
    """No dataset of that name is mounted."""

    code = "unknown_dataset"


class UnknownInstructionError(MimicitError):
    """No instruction has that id."""

    code = "unknown_instruction"


class UnknownImageError(MimicitError):
    """No image has that key."""

    code = "unknown_image"


class AmbiguousKeyError(MimicitError):
    """More than one source has that id or key; `candidates` are the datasets to ask instead."""

    code = "ambiguous_key"

    def __init__(self, message: str, candidates: Sequence[str]) -> None:
        super().__init__(message)
        self.candidates = tuple(candidates)


class StepOutOfRangeError(MimicitError):
    """The epoch has no such step, or shard."""

    code = "step_out_of_range"


class InvalidRequestError(MimicitError):
    """The request is not of the form the API takes."""

    code = "invalid_request"


class RevisionChangedError(MimicitError):
    """The request pins a catalog revision that is not the one being served."""

    code = "revision_changed"


class PreconditionFailedError(MimicitError):
    """The request is for bytes of another ETag (RFC 9110, 13.1.1)."""

    code = "precondition_failed"


class SourceChangedError(MimicitError):
    """A source file is no longer the one the catalog was built from."""

    code = "source_changed"


class ImageUnreadableError(MimicitError):
    """The key exists, but its value can not be turned into what was asked for."""

    code = "image_unreadable"


class PictureTooLargeError(ImageUnreadableError):
    """The picture has more pixels than are decoded."""


class TooLargeError(MimicitError):
    """The request or its answer is over a limit, which the message names."""

    code = "too_large"


class OverloadedError(MimicitError):
    """More work is in flight than the service takes on; try again after a moment."""

    code = "overloaded"


class UnauthorizedError(MimicitError):
    """No token came with the request, or one that is not the service's."""

    code = "unauthorized"


class RateLimitedError(MimicitError):
    """Whoever asks does so more often than they may; they may again after so many seconds."""

    code = "rate_limited"

    def __init__(self, message: str, retry_after_seconds: int = 1) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds


class NotReadyError(MimicitError):
    """The catalog is not open yet."""

    code = "not_ready"
