"""Reads a struct of Thrift's compact protocol, the form of Parquet's page headers.

Source: the Thrift project's "compact protocol" specification. Only reading, only what is bounded:
depth and element counts can not exceed what the bytes given could hold.
"""

from typing import Any

from app.errors import DamagedFileError

Struct = dict[int, Any]

_STOP, _TRUE, _FALSE, _BYTE, _I16, _I32, _I64, _DOUBLE, _BINARY, _LIST, _SET, _MAP, _STRUCT = range(
    13
)
_MAX_DEPTH = 16  # page headers nest three deep


class TruncatedError(DamagedFileError):
    """The bytes end inside the struct: the caller may have more of them."""


class _Reader:
    __slots__ = ("data", "pos")

    def __init__(self, data: bytes | memoryview) -> None:
        self.data = data
        self.pos = 0

    def byte(self) -> int:
        if self.pos >= len(self.data):
            raise TruncatedError("a Thrift struct ends too early")
        value = self.data[self.pos]
        self.pos += 1
        return value

    def varint(self) -> int:
        value = shift = 0
        while shift < 70:
            byte = self.byte()
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value
            shift += 7
        raise DamagedFileError("a Thrift number has more than ten bytes")

    def zigzag(self) -> int:
        value = self.varint()
        return (value >> 1) ^ -(value & 1)

    def take(self, count: int) -> bytes:
        end = self.pos + count
        if end > len(self.data):
            raise TruncatedError("a Thrift struct ends too early")
        taken = bytes(self.data[self.pos : end])
        self.pos = end
        return taken

    def value(self, kind: int, depth: int) -> Any:
        if kind in (_I16, _I32, _I64):
            return self.zigzag()
        if kind == _BINARY:
            return self.take(self.varint())
        if kind == _STRUCT:
            return self.struct(depth + 1)
        if kind in (_TRUE, _FALSE):  # in a list every boolean has a byte of its own
            return self.byte() == _TRUE
        if kind == _BYTE:
            return self.byte()
        if kind == _DOUBLE:
            return self.take(8)
        if kind in (_LIST, _SET):
            head = self.byte()
            return self.elements(head >> 4 if head < 0xF0 else self.varint(), [head & 15], depth)
        if kind == _MAP:
            count = self.varint()
            kinds = self.byte() if count else 0
            return self.elements(count, [kinds >> 4, kinds & 15], depth)
        raise DamagedFileError(f"Thrift type {kind} does not exist")

    def elements(self, count: int, kinds: list[int], depth: int) -> list[Any]:
        if depth >= _MAX_DEPTH:
            raise DamagedFileError("a Thrift struct is nested too deeply")
        values = []
        for _ in range(count):  # each element takes a byte or more, so this ends with the bytes
            for kind in kinds:
                before = self.pos
                values.append(self.value(kind, depth + 1))
                if self.pos == before:
                    raise DamagedFileError("a Thrift list has elements without bytes")
        return values

    def struct(self, depth: int = 0) -> Struct:
        if depth >= _MAX_DEPTH:
            raise DamagedFileError("a Thrift struct is nested too deeply")
        fields: Struct = {}
        number = 0
        while (head := self.byte()) != _STOP:
            kind = head & 15
            number = number + (head >> 4) if head >> 4 else self.zigzag()
            if kind in (_TRUE, _FALSE):
                fields[number] = kind == _TRUE
            else:
                fields[number] = self.value(kind, depth)
        return fields


def read_struct(data: bytes | memoryview) -> tuple[Struct, int]:
    """The struct at the start of `data` as {field number: value}, and how many bytes it takes.

    Raises TruncatedError if `data` ends inside it, and DamagedFileError if it is no struct.
    """
    reader = _Reader(data)
    return reader.struct(), reader.pos
