from io import BytesIO

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from app.images.sniff import content_type

UNKNOWN = "application/octet-stream"


def encoded(as_format: str, mode: str = "RGB", **options: object) -> bytes:
    picture = BytesIO()
    Image.new(mode, (5, 3)).save(picture, as_format, **options)
    return picture.getvalue()


def animated(as_format: str) -> bytes:
    picture = BytesIO()
    frames = [Image.new("RGB", (5, 3), colour) for colour in ("red", "green")]
    frames[0].save(picture, as_format, save_all=True, append_images=frames[1:])
    return picture.getvalue()


def ftyp(major: bytes, *compatible: bytes) -> bytes:
    body = b"ftyp" + major + b"\0\0\0\0" + b"".join(compatible)
    return (len(body) + 4).to_bytes(4) + body


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        pytest.param(encoded("JPEG"), "image/jpeg", id="JPEG"),
        pytest.param(encoded("JPEG", progressive=True), "image/jpeg", id="progressive JPEG"),
        pytest.param(encoded("JPEG", "CMYK"), "image/jpeg", id="CMYK JPEG"),
        pytest.param(encoded("PNG", "RGBA"), "image/png", id="PNG"),
        pytest.param(encoded("GIF"), "image/gif", id="GIF"),
        pytest.param(animated("GIF"), "image/gif", id="animated GIF"),
        pytest.param(encoded("WEBP"), "image/webp", id="WebP"),
        pytest.param(encoded("WEBP", lossless=True), "image/webp", id="lossless WebP"),
        pytest.param(animated("WEBP"), "image/webp", id="animated WebP"),
        pytest.param(encoded("BMP"), "image/bmp", id="BMP"),
        pytest.param(encoded("BMP", "RGBA"), "image/bmp", id="BMP with alpha"),
        pytest.param(encoded("BMP", "P"), "image/bmp", id="BMP with palette"),
        pytest.param(encoded("TIFF"), "image/tiff", id="TIFF"),
        pytest.param(encoded("TIFF", "I;16B"), "image/tiff", id="big-endian TIFF"),
        pytest.param(encoded("TIFF", big_tiff=True), "image/tiff", id="BigTIFF"),
        pytest.param(b"MM\0+\0\x08\0\0" + bytes(8), "image/tiff", id="big-endian BigTIFF"),
        pytest.param(encoded("AVIF"), "image/avif", id="AVIF"),
        pytest.param(animated("AVIF"), "image/avif", id="animated AVIF"),
        pytest.param(ftyp(b"avis", b"msf1"), "image/avif", id="AVIF sequence"),
        pytest.param(ftyp(b"mif1", b"miaf", b"avif"), "image/avif", id="AVIF as HEIF"),
        pytest.param(ftyp(b"msf1", b"avis"), "image/avif", id="AVIF sequence as HEIF"),
        pytest.param(
            b"BM" + bytes(8) + b"\x1a\0\0\0\x0c\0\0\0\1\0\1\0\1\0\x18\0", "image/bmp", id="OS/2 BMP"
        ),
        pytest.param(ftyp(b"mif1", b"heic"), UNKNOWN, id="HEIC"),
        pytest.param(ftyp(b"isom", b"avif"), UNKNOWN, id="video"),
        pytest.param(ftyp(b"mif1") + b"avif", UNKNOWN, id="brand behind the box"),
        pytest.param(b"\xff\xff\xff\xffftypmif1" + bytes(4000) + b"avif", UNKNOWN, id="box size"),
        pytest.param(b"BMW is a maker of motor cars and motorcycles.", UNKNOWN, id="BM text"),
        pytest.param(b"BM" + bytes(60), UNKNOWN, id="BM and zeros"),
        pytest.param(b"RIFF\x24\0\0\0WAVEfmt ", UNKNOWN, id="WAV"),
        pytest.param(b"GIF is a format", UNKNOWN, id="GIF text"),
        pytest.param(b"<svg xmlns='http://www.w3.org/2000/svg'/>", UNKNOWN, id="SVG"),
        pytest.param(b"%!PS-Adobe-3.0 EPSF-3.0", UNKNOWN, id="EPS"),
        pytest.param(b"", UNKNOWN, id="nothing"),
    ],
)
def test_the_type_is_what_the_bytes_show(data: bytes, expected: str) -> None:
    assert content_type(data) == expected
    assert content_type(data[:40] + bytes(40)) == expected


@pytest.mark.parametrize("as_format", ["JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF", "AVIF"])
def test_a_picture_cut_short_has_its_type_or_none(as_format: str) -> None:
    data = encoded(as_format)
    full = content_type(data)
    found = [content_type(data[:end]) for end in range(len(data))]
    assert set(found[:3]) == {UNKNOWN}
    assert set(found) == {UNKNOWN, full}
    assert set(found[32:]) == {full}


@given(st.text(max_size=100), st.sampled_from(["", "BM", "II", "MM", "RIFF", "GIF", "    ftyp"]))
@settings(deadline=None)
def test_text_is_no_picture(text: str, start: str) -> None:
    printable = "".join(c if c.isprintable() else " " for c in text)
    if not printable.startswith(("87a", "89a", "avif", "avis")):
        assert content_type((start + printable).encode(errors="replace")) == UNKNOWN
