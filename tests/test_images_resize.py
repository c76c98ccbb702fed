import struct
import warnings
import zlib
from io import BytesIO
from itertools import pairwise
from typing import cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import ExifTags, Image, ImageChops, ImageOps, ImageStat

from app.errors import ImageUnreadableError
from app.images.picture import Fit
from app.images.resize import Format, Resize, resize

pytestmark = pytest.mark.slow

MAX_PIXELS = 50_000_000
FORMATS = ["JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF", "AVIF"]
AGAIN = Resize(None, None)

RED, GREEN, BLUE, YELLOW = (230, 20, 20), (20, 180, 20), (20, 20, 230), (230, 230, 20)
CORNERS = (RED, GREEN, BLUE, YELLOW)  # top left, top right, bottom left, bottom right


def encoded(image: Image.Image, as_format: str, **options: object) -> bytes:
    picture = BytesIO()
    image.save(picture, as_format, **options)
    return picture.getvalue()


def opened(made: tuple[bytes, str]) -> Image.Image:
    data, kind = made
    image = Image.open(BytesIO(data))
    assert image.get_format_mimetype() == kind
    image.load()
    return image


def resized(data: bytes, how: Resize, max_pixels: int = MAX_PIXELS) -> Image.Image:
    return opened(resize(data, how, max_pixels=max_pixels))


