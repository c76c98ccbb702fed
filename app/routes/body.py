"""The JSON body of a request, read within a limit and checked by its model."""

from typing import TypeVar

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ValidationError
from starlette.requests import ClientDisconnect

from app.errors import InvalidRequestError, TooLargeError

Model = TypeVar("Model", bound=BaseModel)


async def read_json(request: Request, model: type[Model], max_bytes: int) -> Model:
    """The body as the model; raises TooLargeError, InvalidRequestError, RequestValidationError.

    pydantic parses it from the bytes: it bounds nesting and refuses text that is not Unicode,
    where Python's json, which FastAPI uses, lets both through to fail later.
    """
    body = bytearray()
    try:
        async for chunk in request.stream():
            body += chunk
            if len(body) > max_bytes:
                raise TooLargeError(
                    f"the body is larger than {max_bytes:,} bytes (setting max_body_bytes); "
                    "send less at once"
                )
    except ClientDisconnect as error:
        raise InvalidRequestError("the client hung up in the middle of the body") from error
    try:
        return model.model_validate_json(bytes(body))
    except ValidationError as error:
        raise RequestValidationError(
            [{**mistake, "loc": ("body", *mistake["loc"])} for mistake in error.errors()]
        ) from error
