"""A request as its parts, and an answer as its bytes: nothing here does I/O."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode

import pyarrow as pa

from mimicit_client.errors import AnswerError

JSON = "application/json"
ARROW = "application/vnd.apache.arrow.stream"


@dataclass(frozen=True, slots=True)
class Request:
    """What is asked; `target` is the path under the service's URL and the query, encoded."""

    target: str
    accept: str = JSON
    body: bytes | None = None

    @property
    def method(self) -> str:
        return "GET" if self.body is None else "POST"

    @property
    def headers(self) -> dict[str, str]:
        sent = {"accept": self.accept}
        return sent if self.body is None else sent | {"content-type": JSON}


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back, whole; header names are lower case."""

    status: int
    headers: Mapping[str, str]
    body: pa.Buffer

    def json(self) -> dict[str, Any]:
        """The body as a JSON object; raises AnswerError if it is none."""
        try:
            parsed = json.loads(self.body.to_pybytes())
        except ValueError:
            parsed = None
        if not isinstance(parsed, dict):
            raise AnswerError(f"no JSON object: {self.body[:100].to_pybytes()!r}")
        return parsed


def make_path(*segments: str) -> str:
    """A path under /v1 of those segments, each wholly percent-encoded."""
    return "/v1/" + "/".join(map(_quote, segments))


def _quote(segment: str) -> str:
    # A segment of dots alone is legal text here, and elsewhere a way up: httpx would resolve it.
    if segment in (".", ".."):
        return segment.replace(".", "%2E")
    return quote(segment, safe="")


def make_query(parameters: Mapping[str, object]) -> str:
    """`?name=value&…` of what is not None, or nothing."""
    said = {
        name: str(value).lower() if isinstance(value, bool) else str(value)
        for name, value in parameters.items()
        if value is not None
    }
    return f"?{urlencode(said, quote_via=quote)}" if said else ""