def quarters(width: int = 120, height: int = 80) -> Image.Image:
    """A picture whose four quarters have the four colours."""
    image = Image.new("RGB", (width, height))
    for index, colour in enumerate(CORNERS):
        across, down = index % 2 * (width // 2), index // 2 * (height // 2)
        image.paste(colour, (across, down, across + width // 2, down + height // 2))
    return image


def at(image: Image.Image, across: int, down: int) -> tuple[int, ...]:
    value = image.getpixel((across, down))
    assert value is not None
    return value if isinstance(value, tuple) else (int(value),)


def is_close(found: tuple[int, ...], wanted: tuple[int, ...], by: int = 25) -> bool:
    return len(found) == len(wanted) and all(
        abs(a - b) <= by for a, b in zip(found, wanted, strict=True)
    )


def corners(image: Image.Image) -> list[tuple[int, ...]]:
    right, bottom = image.width - 3, image.height - 3
    image = image.convert("RGB")
    return [at(image, *place) for place in ((2, 2), (right, 2), (2, bottom), (right, bottom))]


def has_corners(image: Image.Image, wanted: tuple[tuple[int, ...], ...] = CORNERS) -> bool:
    return all(is_close(a, b, 40) for a, b in zip(corners(image), wanted, strict=True))


def greys(image: Image.Image) -> list[int]:
    return [at(image, across, 0)[0] for across in range(image.width)]


def png_chunk(kind: bytes, body: bytes) -> bytes:
    return len(body).to_bytes(4) + kind + body + zlib.crc32(kind + body).to_bytes(4)


def png(width: int, height: int, *, bits: int = 8, colour: int = 0, rows: bytes = b"") -> bytes:
    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(png_chunk(kind, body) for kind, body in chunks)


@pytest.mark.parametrize(
    ("how", "size"),
    [
        (Resize(60, None), (60, 40)),
        (Resize(None, 40), (60, 40)),
        (Resize(60, 60), (60, 40)),
        (Resize(90, 20), (30, 20)),
        (Resize(1, None), (1, 1)),
        (Resize(7, 5), (7, 5)),
        (Resize(1000, 1000), (120, 80)),
        (Resize(None, 81), (120, 80)),
        (Resize(None, None), (120, 80)),
        (Resize(None, None, "cover"), (120, 80)),
        (Resize(30, 30, "cover"), (30, 30)),
        (Resize(200, 30, "cover"), (200, 30)),
        (Resize(300, 400, "cover"), (300, 400)),
    ],
)
@pytest.mark.parametrize("as_format", FORMATS)
def test_sizes(as_format: str, how: Resize, size: tuple[int, int]) -> None:
    assert resized(encoded(quarters(), as_format), how).size == size


@given(
    size=st.tuples(st.integers(1, 90), st.integers(1, 90)),
    width=st.none() | st.integers(1, 120),
    height=st.none() | st.integers(1, 120),
    fit=st.sampled_from(["contain", "cover"]),
    as_format=st.sampled_from(["JPEG", "PNG"]),
)
@settings(deadline=None, max_examples=200)
def test_contain_stays_within_and_cover_is_exact(
    size: tuple[int, int], width: int | None, height: int | None, fit: Fit, as_format: str
) -> None:
    data = encoded(Image.new("RGB", size, "white"), as_format)
    made = resized(data, Resize(width, height, fit, "png"))
    assert made.getextrema() == ((255, 255),) * 3
    if fit == "cover" and width is not None and height is not None:
        assert made.size == (width, height)
        return
    limits = [min(has, most or has) for has, most in zip(size, (width, height), strict=True)]
    assert made.width <= limits[0]
    assert made.height <= limits[1]
    assert made.width == limits[0] or made.height == limits[1]
    # The aspect is as near as whole pixels allow.
    scale = min(most / has for has, most in zip(size, limits, strict=True))
    assert abs(made.width - size[0] * scale) < 1
    assert abs(made.height - size[1] * scale) < 1


@pytest.mark.parametrize("size", [(1, 4000), (4000, 1)])
@pytest.mark.parametrize("as_format", ["JPEG", "PNG", "TIFF"])
def test_a_picture_one_pixel_wide(as_format: str, size: tuple[int, int]) -> None:
    data = encoded(Image.new("RGB", size, "red"), as_format)
    assert min(resized(data, Resize(10, 10)).size) == 1
    for across, down in ((1, 1), (1, 900), (900, 1), (50, 50)):
        made = resized(data, Resize(across, down, "cover", "png"))
        assert made.size == (across, down)
        assert is_close(at(made, 0, 0), (255, 0, 0), 3)


@pytest.mark.parametrize("as_format", FORMATS)
def test_contain_keeps_the_whole_picture(as_format: str) -> None:
    made = resized(encoded(quarters(600, 400), as_format), Resize(60, 60, format="png"))
    assert made.size == (60, 40)
    assert has_corners(made)


@pytest.mark.parametrize("size", [(60, 40), (77, 55), (30, 20), (599, 399)])
def test_a_jpeg_decoded_small_is_not_shifted(size: tuple[int, int]) -> None:
    slope = Image.linear_gradient("L")
    for image in (slope, slope.transpose(Image.Transpose.ROTATE_90)):
        whole = image.resize((1201, 801), Image.Resampling.BICUBIC)
        expected = ImageOps.fit(whole, size, Image.Resampling.LANCZOS)
        data = encoded(whole, "JPEG", quality=95)
        difference = ImageChops.subtract(
            resized(data, Resize(*size, "cover", "png")), expected, scale=1.0, offset=128
        )
        low, high = cast("tuple[int, int]", difference.getextrema())
        assert low >= 125
        assert high <= 131
        assert abs(ImageStat.Stat(difference).mean[0] - 128) < 0.5


@pytest.mark.parametrize("as_format", FORMATS)
@pytest.mark.parametrize(("width", "height"), [(40, 80), (80, 40), (400, 800)])
def test_cover_cuts_evenly_off_both_ends(as_format: str, width: int, height: int) -> None:
    # Bars of a tenth at each end of the longer side are cut off where the picture becomes square.
    image = Image.new("RGB", (width * 5, height * 5), (250, 250, 250))
    across, down = image.size
    if across > down:
        image.paste((0, 0, 0), (0, 0, across // 10, down))
        image.paste((0, 0, 0), (across * 9 // 10, 0, across, down))
    else:
        image.paste((0, 0, 0), (0, 0, across, down // 10))
        image.paste((0, 0, 0), (0, down * 9 // 10, across, down))
    side = min(width, height)
    made = resized(encoded(image, as_format), Resize(side, side, "cover", "png"))
    assert made.size == (side, side)
    assert min(low for low, _ in cast("tuple[tuple[int, int], ...]", made.getextrema())) > 220


# How a picture must be stored so that, turned as its orientation says, it is upright.
STORED_AS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


@pytest.mark.parametrize("as_format", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_orientation_is_turned_upright(as_format: str, orientation: int) -> None:
    upright = quarters(480, 320)
    stored = upright.transpose(STORED_AS[orientation]) if orientation > 1 else upright
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    data = encoded(stored, as_format, exif=exif)
    for how, size in [
        (AGAIN, (480, 320)),
        (Resize(48, None), (48, 32)),
        (Resize(None, 32), (48, 32)),
        (Resize(48, 320), (48, 32)),
        (Resize(64, 32, "cover"), (64, 32)),
        (Resize(32, 64, "cover", "png"), (32, 64)),
    ]:
        made = resized(data, how)
        assert made.size == size
        assert has_corners(made)
        assert ExifTags.Base.Orientation not in made.getexif()


@pytest.mark.parametrize("orientation", [0, 9, 65535])
def test_an_orientation_that_does_not_exist_is_no_turn(orientation: int) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    assert has_corners(resized(encoded(quarters(), "JPEG", exif=exif), AGAIN))


# Pillow warns of it, which the service leaves to the process's filters.
@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
def test_broken_exif_does_not_hide_the_picture() -> None:
    for exif in (b"Exif\0\0", b"Exif\0\0MM\0*\xff\xff\xff\xff", b"Exif\0\0nonsense", b"Exif\0\0II"):
        for as_format in ("JPEG", "WEBP"):
            assert has_corners(resized(encoded(quarters(), as_format, exif=exif), AGAIN))


@pytest.mark.parametrize(
    ("as_format", "mode", "kept", "made_mode"),
    [
        ("JPEG", "RGB", "image/jpeg", "RGB"),
        ("JPEG", "L", "image/jpeg", "L"),
        ("JPEG", "CMYK", "image/jpeg", "RGB"),
        ("JPEG", "YCbCr", "image/jpeg", "RGB"),
        ("PNG", "RGB", "image/png", "RGB"),
        ("PNG", "RGBA", "image/png", "RGBA"),
        ("PNG", "L", "image/png", "L"),
        ("PNG", "LA", "image/png", "LA"),
        ("PNG", "P", "image/png", "RGB"),
        ("PNG", "1", "image/png", "L"),
        ("PNG", "I;16", "image/png", "L"),
        ("WEBP", "RGB", "image/webp", "RGB"),
        ("WEBP", "RGBA", "image/webp", "RGBA"),
        ("GIF", "RGB", "image/jpeg", "RGB"),
        ("GIF", "L", "image/jpeg", "RGB"),
        ("GIF", "RGBA", "image/png", "RGBA"),
        ("BMP", "RGB", "image/jpeg", "RGB"),
        ("BMP", "1", "image/jpeg", "L"),
        ("BMP", "RGBA", "image/jpeg", "RGB"),
        ("TIFF", "RGB", "image/jpeg", "RGB"),
        ("TIFF", "RGBA", "image/png", "RGBA"),
        ("TIFF", "LA", "image/png", "LA"),
        ("TIFF", "CMYK", "image/jpeg", "RGB"),
        ("TIFF", "I;16B", "image/jpeg", "L"),
        ("TIFF", "I", "image/jpeg", "L"),
        ("TIFF", "F", "image/jpeg", "L"),
        ("AVIF", "RGB", "image/jpeg", "RGB"),
        ("AVIF", "RGBA", "image/png", "RGBA"),
    ],
)
def test_the_format_kept_or_chosen(as_format: str, mode: str, kept: str, made_mode: str) -> None:
    image = Image.new(mode, (40, 30))
    if mode == "RGBA":
        image.putpixel((0, 0), (9, 9, 9, 255))
    data = encoded(image, as_format)
    for how in (AGAIN, Resize(20, 20), Resize(20, 20, "cover")):
        made, kind = resize(data, how, max_pixels=MAX_PIXELS)
        assert kind == kept
        assert opened((made, kind)).mode == made_mode
        assert resize(data, how, max_pixels=MAX_PIXELS) == (made, kind)
    formats: tuple[Format, ...] = ("jpeg", "png", "webp")
    for wanted in formats:
        made, kind = resize(data, Resize(20, 20, format=wanted), max_pixels=MAX_PIXELS)
        assert kind == f"image/{wanted}"
        assert opened((made, kind)).size == (20, 15)


@pytest.mark.parametrize("subsampling", [0, 2])
def test_cmyk_jpeg_keeps_its_colours(subsampling: int) -> None:
    data = encoded(quarters().convert("CMYK"), "JPEG", quality=95, subsampling=subsampling)
    made = resized(data, Resize(60, 40, format="png"))
    assert made.mode == "RGB"
    assert has_corners(made)


def test_ycck_jpeg_keeps_its_colours() -> None:
    # Pillow writes only CMYK, so the marker of a white one is changed to call its planes YCCK.
    cmyk = encoded(Image.new("CMYK", (16, 16), (0, 0, 0, 0)), "JPEG", quality=100)
    marker = cmyk.index(b"Adobe\0") + 11
    ycck = cmyk[:marker] + b"\2" + cmyk[marker + 1 :]
    made = resized(ycck, Resize(None, None, format="png"))
    # All planes hold 255: Y=Cb=Cr=255 is C=0, M=134, Y=0, and Adobe stores CMYK inverted.
    assert made.mode == "RGB"
    assert is_close(at(made, 8, 8), (0, 134, 0), 3)


def test_16_bit_grey_is_scaled_and_not_clipped() -> None:
    levels = [0, 128, 257, 1000, 20000, 32768, 40000, 65000, 65535]
    row = b"\0" + struct.pack(f">{len(levels)}H", *levels)
    pictures = [png(len(levels), 1, bits=16, rows=row)]
    for mode, order in (("I;16", "<"), ("I;16B", ">")):
        samples = struct.pack(f"{order}{len(levels)}H", *levels)
        pictures.append(encoded(Image.frombytes(mode, (len(levels), 1), samples), "TIFF"))
    for data in pictures:
        made = resized(data, Resize(None, None, format="png"))
        assert made.mode == "L"
        assert greys(made) == [round(level / 257) for level in levels]


def test_a_16_bit_gradient_stays_a_gradient_when_it_is_made_smaller() -> None:
    row = b"\0" + struct.pack(">4096H", *range(0, 65536, 16))
    made = greys(resized(png(4096, 8, bits=16, rows=row * 8), Resize(64, None)))
    assert made[0] < 4
    assert made[-1] > 251
    assert all(0 < after - before < 8 for before, after in pairwise(made))


@pytest.mark.parametrize(
    ("mode", "values"),
    [
        ("F", [0.0, 0.25, 0.5, 1.0]),
        ("F", [-1000.0, -500.0, 0.0, 1000.0]),
        ("I", [0, 16384, 32768, 65536]),
        ("I", [-(2**31), -(2**30), 0, 2**31 - 1]),
    ],
)
def test_numbers_without_a_fixed_white_are_stretched(mode: str, values: list[float]) -> None:
    image = Image.new(mode, (4, 1))
    for across, value in enumerate(values):
        image.putpixel((across, 0), value)
    made = resized(encoded(image, "TIFF"), Resize(None, None, format="png"))
    assert greys(made) == [0, 64, 128, 255]


def test_numbers_that_are_all_the_same_are_black() -> None:
    made = resized(encoded(Image.new("F", (4, 4), 7.0), "TIFF"), Resize(2, 2, format="png"))
    assert made.getextrema() == (0, 0)


def test_numbers_that_are_not_finite_are_unreadable() -> None:
    for value in (float("inf"), float("nan")):
        data = encoded(Image.new("F", (4, 4), value), "TIFF")
        with pytest.raises(ImageUnreadableError, match="finite"):
            resize(data, AGAIN, max_pixels=MAX_PIXELS)


def test_one_bit_is_smoothed_when_it_is_made_smaller() -> None:
    image = Image.new("1", (64, 64))
    image.paste(1, (0, 0, 64, 24))
    made = resized(encoded(image, "PNG"), Resize(4, 4))
    assert at(made, 0, 0)[0] > 245
    assert at(made, 0, 3)[0] < 10
    assert 80 < at(made, 0, 1)[0] < 175


@pytest.mark.parametrize("transparency", [0, b"\0\x80\xff"])
def test_a_palette_with_transparent_colours_becomes_alpha(transparency: int | bytes) -> None:
    image = Image.new("P", (30, 10))
    image.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255])
    image.paste(1, (10, 0, 20, 10))
    image.paste(2, (20, 0, 30, 10))
    data = encoded(image, "PNG", transparency=transparency)
    made = resized(data, AGAIN)
    assert made.mode == "RGBA"
    assert made.getpixel((5, 5)) == (255, 0, 0, 0)
    assert made.getpixel((15, 5)) == (0, 255, 0, 255 if transparency == 0 else 128)
    assert made.getpixel((25, 5)) == (0, 0, 255, 255)
    white = resized(data, Resize(None, None, format="jpeg", quality=95))
    assert is_close(at(white, 4, 5), (255, 255, 255), 10)
    assert is_close(at(white, 25, 5), (0, 0, 255), 10)


@pytest.mark.parametrize("mode", ["L", "RGB", "1"])
def test_one_colour_named_transparent_becomes_alpha(mode: str) -> None:
    image = Image.new(mode, (20, 10), "white")
    image.paste("black", (0, 0, 10, 10))
    transparency = (0, 0, 0) if mode == "RGB" else 0
    made = resized(encoded(image, "PNG", transparency=transparency), AGAIN).convert("RGBA")
    assert at(made, 5, 5)[3] == 0
    assert made.getpixel((15, 5)) == (255, 255, 255, 255)


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_alpha_lies_on_white_in_a_jpeg(mode: str) -> None:
    image = Image.new("RGBA", (60, 20), (0, 0, 0, 0))
    image.paste((0, 0, 0, 128), (20, 0, 40, 20))
    image.paste((0, 0, 0, 255), (40, 0, 60, 20))
    data = encoded(image.convert(mode), "PNG")
    made = resized(data, Resize(None, None, format="jpeg")).convert("RGB")
    for across, grey in ((8, 255), (30, 127), (52, 0)):
        assert is_close(at(made, across, 10), (grey,) * 3, 12)


def test_the_colour_of_transparent_pixels_does_not_bleed() -> None:
    image = Image.new("RGBA", (64, 64), (255, 0, 0, 0))
    image.paste((0, 0, 255, 255), (0, 0, 31, 64))
    made = resized(encoded(image, "PNG"), Resize(8, 8))
    for across in range(8):
        red, _, _, alpha = at(made, across, 4)
        assert alpha < 5 or red < 5


@pytest.mark.parametrize("as_format", ["GIF", "WEBP", "PNG", "TIFF", "AVIF"])
def test_of_an_animation_it_is_the_first_frame(as_format: str) -> None:
    frames = [Image.new("RGB", (40, 20), colour) for colour in CORNERS]
    data = encoded(frames[0], as_format, save_all=True, append_images=frames[1:])
    made = resized(data, Resize(20, 20))
    assert made.size == (20, 10)
    assert getattr(made, "n_frames", 1) == 1
    assert is_close(at(made.convert("RGB"), 10, 5), RED)


def test_only_pixels_are_left() -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Make] = "a camera"
    extra = {"icc_profile": b"a profile", "exif": exif}
    for as_format, options in [
        ("JPEG", {**extra, "comment": b"a comment", "dpi": (300, 300)}),
        ("PNG", {**extra, "dpi": (300, 300)}),
        ("WEBP", extra),
    ]:
        data = encoded(quarters(), as_format, **options)
        assert b"a profile" in data or as_format == "PNG"
        made = resized(data, AGAIN)
        assert set(made.info) <= {"jfif", "jfif_version", "jfif_unit", "jfif_density", "loop"} | {
            "background",
            "timestamp",
            "duration",
        }


def test_quality_is_kept_to() -> None:
    data = encoded(Image.effect_noise((200, 200), 80), "PNG")
    formats: tuple[Format, ...] = ("jpeg", "webp")
    for wanted in formats:
        sizes = [
            len(resize(data, Resize(None, None, "contain", wanted, quality), max_pixels=40_000)[0])
            for quality in (10, 50, 90)
        ]
        assert sizes == sorted(set(sizes))


@pytest.mark.parametrize("as_format", FORMATS)
def test_pixels_are_counted_before_they_are_decoded(as_format: str) -> None:
    data = encoded(Image.new("RGB", (40, 30)), as_format)
    resize(data, AGAIN, max_pixels=1200)
    with pytest.raises(ImageUnreadableError, match="40 x 30"):
        resize(data, AGAIN, max_pixels=1199)


@pytest.mark.parametrize("max_pixels", [MAX_PIXELS, 10**12])
@pytest.mark.parametrize(("width", "height"), [(60_000, 60_000), (10_000, 10_000), (2**31 - 1, 1)])
def test_a_bomb_is_refused_by_its_header(width: int, height: int, max_pixels: int) -> None:
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        with pytest.raises(ImageUnreadableError, match=f"{width} x {height}"):
            resize(png(width, height), Resize(64, 64), max_pixels=max_pixels)
    assert not warned


def test_a_picture_without_pixels_is_unreadable() -> None:
    empty = b"GIF89a" + bytes(7) + b"," + bytes(9) + b"\2\0;"
    with pytest.raises(ImageUnreadableError, match="can not be read"):
        resize(empty, AGAIN, max_pixels=MAX_PIXELS)


def test_a_picture_over_the_limit_of_an_encoder_can_not_be_made() -> None:
    data = encoded(Image.new("L", (17_000, 1)), "PNG")
    with pytest.raises(ImageUnreadableError):
        resize(data, Resize(None, None, format="webp"), max_pixels=MAX_PIXELS)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"not a picture",
        b"\xff\xd8\xff",
        b"\x89PNG\r\n\x1a\n",
        b"GIF89a",
        b"RIFF\0\0\0\0WEBP",
        b"II*\0\x08\0\0\0\0\0",
        b"\0\0\0\x14ftypavif\0\0\0\0avif",
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
        b"P6 2 2 255 " + bytes(12),
        png(0, 0),
        png(3, 3, rows=b"\0\0"),
    ],
)
def test_what_is_no_picture_is_unreadable(data: bytes) -> None:
    with pytest.raises(ImageUnreadableError) as raised:
        resize(data, Resize(10, 10), max_pixels=MAX_PIXELS)
    assert "object at 0x" not in str(raised.value)


def small(as_format: str) -> bytes:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    options = {} if as_format in ("GIF", "BMP") else {"exif": exif}
    return encoded(quarters(12, 8), as_format, **options)


def resize_or_refuse(data: bytes) -> bool:
    """Whether a picture could be made; any error but the one that is promised fails the test."""
    try:
        made = resize(data, Resize(5, 5, "cover"), max_pixels=100_000)
    except ImageUnreadableError:
        return False
    assert opened(made).size == (5, 5)
    return True


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("as_format", FORMATS)
def test_a_picture_cut_short_anywhere(as_format: str) -> None:
    data = small(as_format)
    assert resize_or_refuse(data)
    made = [resize_or_refuse(data[:end]) for end in range(len(data))]
    assert not any(made[: len(data) // 2])


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("as_format", FORMATS)
@given(flips=st.lists(st.tuples(st.integers(0, 10_000), st.integers(1, 255)), min_size=1))
@settings(deadline=None, max_examples=150)
def test_flipped_bytes(as_format: str, flips: list[tuple[int, int]]) -> None:
    data = bytearray(small(as_format))
    for place, bits in flips:
        data[place % len(data)] ^= bits
    resize_or_refuse(bytes(data))
