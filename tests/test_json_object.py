"""The streaming reader gives what json.loads gives, wherever its windows end."""

import base64
import json
import math
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.errors import DamagedFileError
from app.json_object import JsonStream, NotTextError

WINDOWS = [1, 2, 3, 4, 5, 7, 8, 13, 16, 31, 64]
MAX_VALUE_BYTES = 1 << 20
PATCHES = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)

text = st.text(st.characters(codec="utf-8")) | st.text(
    '"\\/bfnrtu \n\t{}[]:,é漢\U0001f600', max_size=20
)
numbers = (
    st.integers(-(10**30), 10**30)
    | st.floats(allow_nan=False)
    | st.sampled_from([0.0, -0.0, 1e300, 1e-300, 12345678901234567890, -1])
)
values = st.recursive(
    st.none() | st.booleans() | numbers | text,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(text, inner, max_size=4),
    max_leaves=12,
)
documents = st.dictionaries(text, values, max_size=6)


def stream_of(data: bytes, max_value_bytes: int = MAX_VALUE_BYTES) -> JsonStream:
    def read(offset: int, length: int) -> bytes:
        assert 0 <= offset <= offset + length <= len(data)
        return data[offset : offset + length]

    return JsonStream("a.json", read, len(data), max_value_bytes)


def load(data: bytes, max_value_bytes: int = MAX_VALUE_BYTES) -> dict[str, Any]:
    stream = stream_of(data, max_value_bytes)
    members = {name: stream.value() for name in stream.members()}
    stream.end()
    return members


def same(one: Any, other: Any) -> bool:
    """Equal, and of the same types: 1 is not 1.0, 0.0 is not -0.0, NaN is NaN."""
    return repr(one) == repr(other)


# Agreement with json


