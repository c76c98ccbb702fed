"""Bytes as an HTTP answer: conditions and ranges, as RFC 9110 has them."""

import re

from fastapi import Request, Response

from app.errors import PreconditionFailedError

_RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})$", re.IGNORECASE)


def check_match(request: Request, etag: str) -> None:
    """Raise PreconditionFailedError if the client wants other bytes, by If-Match (RFC 9110,
    13.1.1)."""
    tags = _list_tags(request, "if-match")
    if tags and etag not in tags and tags != ["*"]:
        raise PreconditionFailedError(
            f"If-Match names {', '.join(tags)[:100]}, and these bytes are {etag}: ask anew"
        )


def is_known(request: Request, etag: str) -> bool:
    """Whether the client has these bytes already, by If-None-Match (RFC 9110, 13.1.2)."""
    tags = [tag.removeprefix("W/") for tag in _list_tags(request, "if-none-match")]
    return etag in tags or tags == ["*"]


def _list_tags(request: Request, header: str) -> list[str]:
    lines = request.headers.getlist(header)
    return [tag.strip() for line in lines for tag in line.split(",")]


def answer_bytes(
    request: Request, data: bytes, content_type: str, headers: dict[str, str]
) -> Response:
    """The bytes, or the one range of them that is asked for."""
    headers["content-type"] = content_type
    wanted = request.headers.get("range")
    status, part = 200, data
    if wanted is not None and _range_holds(request, headers["etag"]):
        span = _find_span(wanted, len(data))
        if span is not None:
            first, last = span
            if first > last:
                headers["content-range"] = f"bytes */{len(data)}"
                del headers["content-type"]
                return Response(status_code=416, headers=headers)
            headers["content-range"] = f"bytes {first}-{last}/{len(data)}"
            status, part = 206, data[first : last + 1]
    return Response(part, status, headers)


def _range_holds(request: Request, etag: str) -> bool:
    condition = request.headers.get("if-range")
    return condition is None or condition == etag


def _find_span(wanted: str, length: int) -> tuple[int, int] | None:
    """First and last byte; first > last if there is no such byte; None if it is to be ignored,
    as several ranges and units other than bytes may be (RFC 9110, 14.2)."""
    match = _RANGE.match(wanted.strip())
    if match is None or match[1] == match[2] == "":
        return None
    if not match[1]:
        suffix = int(match[2])
        return (length - min(suffix, length), length - 1) if suffix else (1, 0)
    first = int(match[1])
    last = min(int(match[2]), length - 1) if match[2] else length - 1
    if match[2] and int(match[2]) < first:
        return None
    return (first, last) if first < length else (1, 0)
