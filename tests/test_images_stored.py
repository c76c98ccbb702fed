import base64
import binascii
import json
import random

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from app.errors import ImageUnreadableError
from app.images.stored import Form, classify, decode

PICTURE = random.Random(7).randbytes(1000)
STANDARD = base64.b64encode(PICTURE)
URL_SAFE = base64.urlsafe_b64encode(PICTURE)
LINES = base64.encodebytes(PICTURE)
PREFIX = b"data:image/jpeg;base64,"
STANDARD_ALPHABET = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
URL_SAFE_ALPHABET = STANDARD_ALPHABET.replace(b"+/", b"-_")
BLANKS = b" \t\n\r\v\f"


def texts(characters: bytes, max_size: int = 40) -> st.SearchStrategy[bytes]:
    return st.lists(st.sampled_from(list(characters)), max_size=max_size).map(bytes)


def as_json(text: bytes) -> bytes:
    """The characters between the quotes, with the escaped slashes that PHP and others write."""
    return json.dumps(text.decode()).replace("/", "\\/").encode()[1:-1]


@pytest.mark.parametrize(
    ("stored", "form"),
    [
        pytest.param(STANDARD, Form.BASE64, id="standard"),
        pytest.param(URL_SAFE, Form.BASE64_LOOSE, id="url-safe"),
        pytest.param(STANDARD.rstrip(b"="), Form.BASE64_LOOSE, id="no padding"),
        pytest.param(STANDARD[:-1], Form.BASE64_LOOSE, id="one of two paddings"),
        pytest.param(LINES, Form.BASE64_LOOSE, id="MIME lines"),
        pytest.param(LINES.replace(b"\n", b"\r\n"), Form.BASE64_LOOSE, id="CRLF lines"),
        pytest.param(b" \t\v\f" + STANDARD, Form.BASE64_LOOSE, id="blanks before"),
        pytest.param(STANDARD + b"\n", Form.BASE64_LOOSE, id="line break after"),
        pytest.param(STANDARD[:-1] + b" =", Form.BASE64_LOOSE, id="blank in the padding"),
        pytest.param(STANDARD.replace(b"+", b"-"), Form.BASE64_LOOSE, id="both alphabets"),
        pytest.param(PREFIX + STANDARD, Form.BASE64_LOOSE, id="data prefix"),
        pytest.param(b"data:;base64," + STANDARD, Form.BASE64_LOOSE, id="bare data prefix"),
        pytest.param(b"DATA:image/PNG;Base64," + STANDARD, Form.BASE64_LOOSE, id="capitals"),
        pytest.param(b'data:a/b;c="d,e";base64,' + STANDARD, Form.BASE64_LOOSE, id="comma"),
        pytest.param("data:é;base64,".encode() + STANDARD, Form.BASE64_LOOSE, id="any prefix"),
        pytest.param(
            b"\n data:image/svg+xml; charset=utf-8;\n base64,\n " + URL_SAFE.rstrip(b"="),
            Form.BASE64_LOOSE,
            id="all at once",
        ),
    ],
)
def test_every_form_of_base64_gives_the_picture(stored: bytes, form: Form) -> None:
    for value in (stored, memoryview(stored)):
        assert classify(value, raw=False) == form
        assert decode(value, form) == PICTURE
    escaped = as_json(b" " + stored + b"\n")
    assert classify(escaped, raw=False, json_string=True) == Form.JSON_STRING
    assert decode(memoryview(escaped), Form.JSON_STRING) == PICTURE


@pytest.mark.parametrize(
    "stored",
    [
        pytest.param(b"Q", id="one character"),
        pytest.param(STANDARD[:997], id="ends within a byte"),
        pytest.param(b"Q===", id="three paddings"),
        pytest.param(b"QUFB=", id="padding where none belongs"),
        pytest.param(b"QUFB====", id="a group of padding"),
        pytest.param(b"QUE==", id="two paddings where one belongs"),
        pytest.param(b"====", id="only padding"),
        pytest.param(b"=", id="one padding"),
        pytest.param(b"QQ==QQ==", id="two texts in one"),
        pytest.param(b"QQ=Q", id="padding inside"),
        pytest.param(b"=QQ=", id="padding before"),
        pytest.param(b"QUF!", id="stray character"),
        pytest.param(b"QUFB!", id="stray character behind"),
        pytest.param(b"QUFB\x00", id="zero byte"),
        pytest.param("QUFBé".encode(), id="not ASCII"),
        pytest.param("QUFB\u00a0".encode(), id="no-break space"),
        pytest.param(b"\xff\xd8\xff\xe0", id="the picture itself"),
        pytest.param(b"QU\\/B", id="escape outside of JSON"),
        pytest.param(b"data:image/png,QUFB", id="data URL that is not base64"),
        pytest.param(b"data:image/png;base64", id="prefix cut short"),
        pytest.param(PREFIX + PREFIX + b"QUFB", id="two prefixes"),
        pytest.param(b"QUFB" + PREFIX + b"QUFB", id="prefix inside"),
        pytest.param(b"http://example.org/a.jpg", id="URL"),
    ],
)
def test_what_is_not_base64_is_a_problem_and_never_shortened(stored: bytes) -> None:
    assert classify(stored, raw=False) == Form.UNDECODABLE
    for form in (Form.BASE64, Form.BASE64_LOOSE, Form.UNDECODABLE):
        with pytest.raises(ImageUnreadableError, match="not base64"):
            decode(stored, form)


