"""The members of the one JSON object in a file, in order, in windows: memory does not grow with it.

Values are parsed by Python's own json, so they are what json reads. The text is held as Latin-1,
one character a byte, so that an offset in it is an offset in the file; a value with other than
ASCII characters is parsed again as UTF-8.
"""

import json
import re
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from app.errors import DamagedFileError

_WINDOW_BYTES = 1 << 20
_SPACE = re.compile(r"[ \t\n\r]*")
_PLAIN_NAME = re.compile(r'[ \t\n\r]*"([ !#-\[\]-~]*)"[ \t\n\r]*:[ \t\n\r]*')
_STRING_END = re.compile(r'[^"\\]*(?:\\.[^"\\]*)*"', re.DOTALL)
_OPENING = ("{", "[", '"')
_DECODER = json.JSONDecoder()


class NotTextError(ValueError):
    """A value's bytes are not UTF-8."""


class Span(NamedTuple):
    """The characters between a JSON string's quotes: their file offset, and their bytes."""

    offset: int
    text: bytes


class JsonStream:
    """Reads JSON from the front of a file.

    `read` gives bytes by offset and length. Raises DamagedFileError, with the byte offset, where
    it is not JSON, and where one value is longer than `max_value_bytes`.
    """

    def __init__(
        self, name: str, read: Callable[[int, int], bytes], size_bytes: int, max_value_bytes: int
    ) -> None:
        self._name = name
        self._read = read
        self._size = size_bytes
        self._max_value_bytes = max_value_bytes
        self._text = ""
        self._base = 0
        self._at = 0
        if read(0, min(3, size_bytes)) == b"\xef\xbb\xbf":
            self._base = 3

    @property
    def offset(self) -> int:
        """The file offset of the next character."""
        return self._base + self._at

    def peek(self) -> str:
        """The next character that is not space; empty at the end of the file."""
        while True:
            match = _SPACE.match(self._text, self._at)
            self._at = match.end() if match else self._at
            if self._at < len(self._text):
                return self._text[self._at]
            if not self._more():
                return ""

    def members(self) -> Iterator[str]:
        """The names of the object's members; read or skip each one's value before the next."""
        self._expect("{")
        if self.peek() == "}":
            self._at += 1
            return
        while True:
            # Nearly every name is plain, and one match for it takes a third of the steps below.
            match = _PLAIN_NAME.match(self._text, self._at)
            if match and match.end() < len(self._text):
                self._at = match.end()
                yield match[1]
            else:
                yield self._any_name()
            if self._text.startswith(",", self._at):
                self._at += 1
                continue
            if self.peek() == "}":
                self._at += 1
                return
            self._expect(",")

    def _any_name(self) -> str:
        if self.peek() != '"':
            raise self._damaged("a name in quotes was expected")
        # A name that is not UTF-8 becomes one that no text has: that member's problem only.
        name: str = self.value(errors="surrogateescape")
        self._expect(":")
        self.peek()
        return name

    def items(self) -> Iterator[int]:
        """The numbers of the list's items; read each one before the next."""
        self._expect("[")
        number = 0
        if self.peek() == "]":
            self._at += 1
            return
        while True:
            self.peek()
            yield number
            number += 1
            if self.peek() == "]":
                self._at += 1
                return
            self._expect(",")

    def value(self, *, errors: str = "strict") -> Any:
        """The next value, as json.loads gives it.

        Raises NotTextError for a value whose strings are not UTF-8, unless `errors`, as that of
        `bytes.decode`, makes text of them; the stream is then behind it.
        """
        if self._text[self._at : self._at + 1] not in _OPENING:
            self.peek()
        value, end = self._parse()
        text = self._text[self._at : end]
        self._at = end
        if text.isascii():
            return value
        try:
            return json.loads(text.encode("latin-1").decode(errors=errors))
        except UnicodeDecodeError as error:
            raise NotTextError(str(error)) from error

    def _parse(self) -> tuple[Any, int]:
        while True:
            try:
                value, end = _DECODER.raw_decode(self._text, self._at)
                # A number at the end of the window may go on behind it; of `1e-` json takes the 1.
                if end + 2 < len(self._text) or not self._more():
                    return value, end
            except json.JSONDecodeError as error:
                if not self._more():
                    raise self._damaged(error.msg, error.pos) from error
            except (RecursionError, ValueError) as error:
                raise self._damaged(str(error) or "nested too deeply") from error

    def string_span(self) -> Span:
        """Where the next value, a string, has its characters, escapes and all."""
        self._expect('"')
        while True:
            end = self._text.find('"', self._at)
            if end >= 0 and self._text.find("\\", self._at, end) >= 0:
                match = _STRING_END.match(self._text, self._at)
                end = match.end() - 1 if match else -1
            if end >= 0:
                span = Span(self.offset, self._text[self._at : end].encode("latin-1"))
                self._at = end + 1
                return span
            if not self._more():
                raise self._damaged("a string does not end")

    def end(self) -> None:
        """Raise DamagedFileError if anything but space is left."""
        if self.peek():
            raise self._damaged("the object has ended, and more text follows")

    def _expect(self, character: str) -> None:
        if self.peek() != character:
            raise self._damaged(f"{character!r} was expected")
        self._at += 1

    def _more(self) -> bool:
        """Read on, dropping what is behind; false at the end of the file."""
        held = len(self._text) - self._at
        end = self._base + len(self._text)
        count = min(max(_WINDOW_BYTES, held), self._size - end)
        if count <= 0:
            return False
        if held > self._max_value_bytes:
            raise self._damaged(
                f"a value is longer than {self._max_value_bytes:,} bytes (setting max_value_bytes)"
            )
        self._text = self._text[self._at :]
        self._base += self._at
        self._at = 0
        self._text += self._read(end, count).decode("latin-1")
        return True

    def _damaged(self, why: str, at: int | None = None) -> DamagedFileError:
        offset = self._base + (self._at if at is None else at)
        return DamagedFileError(f"{self._name}: not valid JSON at byte {offset:,}: {why}")
