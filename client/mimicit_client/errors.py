"""What can go wrong for a client.

MimicitError
├── ConnectionFailedError      no answer, after every retry
├── AnswerError                an answer that is not what the API promises
├── StateError                 a saved state that is not of this dataset
└── ProblemError               the service says what is wrong: `code`, `detail`, `status`
    ├── UnknownDatasetError, UnknownInstructionError, UnknownImageError, UnknownPathError
    ├── StepOutOfRangeError
    ├── AmbiguousKeyError      more than one source has it: `candidates`
    ├── RevisionChangedError   the pinned catalog is no longer served
    ├── PreconditionFailedError  the image is not the one that was asked for
    ├── InvalidRequestError, MethodNotAllowedError, TooLargeError, UnauthorizedError
    ├── ImageUnreadableError
    ├── SourceChangedError, SourceUnavailableError, OverloadedError, NotReadyError,
    │   RateLimitedError       raised after every retry
    └── InternalError
"""

import json
from typing import Any


class MimicitError(Exception):
    """Anything that this package raises of its own."""


class ConnectionFailedError(MimicitError):
    """No URL gave a whole answer in the attempts and the time that there are."""


class AnswerError(MimicitError):
    """The answer is not what the API promises: something else may be listening there."""


class StateError(MimicitError, ValueError):
    """The saved state is of other data, or of another order of them."""


class ProblemError(MimicitError):
    """The service refused the request; `code` is stable, `detail` says what to do."""

    code: str = "error"
    status: int = 0
    candidates: tuple[str, ...] = ()

    # From the message alone too: DataLoader makes a worker's exception again that way.
    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.detail = detail


class UnknownDatasetError(ProblemError):
    """No dataset of that name is mounted."""

    code, status = "unknown_dataset", 404


class UnknownInstructionError(ProblemError):
    """No instruction has that id."""

    code, status = "unknown_instruction", 404


class UnknownImageError(ProblemError):
    """No image has that key."""

    code, status = "unknown_image", 404


class UnknownPathError(ProblemError):
    """The service has no such path: it may be of another version."""

    code, status = "unknown_path", 404


class StepOutOfRangeError(ProblemError):
    """The epoch has fewer steps."""

    code, status = "step_out_of_range", 404


class AmbiguousKeyError(ProblemError):
    """More than one source has that id or key; `candidates` are the paths to ask instead."""

    code, status = "ambiguous_key", 409


class RevisionChangedError(ProblemError):
    """The data have changed: another catalog than the pinned one is served."""

    code, status = "revision_changed", 409


class PreconditionFailedError(ProblemError):
    """The image has another ETag than the request is for."""

    code, status = "precondition_failed", 412


class InvalidRequestError(ProblemError):
    """A parameter is not of the form that the API takes."""

    code, status = "invalid_request", 422


class MethodNotAllowedError(ProblemError):
    """The path does not take that method."""

    code, status = "method_not_allowed", 405


class TooLargeError(ProblemError):
    """Over a limit of the service, which the message names."""

    code, status = "too_large", 413


class UnauthorizedError(ProblemError):
    """The token is missing or wrong."""

    code, status = "unauthorized", 401


class ImageUnreadableError(ProblemError):
    """The image is there, and can not be turned into what was asked for."""

    code, status = "image_unreadable", 422


class SourceChangedError(ProblemError):
    """A source file is no longer the one that was indexed."""

    code, status = "source_changed", 503


class SourceUnavailableError(ProblemError):
    """The object store that has the data does not answer the service."""

    code, status = "source_unavailable", 503


class OverloadedError(ProblemError):
    """The service has too much in flight."""

    code, status = "overloaded", 503


class RateLimitedError(ProblemError):
    """More requests a second than the service takes from one who asks."""

    code, status = "rate_limited", 429


class NotReadyError(ProblemError):
    """The service is still building its catalog."""

    code, status = "not_ready", 503


class InternalError(ProblemError):
    """The service failed on this request; its log says how."""

    code, status = "internal_error", 500


_BY_CODE = {kind.code: kind for kind in ProblemError.__subclasses__()}


def read_problem(status: int, body: bytes) -> ProblemError:
    """The error that an answer of that status tells of, be it problem+json or a proxy's page."""
    try:
        problem = json.loads(body)
    except ValueError:
        problem = None
    if isinstance(problem, dict) and isinstance(problem.get("code"), str):
        return make_problem(problem | {"status": status})
    text = body[:200].decode("utf-8", "replace").strip()
    return make_problem(
        {"code": f"http_{status}", "status": status, "detail": f"status {status}: {text}"}
    )


def make_problem(problem: dict[str, Any]) -> ProblemError:
    """The error of an RFC 9457 object, of the class that its code has."""
    code = str(problem["code"])
    error = _BY_CODE.get(code, ProblemError)(str(problem.get("detail") or code))
    error.code = code
    error.status = int(problem.get("status") or error.status)
    error.candidates = tuple(map(str, problem.get("candidates") or ()))
    return error