@pytest.mark.parametrize("stored", [b"", b" ", b"\r\n\t\v\f ", PREFIX, b" " + PREFIX + b"\n"])
def test_what_decodes_to_nothing_is_empty(stored: bytes) -> None:
    assert classify(stored, raw=False) == Form.EMPTY
    assert classify(stored, raw=False, json_string=True) == Form.EMPTY
    assert classify(as_json(stored), raw=False, json_string=True) == Form.EMPTY


def test_bits_behind_the_last_byte_are_ignored_as_python_does() -> None:
    assert classify(b"QR==", raw=False) == Form.BASE64
    assert decode(b"QR==", Form.BASE64) == b"A" == base64.b64decode(b"QR==", validate=True)
    assert decode(b"QR", Form.BASE64_LOOSE) == b"A"


def test_a_raw_value_is_the_picture_whatever_it_holds() -> None:
    for picture in (PICTURE, STANDARD, b" ", b"\\"):
        assert classify(picture, raw=True) == Form.RAW
        assert classify(memoryview(picture), raw=True) == Form.RAW
        assert decode(memoryview(picture), Form.RAW) == picture
    assert classify(b"", raw=True) == Form.EMPTY


def test_a_json_string_without_escapes_is_plain_text() -> None:
    assert classify(STANDARD, raw=False, json_string=True) == Form.BASE64
    assert classify(LINES, raw=False, json_string=True) == Form.BASE64_LOOSE


@pytest.mark.parametrize(
    ("stored", "picture"),
    [
        (b"QU\\/B", base64.b64decode(b"QU/B")),
        (b"QU\\u0046B", b"AAA"),
        (b"QUFB\\n", b"AAA"),
        (b"QU\nFB\\r\\n", b"AAA"),
        (b"QQ\\u003d\\u003d", b"A"),
    ],
)
def test_escapes_of_a_json_string_are_undone(stored: bytes, picture: bytes) -> None:
    assert classify(stored, raw=False, json_string=True) == Form.JSON_STRING
    assert decode(stored, Form.JSON_STRING) == picture


@pytest.mark.parametrize(
    "stored",
    [
        b"\\",
        b"QUFB\\",
        b"\\x41",
        b"\\u12",
        b'QU\\/B"',
        b'QU\\/B","b":"',
        b"QU\\u00e9B",
        b"\\ud800",
        b"Q\\/\xff\xfe",
        b"Q\\/\x00\x00",
        b"Q\0U\0\\\0/\0",
    ],
)
def test_a_json_string_that_is_none_is_undecodable(stored: bytes) -> None:
    assert classify(stored, raw=False, json_string=True) == Form.UNDECODABLE
    with pytest.raises(ImageUnreadableError):
        decode(stored, Form.JSON_STRING)


@pytest.mark.parametrize(
    ("form", "why"),
    [
        (Form.NULL, "null"),
        (Form.EMPTY, "empty"),
        (Form.UNDECODABLE, "not base64"),
        (Form.TOO_LARGE, "too large"),
    ],
)
def test_a_problem_is_never_served_and_says_why(form: Form, why: str) -> None:
    assert not form.is_readable
    with pytest.raises(ImageUnreadableError, match=why):
        decode(STANDARD, form)


def test_the_numbers_of_the_forms_are_part_of_the_catalog() -> None:
    assert {form.name: form.value for form in Form} == {
        "RAW": 0,
        "BASE64": 1,
        "BASE64_LOOSE": 2,
        "JSON_STRING": 3,
        "NULL": 4,
        "EMPTY": 5,
        "UNDECODABLE": 6,
        "TOO_LARGE": 7,
    }
    assert [form for form in Form if form.is_readable] == [0, 1, 2, 3]


ALMOST_BASE64 = st.one_of(
    st.binary(max_size=40),
    texts(STANDARD_ALPHABET + b"="),
    texts(STANDARD_ALPHABET + b"-_=" + BLANKS),
    texts(b"Qd-_=\\/nu0034: ;,!" + BLANKS),
    st.binary(min_size=1, max_size=200).map(base64.b64encode),
    st.tuples(texts(b"dat:;base64,= \\"), texts(STANDARD_ALPHABET + b"=")).map(b"".join),
    st.tuples(st.just(b"data:;base64,"), texts(STANDARD_ALPHABET + b"-=\\")).map(b"".join),
)