@PATCHES
@given(
    document=documents,
    window=st.sampled_from(WINDOWS),
    ascii_only=st.booleans(),
    indent=st.sampled_from([None, 0, 1]),
    space=st.text(" \t\r\n", max_size=4),
    bom=st.booleans(),
)
def test_agrees_with_json(
    document: dict[str, Any],
    window: int,
    ascii_only: bool,
    indent: int | None,
    space: str,
    bom: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("app.json_object._WINDOW_BYTES", window)
    written = space + json.dumps(document, ensure_ascii=ascii_only, indent=indent) + space
    data = (b"\xef\xbb\xbf" if bom else b"") + written.encode()
    assert same(load(data), json.loads(written))


@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize(
    "value",
    [
        "1", "12345", "-1", "-0", "0", "1.5", "-1.25", "1e5", "1E5", "1e+5", "1E-5", "1.5e-07",
        "123456789012345678901234567890", "0.1e1", "NaN", "Infinity", "-Infinity", "true", "false",
        "null", '""', '"a"', '"\\u00e9"', '"\\ud83d\\ude00"', '"\\ud83d"', '"\\ude00x"', '"\\\\"',
        '"\\""', '"\\\\\\""', '"é漢\U0001f600"', "[]", "[1.5,2e3]", "{}", '{"a":{"b":[{}]}}',
        "[ 1 , 2 ]", '"\x7f\x85\xa0\u2028"',
    ],
)  # fmt: skip
def test_every_kind_of_value_at_every_place_of_a_window(
    value: str, window: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.json_object._WINDOW_BYTES", window)
    for shift in range(window if window < 20 else 3):
        for after in ("", " ", "\n  "):
            text = f'{{{" " * shift}"a":{value}{after},"b":{after}{value}}}'
            assert same(load(text.encode()), json.loads(text)), text


def test_the_last_of_a_repeated_name_counts_inside_a_value() -> None:
    assert load(b'{"a": {"b": 1, "b": 2}}') == {"a": {"b": 2}}


@pytest.mark.parametrize("window", [1, 5, 64])
def test_items_of_a_list(window: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.json_object._WINDOW_BYTES", window)
    stream = stream_of(b'{"a": [1, "two", [3], {}], "b": [], "c": [ null ]}')
    found = {name: [stream.value() for _ in stream.items()] for name in stream.members()}
    assert found == {"a": [1, "two", [3], {}], "b": [], "c": [None]}


def test_memory_does_not_grow_with_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.json_object._WINDOW_BYTES", 64)
    data = json.dumps({f"k{number}": "x" * 100 for number in range(1000)}).encode()
    stream = stream_of(data)
    held = []
    for _ in stream.members():
        stream.value()
        held.append(len(stream._text))
    assert max(held) < 1000


# Strings where they are


@PATCHES
@given(
    document=st.dictionaries(text, text, max_size=6),
    window=st.sampled_from(WINDOWS),
    ascii_only=st.booleans(),
    bom=st.booleans(),
)
def test_spans_point_to_the_bytes_of_the_file(
    document: dict[str, str],
    window: int,
    ascii_only: bool,
    bom: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("app.json_object._WINDOW_BYTES", window)
    data = json.dumps(document, ensure_ascii=ascii_only).encode()
    data = (b"\xef\xbb\xbf" if bom else b"") + data
    stream = stream_of(data)
    found = {}
    for name in stream.members():
        span = stream.string_span()
        assert data[span.offset : span.offset + len(span.text)] == span.text
        assert data[span.offset - 1 : span.offset] == b'"'
        assert data[span.offset + len(span.text) :][:1] == b'"'
        found[name] = json.loads(b'"' + span.text + b'"')
    stream.end()
    assert found == document


def test_a_long_string_takes_time_in_proportion_to_its_length() -> None:
    value = base64.b64encode(bytes(24 << 20)).decode()
    escaped = "\\/" * (4 << 20)
    data = json.dumps({"a": value})[:-1].encode() + b', "b": "' + escaped.encode() + b'"}'
    stream = stream_of(data, 1 << 30)
    spans = [len(stream.string_span().text) for _ in stream.members()]
    assert spans == [len(value), len(escaped)]


# Damage


@pytest.mark.parametrize("window", [1, 7, 1 << 20])
def test_every_truncation_is_damage(window: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.json_object._WINDOW_BYTES", window)
    document = {"é": [1, 2.5, {"a": None}], 'b"\\': "a \U0001f600", "n": -12, "t": True}
    for ascii_only in (True, False):
        data = json.dumps(document, ensure_ascii=ascii_only).encode()
        assert same(load(data), json.loads(data))
        for length in range(len(data)):
            with pytest.raises(
                DamagedFileError, match=r"a\.json: not valid JSON at byte [0-9,]+: "
            ):
                load(data[:length])


@pytest.mark.parametrize("window", [1, 3, 1 << 20])
@pytest.mark.parametrize(
    ("data", "offset"),
    [
        (b"", 0),
        (b"   ", 3),
        (b"[]", 0),
        (b"7", 0),
        (b"{a", 1),
        (b"{1: 2}", 1),
        (b'{"a" 1}', 5),
        (b'{"a":}', 5),
        (b'{"a": 1 "b": 2}', 8),
        (b'{"a": 1,}', 8),
        (b'{"a": tru}', 6),
        (b'{"a": [1, 2}', 11),
        (b'{"a": "\\x"}', 7),
        (b'{"a": "\x01"}', 7),
        (b'{"a": 01}', 7),
        (b'{"a": 1}}', 8),
        (b'{"a": 1} x', 9),
        (b'\xef\xbb\xbf{"a": 1} x', 12),
        (b"\xef\xbb\xbf", 3),
        (b'{"a": +1}', 6),
        (b'{"a": .5}', 6),
        (b"{'a': 1}", 1),
        (b'\xff\xfe{\x00"\x00', 0),
    ],
)
def test_mistakes_are_named_with_their_offset(
    data: bytes, offset: int, window: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.json_object._WINDOW_BYTES", window)
    with pytest.raises(DamagedFileError, match=f"not valid JSON at byte {offset}: "):
        load(data)


@given(st.binary(max_size=60) | st.text('{}[]":,0123.eE+- \\utrfn', max_size=60).map(str.encode))
def test_any_bytes_are_read_as_json_reads_them_or_refused(data: bytes) -> None:
    try:
        expected = json.loads(data.decode("utf-8-sig"))
    except ValueError:
        expected = None
    try:
        found = load(data)
    except (DamagedFileError, NotTextError):
        assert not isinstance(expected, dict)
    else:
        if expected is None:  # json refuses a name that is not UTF-8; here it is a member's problem
            assert any(not name.isprintable() or not name.isascii() for name in found)
        else:
            assert same(found, expected)


def test_values_that_are_not_utf8_are_that_members_problem() -> None:
    data = b'{"a": "\xff", "b": ["\xc3\xa9"], "c": {"\xc3": 1}, "d": "\xed\xa0\x80", "e": 1}'
    stream = stream_of(data)
    found: dict[str, Any] = {}
    for name in stream.members():
        try:
            found[name] = stream.value()
        except NotTextError:
            found[name] = NotTextError
    stream.end()
    bad = NotTextError
    assert found == {"a": bad, "b": ["é"], "c": bad, "d": bad, "e": 1}


def test_names_that_are_not_utf8_are_no_text() -> None:
    found = load(b'{"\xff": 1, "\xc3\xa9": 2, "a\xc3": 3}')
    assert list(found.values()) == [1, 2, 3]
    names = list(found)
    assert names[1] == "é"
    for name in (names[0], names[2]):
        with pytest.raises(UnicodeEncodeError):
            name.encode()


@pytest.mark.parametrize("opening", ["[", '{"a":'])
def test_deep_nesting_is_damage(opening: str) -> None:
    depth = 100_000
    with pytest.raises(DamagedFileError, match="not valid JSON at byte 5: "):
        load(b'{"a":' + opening.encode() * depth)


def test_a_number_of_too_many_digits_is_damage() -> None:
    digits = sys.get_int_max_str_digits() + 1
    with pytest.raises(DamagedFileError, match="not valid JSON at byte 5: "):
        load(b'{"a":' + b"7" * digits + b"}")


def test_a_value_over_the_limit_is_refused_before_it_is_read_whole(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("app.json_object._WINDOW_BYTES", 64)
    data = b'{"a": "' + b"x" * 100_000 + b'"}'
    for read in (JsonStream.value, JsonStream.string_span):
        stream = stream_of(data, 1000)
        assert next(stream.members()) == "a"
        with pytest.raises(DamagedFileError, match="longer than 1,000 bytes"):
            read(stream)
        assert len(stream._text) < 5000
    assert load(b'{"a": "' + b"x" * 900 + b'"}', 1000) == {"a": "x" * 900}


def test_numbers_that_json_makes_infinite() -> None:
    found = load(b'{"a": 1e999, "b": NaN, "c": -Infinity}')
    assert found["a"] == math.inf
    assert math.isnan(found["b"])
    assert found["c"] == -math.inf


def test_a_file_of_megabytes_in_the_usual_windows(tmp_path: Path) -> None:
    document = {
        f"id_{number}": {"n": number, "text": "é" * (number % 700)} for number in range(4000)
    }
    path = tmp_path / "a.json"
    path.write_text(json.dumps(document, ensure_ascii=False))
    data = path.read_bytes()
    assert len(data) > 2 << 20
    assert load(data) == document
