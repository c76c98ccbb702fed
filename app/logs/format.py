"""A line as JSON or for people; what clients send can end no line and move no cursor."""

import json
import logging
import time
from contextvars import ContextVar
from functools import lru_cache
from typing import Literal, NamedTuple

Format = Literal["json", "text"]


class SpanIds(NamedTuple):
    """A span, and the trace that it is of, in hexadecimal digits."""

    trace_id: str
    span_id: str


# Of the request that is being answered, for what is logged on the way.
REQUEST_ID: ContextVar[str | None] = ContextVar("request_id", default=None)
SPAN_IDS: ContextVar[SpanIds | None] = ContextVar("span_ids", default=None)


def format_time(seconds: float) -> str:
    """A Unix time as RFC 3339 has it, in UTC, to the millisecond."""
    whole = int(seconds)
    return f"{_format_second(whole)}.{int((seconds - whole) * 1000):03}Z"


@lru_cache(maxsize=1)  # of thousands of lines a second
def _format_second(seconds: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))


def escape(text: str) -> str:
    """The text with every character escaped that is not printable."""
    if text.isprintable():
        return text
    return "".join(
        one if one.isprintable() else one.encode("unicode_escape").decode() for one in text
    )


class RecordFormatter(logging.Formatter):
    """A record of Python's logging as one JSON line, or as text with its traceback indented."""

    def __init__(self, format: Format) -> None:
        super().__init__()
        self._is_json = format == "json"

    def format(self, record: logging.LogRecord) -> str:
        message = record.getMessage()
        trace = self.formatException(record.exc_info) if record.exc_info else None
        request_id = getattr(record, "request_id", None) or REQUEST_ID.get()
        span_ids = SPAN_IDS.get()
        if not self._is_json:
            level = record.levelname.lower()
            ending = f" [{request_id}]" if request_id else ""
            ending += f" [{' '.join(span_ids)}]" if span_ids else ""
            lines = [f"{level}: {escape(message)}{ending}"]
            lines += [f"    {escape(line)}" for line in (trace or "").splitlines()]
            return "\n".join(lines)
        found = {
            "time": format_time(record.created),
            "level": record.levelname.lower(),
            "event": "message",
            "logger": record.name,
            "message": message,
            "request_id": request_id,
            **(span_ids._asdict() if span_ids else {}),
            "traceback": trace,
        }
        return json.dumps({name: value for name, value in found.items() if value is not None})