@given(stored=ALMOST_BASE64, raw=st.booleans(), json_string=st.booleans())
@settings(max_examples=1000, deadline=None)
def test_decode_never_disagrees_with_classify(stored: bytes, raw: bool, json_string: bool) -> None:
    form = classify(stored, raw=raw, json_string=json_string)
    assert classify(memoryview(stored), raw=raw, json_string=json_string) == form
    if form.is_readable:
        picture = decode(stored, form)
        assert picture
        assert decode(memoryview(stored), form) == picture
    else:
        with pytest.raises(ImageUnreadableError):
            decode(stored, form)


@given(stored=ALMOST_BASE64, form=st.sampled_from(Form))
@settings(max_examples=500, deadline=None)
def test_decode_of_a_wrong_form_raises_nothing_else(stored: bytes, form: Form) -> None:
    try:
        picture = decode(stored, form)
    except ImageUnreadableError:
        return
    assert isinstance(picture, bytes)


@given(stored=st.one_of(texts(STANDARD_ALPHABET + b"=", 100), ALMOST_BASE64))
@example(stored=b"QUFB=")
@example(stored=b"====")
@settings(max_examples=1000, deadline=None)
def test_what_python_decodes_strictly_gives_the_same_bytes(stored: bytes) -> None:
    try:
        expected = base64.b64decode(stored, validate=True)
    except binascii.Error:
        return
    form = classify(stored, raw=False)
    if len(stored) % 4 or stored.endswith(b"==="):
        # Some versions of Python let pass whole groups' padding where none belongs ("QUFB=").
        assert form == Form.UNDECODABLE
    elif not expected:
        assert form == Form.EMPTY
    else:
        assert form == Form.BASE64
        assert decode(stored, form) == expected


@given(digits=texts(URL_SAFE_ALPHABET, 100))
@settings(max_examples=500, deadline=None)
def test_what_python_decodes_url_safe_gives_the_same_bytes(digits: bytes) -> None:
    padded = digits + b"=" * (-len(digits) % 4)
    try:
        expected = base64.urlsafe_b64decode(padded)
    except binascii.Error:
        assert classify(padded, raw=False) == Form.UNDECODABLE
        return
    form = classify(padded, raw=False)
    assert form in ((Form.BASE64, Form.BASE64_LOOSE) if expected else (Form.EMPTY,))
    if expected:
        assert decode(padded, form) == expected


@given(
    picture=st.binary(min_size=1, max_size=400),
    padding=st.sampled_from([0, 1, 2]),
    swapped=st.sets(st.integers(0, 600)),
    blanks=st.lists(st.tuples(st.integers(0, 600), st.sampled_from(list(BLANKS))), max_size=8),
    prefix=st.sampled_from([b"", PREFIX, b"data:;base64,", b"DATA:x-y/z_;q=1;BASE64,"]),
    escaped=st.booleans(),
)
@settings(max_examples=500, deadline=None)
def test_every_variation_of_base64_comes_back(
    picture: bytes,
    padding: int,
    swapped: set[int],
    blanks: list[tuple[int, int]],
    prefix: bytes,
    escaped: bool,
) -> None:
    digits = bytearray(base64.b64encode(picture).rstrip(b"="))
    to_url_safe = bytes.maketrans(b"+/", b"-_")
    for at in swapped & set(range(len(digits))):
        digits[at : at + 1] = digits[at : at + 1].translate(to_url_safe)
    text = bytearray(prefix + digits + b"=" * min(padding, -len(digits) % 4))
    for at, blank in blanks:
        text.insert(min(at, len(text)), blank)
    stored = as_json(bytes(text)) if escaped else bytes(text)
    form = classify(stored, raw=False, json_string=escaped)
    assert form.is_readable
    assert decode(stored, form) == picture


@given(picture=st.binary(min_size=1, max_size=3000))
@settings(deadline=None)
def test_what_python_encodes_is_canonical(picture: bytes) -> None:
    stored = base64.b64encode(picture)
    assert classify(stored, raw=False) == Form.BASE64
    assert decode(stored, Form.BASE64) == picture


@given(at=st.integers(0, len(STANDARD) - 1), stray=st.sampled_from(list(b"!\x00\x7f\x80\xff.,*%")))
@settings(deadline=None)
def test_one_stray_byte_anywhere_is_noticed(at: int, stray: int) -> None:
    damaged = STANDARD[:at] + bytes([stray]) + STANDARD[at + 1 :]
    assert classify(damaged, raw=False) == Form.UNDECODABLE
    inserted = STANDARD[:at] + bytes([stray]) + STANDARD[at:]
    assert classify(inserted, raw=False) == Form.UNDECODABLE
