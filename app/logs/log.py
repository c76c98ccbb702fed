"""A process's log: requests by themselves, since Python's logging takes 10 µs a record."""

import atexit
import logging
import sys
import time
from typing import Literal, NamedTuple

import msgspec

from app.logs.format import Format, RecordFormatter, escape, format_time
from app.logs.writer import LineWriter

Level = Literal["debug", "info", "warning", "error"]

_NUMBERS = {"debug": 10, "info": 20, "warning": 30, "error": 40}
_MAX_TARGET = 2000  # a key of 1,000 bytes, percent-encoded in part


class Exchange(NamedTuple):
    """A request and how it was answered; `token` is the name of the one it came with."""

    method: str
    target: str
    status: int
    seconds: float
    sent_bytes: int
    client: str | None
    token: str | None
    route: str | None
    request_id: str


class Log:
    """Writes lines to standard error; `close` it when done."""

    def __init__(self, format: Literal["auto", "json", "text"], level: Level) -> None:
        if format == "auto":
            format = "text" if sys.stderr.isatty() else "json"
        self.format: Format = format
        self._is_json = format == "json"
        self._level = _NUMBERS[level]
        self._writer = LineWriter(sys.stderr.fileno())
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

    def exchange(self, one: Exchange, *, is_routine: bool = False) -> None:
        """Tell of a request: errors and warnings as such, routine ones only to who debugs."""
        if one.status >= 500:
            level = "error" if one.status == 500 else "warning"
        else:
            level = "debug" if is_routine else "info"
        if _NUMBERS[level] < self._level:
            return
        if dropped := self._writer.take_dropped():
            logging.getLogger("mimicit.log").warning("%d lines were dropped", dropped)
        write = self._json if self._is_json else self._text
        self._writer.write(write(one, level))

    def _json(self, one: Exchange, level: str) -> bytes:
        line = {
            "time": format_time(time.time()),
            "level": level,
            "event": "request",
            "request_id": one.request_id,
            "method": one.method,
            "target": one.target[:_MAX_TARGET],
            "route": one.route,
            "status": one.status,
            "seconds": round(one.seconds, 6),
            "bytes": one.sent_bytes,
            "client": one.client,
            "token": one.token,
        }
        return self._encode(line) + b"\n"

    def _text(self, one: Exchange, level: str) -> bytes:
        said = (
            f"{level}: {one.method} {one.target[:_MAX_TARGET]} {one.status} "
            f"{one.sent_bytes:,} B {one.seconds * 1000:.1f} ms {one.client or '-'}"
        )
        token = f" {one.token}" if one.token else ""
        return f"{escape(said)}{token} [{one.request_id}]\n".encode()


class _Handler(logging.Handler):
    def __init__(self, writer: LineWriter) -> None:
        super().__init__()
        self._writer = writer

    def emit(self, record: logging.LogRecord) -> None:
        self._writer.write(self.format(record).encode(errors="backslashreplace") + b"\n")
