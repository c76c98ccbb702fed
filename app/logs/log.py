"""A process's log: requests by themselves, since Python's logging takes 10 µs a record."""

import atexit
import logging
import sys
import time
from typing import Literal

import msgspec

from app.logs.format import Format, RecordFormatter, escape, format_time
from app.logs.writer import LineWriter

Level = Literal["debug", "info", "warning", "error"]

_NUMBERS = {"debug": 10, "info": 20, "warning": 30, "error": 40}


class Exchange(msgspec.Struct, gc=False):
    """A request and how it was answered; `token` is the name of the one it came with.

    The fields are those of a line, in its order.
    """

    request_id: str
    method: str
    target: str
    route: str | None
    status: int
    seconds: float
    bytes: int
    client: str | None
    token: str | None

    def to_text(self, level: str) -> str:
        """The line for people."""
        said = (
            f"{level}: {self.method} {self.target} {self.status} {self.bytes:,} B "
            f"{self.seconds * 1000:.1f} ms {self.client or '-'}"
        )
        token = f" {self.token}" if self.token else ""
        return f"{escape(said)}{token} [{self.request_id}]\n"


class TracedExchange(Exchange, gc=False):
    """One that has a span."""

    trace_id: str
    span_id: str

    def to_text(self, level: str) -> str:
        """The line for people."""
        return f"{super().to_text(level).rstrip()} [{self.trace_id} {self.span_id}]\n"


# A line, or when a request ended, its level, and the request.
_Told = bytes | tuple[float, str, Exchange]


class Log:
    """Writes lines to standard error; `close` it when done."""

    def __init__(self, format: Literal["auto", "json", "text"], level: Level) -> None:
        if format == "auto":
            format = "text" if sys.stderr.isatty() else "json"
        self.format: Format = format
        self._is_json = format == "json"
        self._level = _NUMBERS[level]
        self._writer = LineWriter(sys.stderr.fileno(), self._render)
        self._encode = msgspec.json.Encoder().encode

    def take_records(self) -> None:
        """Have what this process logs with Python's logging written here too, to its end."""
        atexit.register(self.close)
        handler = _Handler(self._writer)
        handler.setFormatter(RecordFormatter(self.format))
        logging.basicConfig(handlers=[handler], level=max(self._level, 20), force=True)
        logging.captureWarnings(True)

    def close(self) -> None:
        """Write what waits."""
        self._writer.close()

    def wants(self, status: int, *, is_routine: bool) -> str | None:
        """The level of a request with that status, if it is to be told of: errors and warnings as
        such, routine ones only to who debugs."""
        if status >= 500:
            level = "error" if status == 500 else "warning"
        else:
            level = "debug" if is_routine else "info"
        return level if _NUMBERS[level] >= self._level else None

    def exchange(self, one: Exchange, level: str) -> None:
        """Tell of a request."""
        if self._writer.has_room and (dropped := self._writer.take_dropped()):
            logging.getLogger("mimicit.log").warning("%d lines were dropped", dropped)
        self._writer.write((time.time(), level, one))

    def _render(self, told: _Told) -> bytes:
        if isinstance(told, bytes):
            return told
        seconds, level, one = told
        if not self._is_json:
            return one.to_text(level).encode()
        start = f'{{"time":"{format_time(seconds)}","level":"{level}","event":"request",'
        return start.encode() + self._encode(one)[1:] + b"\n"


class _Handler(logging.Handler):
    def __init__(self, writer: LineWriter[_Told]) -> None:
        super().__init__()
        self._writer = writer

    def emit(self, record: logging.LogRecord) -> None:
        self._writer.write(self.format(record).encode(errors="backslashreplace") + b"\n")
