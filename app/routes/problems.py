"""Errors as answers: the one table of facts and statuses, and RFC 9457's problem+json."""

from http import HTTPStatus
from typing import Any
from urllib.parse import quote

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from app import errors, schemas

_STATUSES: dict[type[errors.MimicitError], HTTPStatus] = {
    errors.UnknownDatasetError: HTTPStatus.NOT_FOUND,
    errors.UnknownInstructionError: HTTPStatus.NOT_FOUND,
    errors.UnknownImageError: HTTPStatus.NOT_FOUND,
    errors.StepOutOfRangeError: HTTPStatus.NOT_FOUND,
    errors.AmbiguousKeyError: HTTPStatus.CONFLICT,
    errors.InvalidRequestError: HTTPStatus.UNPROCESSABLE_ENTITY,
    errors.RevisionChangedError: HTTPStatus.CONFLICT,
    errors.PreconditionFailedError: HTTPStatus.PRECONDITION_FAILED,
    errors.SourceChangedError: HTTPStatus.SERVICE_UNAVAILABLE,
    errors.SourceUnavailableError: HTTPStatus.SERVICE_UNAVAILABLE,
    errors.ImageUnreadableError: HTTPStatus.UNPROCESSABLE_ENTITY,
    errors.PictureTooLargeError: HTTPStatus.UNPROCESSABLE_ENTITY,
    errors.TooLargeError: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    errors.UnauthorizedError: HTTPStatus.UNAUTHORIZED,
    errors.RateLimitedError: HTTPStatus.TOO_MANY_REQUESTS,
    errors.OverloadedError: HTTPStatus.SERVICE_UNAVAILABLE,
    errors.NotReadyError: HTTPStatus.SERVICE_UNAVAILABLE,
}
# When to ask again, in seconds: at once where load passes, later where somebody has to index.
_RETRY_AFTER: dict[type[errors.MimicitError], int] = {
    errors.OverloadedError: 1,
    errors.NotReadyError: 2,
    errors.SourceUnavailableError: 2,
    errors.SourceChangedError: 30,
}
_CODES_OF_STATUS = {404: "unknown_path", 405: "method_not_allowed"}

_PROBLEM_CONTENT = {
    "application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}
}
PROBLEM_RESPONSES: dict[int | str, dict[str, Any]] = {
    401: {
        "description": "A token is wanted, and none of this service's came.",
        "content": _PROBLEM_CONTENT,
    },
    404: {"description": "There is no such dataset, id, key or step.", "content": _PROBLEM_CONTENT},
    409: {
        "description": "`ambiguous_key`: more than one source has it. `revision_changed`: the "
        "request pins another revision.",
        "content": _PROBLEM_CONTENT,
    },
    412: {
        "description": "`precondition_failed`: `If-Match` is for other bytes.",
        "content": _PROBLEM_CONTENT,
    },
    413: {"description": "Over a limit, which the message names.", "content": _PROBLEM_CONTENT},
    422: {
        "description": "`invalid_request`, or `image_unreadable`: the value is no such picture.",
        "content": _PROBLEM_CONTENT,
    },
    429: {
        "description": "`rate_limited`: Retry-After says when to go on.",
        "content": _PROBLEM_CONTENT,
    },
    503: {
        "description": "`source_changed`, `source_unavailable`, `overloaded`, `not_ready`: "
        "Retry-After says when.",
        "content": _PROBLEM_CONTENT,
    },
}


def describe(error: errors.MimicitError) -> schemas.Problem:
    """The error as RFC 9457 has it."""
    status = _STATUSES.get(type(error), HTTPStatus.INTERNAL_SERVER_ERROR)
    return _problem(status, error.code, str(error))


def _problem(status: int, code: str, detail: str, **more: Any) -> schemas.Problem:
    return schemas.Problem(
        type=f"urn:mimicit:problem:{code}",
        title=HTTPStatus(status).phrase,
        status=status,
        code=code,
        detail=detail,
        **more,
    )


def _answer(
    request: Request, problem: schemas.Problem, headers: dict[str, str] | None = None
) -> JSONResponse:
    problem.request_id = getattr(request.state, "request_id", None)
    return JSONResponse(
        problem.model_dump(exclude_none=True),
        problem.status,
        headers,
        media_type="application/problem+json",
    )


async def answer_fact(request: Request, error: Exception) -> JSONResponse:
    """A MimicitError as its answer, which is counted if it is a refusal; others are raised."""
    if not isinstance(error, errors.MimicitError):
        raise error
    problem = describe(error)
    request.state.service.meter.count_refused(problem.code)
    if isinstance(error, errors.AmbiguousKeyError):
        rest = request.scope["raw_path"].decode("latin-1").removeprefix("/v1/")
        problem.candidates = [
            f"/v1/datasets/{quote(name, safe='')}/{rest}" for name in error.candidates
        ]
    headers = {}
    seconds = _RETRY_AFTER.get(type(error))
    if isinstance(error, errors.RateLimitedError):
        seconds = error.retry_after_seconds
    if seconds:
        headers["retry-after"] = str(seconds)
    if isinstance(error, errors.UnauthorizedError):
        given = ', error="invalid_token"' if "authorization" in request.headers else ""
        headers["www-authenticate"] = f'Bearer realm="mimicit"{given}'
    return _answer(request, problem, headers)


async def _handle_invalid(request: Request, error: Exception) -> JSONResponse:
    if not isinstance(error, RequestValidationError):
        raise error
    # What was sent is left out: it may be long, and not be text.
    mistakes = [
        {"where": ".".join(map(str, one["loc"])), "message": one["msg"]} for one in error.errors()
    ]
    detail = "; ".join(f"{one['where']}: {one['message']}" for one in mistakes[:10])
    code = errors.InvalidRequestError.code
    return _answer(request, _problem(422, code, detail, errors=mistakes[:100]))


async def _handle_http(request: Request, error: Exception) -> JSONResponse:
    if not isinstance(error, HTTPException):
        raise error
    status = error.status_code
    code = _CODES_OF_STATUS.get(status, errors.InvalidRequestError.code)
    detail = error.detail
    headers = dict(error.headers or {})
    if status == 404:
        detail = "there is no such path; /docs lists those there are"
    elif status == 405:
        detail = f"{request.method} is not a method of this path"
        allowed = headers.get("Allow", "")
        if "GET" in allowed and "HEAD" not in allowed:
            headers["Allow"] = f"{allowed}, HEAD"  # which `routes.front` makes GET
    return _answer(request, _problem(status, code, detail), headers)


async def _handle_unexpected(request: Request, error: Exception) -> JSONResponse:
    detail = "the service failed on this request; its log says how"
    return _answer(request, _problem(500, "internal_error", detail))


def add_problem_handlers(app: FastAPI) -> None:
    """Have every error of the application leave as problem+json."""
    app.add_exception_handler(errors.MimicitError, answer_fact)
    app.add_exception_handler(RequestValidationError, _handle_invalid)
    app.add_exception_handler(HTTPException, _handle_http)
    app.add_exception_handler(Exception, _handle_unexpected)
