"""Pictures of coloured shapes: a scene says what is in one, drawing makes its bytes.

A scene is a pure function of (seed, source, number), so a question about a picture needs the scene
and never the pixels, and nothing has to be kept between drawing a picture and asking about it.
"""

from dataclasses import dataclass
from io import BytesIO
from itertools import product
from math import cos, pi, radians, sin
from random import Random

from PIL import Image, ImageDraw, ImageFilter

Colour = tuple[int, int, int]
Point = tuple[float, float]

COLOURS: dict[str, Colour] = {
    "red": (222, 56, 56),
    "orange": (245, 139, 32),
    "yellow": (250, 207, 50),
    "green": (66, 168, 88),
    "blue": (50, 112, 214),
    "purple": (130, 74, 186),
    "pink": (245, 120, 178),
    "brown": (130, 84, 54),
}

BACKGROUNDS: dict[str, tuple[Colour, Colour]] = {
    "cream": ((255, 251, 240), (243, 230, 207)),
    "pale blue": ((240, 248, 255), (205, 225, 243)),
    "pale green": ((243, 251, 241), (210, 232, 212)),
    "lilac": ((248, 245, 255), (221, 213, 240)),
    "light grey": ((250, 250, 251), (218, 222, 228)),
}

_TURN = 2 * pi
_HEART_POINTS = 64
# Corners from -1 to 1, y downwards, before tilting; a circle needs none.
OUTLINES: dict[str, tuple[Point, ...]] = {
    "circle": (),
    "square": ((-0.82, -0.82), (0.82, -0.82), (0.82, 0.82), (-0.82, 0.82)),
    "triangle": ((0, -0.9), (0.98, 0.8), (-0.98, 0.8)),
    "diamond": ((0, -1), (0.74, 0), (0, 1), (-0.74, 0)),
    "star": tuple(
        (r * sin(_TURN * k / 10), 0.06 - r * cos(_TURN * k / 10))
        for k in range(10)
        for r in [1.04 if k % 2 == 0 else 0.46]
    ),
    "heart": tuple(
        (
            0.96 * sin(t) * abs(sin(t)),
            -0.06 - 0.78 * cos(t) + 0.3 * cos(2 * t) + 0.12 * cos(3 * t) + 0.06 * cos(4 * t),
        )
        for t in (_TURN * k / _HEART_POINTS for k in range(_HEART_POINTS))
    ),
    "cross": (
        *((-0.32, -0.95), (0.32, -0.95), (0.32, -0.32), (0.95, -0.32)),
        *((0.95, 0.32), (0.32, 0.32), (0.32, 0.95), (-0.32, 0.95)),
        *((-0.32, 0.32), (-0.95, 0.32), (-0.95, -0.32), (-0.32, -0.32)),
    ),
}

KINDS = tuple(OUTLINES)
CELLS = tuple(product(range(3), range(3)))
MIN_SIDE_PIXELS, MAX_SIDE_PIXELS = 160, 480
_FORMATS = ("JPEG",) * 8 + ("PNG", "WEBP")
_SUPERSAMPLING = 4
_FAINT = [round(0.3 * coverage) for coverage in range(256)]


@dataclass(frozen=True, slots=True)
class Shape:
    """One coloured shape in one cell of a 3 by 3 grid; row 0 is the top, column 0 the left."""

    colour: str
    kind: str
    row: int
    column: int
    scale: float
    tilt_degrees: float


@dataclass(frozen=True, slots=True)
class Scene:
    """What a picture shows: 1 to 6 shapes, in reading order, no two in the same cell."""

    width_pixels: int
    height_pixels: int
    background: str
    format: str
    shapes: tuple[Shape, ...]


def get_scene(seed: int, source: str, number: int) -> Scene:
    """The scene of picture `number` of a source, the same whenever it is asked for."""
    chance = Random(f"{seed}/{source}/{number}")
    # Few colours and kinds in one picture, so that some come twice and counting is a question.
    colours = chance.sample(list(COLOURS), chance.randint(2, 3))
    kinds = chance.sample(KINDS, chance.randint(2, 3))
    cells = sorted(chance.sample(CELLS, chance.randint(1, 6)))
    long_side = chance.randint(MIN_SIDE_PIXELS * 3 // 2, MAX_SIDE_PIXELS)
    width, height = chance.sample((long_side, round(long_side * chance.uniform(2 / 3, 1))), 2)
    return Scene(
        width_pixels=width,
        height_pixels=height,
        background=chance.choice(list(BACKGROUNDS)),
        format=chance.choice(_FORMATS),
        shapes=tuple(
            Shape(
                colour=chance.choice(colours),
                kind=chance.choice(kinds),
                row=row,
                column=column,
                scale=chance.uniform(0.66, 0.86),
                tilt_degrees=chance.uniform(-8, 8),
            )
            for row, column in cells
        ),
    )


def draw_scene(scene: Scene) -> Image.Image:
    """The picture of a scene, RGB, antialiased."""
    size = (scene.width_pixels, scene.height_pixels)
    picture = _fade(*BACKGROUNDS[scene.background], size)
    cell_width, cell_height = scene.width_pixels / 3, scene.height_pixels / 3
    for shape in scene.shapes:
        side = round(min(cell_width, cell_height) * shape.scale)
        mask = _draw_mask(shape, side)
        left = round((shape.column + 0.5) * cell_width - mask.width / 2)
        top = round((shape.row + 0.5) * cell_height - mask.height / 2)
        shadow = mask.filter(ImageFilter.GaussianBlur(side / 24)).point(_FAINT)
        picture.paste((40, 40, 70), (left, top + round(side / 20)), shadow)
        colour = COLOURS[shape.colour]
        light = _mix(colour, (255, 255, 255), 0.22)
        picture.paste(_fade(light, colour, mask.size), (left, top), mask)
    return picture


def encode_picture(picture: Image.Image, format: str) -> bytes:
    """The bytes of a picture as JPEG, PNG or WEBP."""
    file = BytesIO()
    match format:
        case "JPEG":
            picture.save(file, format, quality=88)
        case "PNG":
            picture.save(file, format, compress_level=3)
        case _:
            picture.save(file, format, quality=85, method=1)
    return file.getvalue()


def _draw_mask(shape: Shape, side: int) -> Image.Image:
    """A shape's coverage, 0 to 255, with a margin of an eighth of its side for the shadow."""
    margin = side // 8 + 1
    large = (side + 2 * margin) * _SUPERSAMPLING
    mask = Image.new("L", (large, large))
    pen = ImageDraw.Draw(mask)
    centre, radius = large / 2, side * _SUPERSAMPLING / 2

    def disc(x: float, y: float, r: float) -> None:
        pen.ellipse((x - r, y - r, x + r, y + r), fill=255)

    if not OUTLINES[shape.kind]:
        disc(centre, centre, radius * 0.94)
        return mask.reduce(_SUPERSAMPLING)

    # The outline is drawn smaller by the radius of its corners, then stroked to its full size.
    corner = radius * 0.09
    turn = radians(shape.tilt_degrees)
    points = [
        (
            centre + (radius - corner) * (x * cos(turn) - y * sin(turn)),
            centre + (radius - corner) * (x * sin(turn) + y * cos(turn)),
        )
        for x, y in OUTLINES[shape.kind]
    ]
    pen.polygon(points, fill=255)
    pen.line([*points, points[0]], fill=255, width=round(2 * corner))
    for x, y in points:
        disc(x, y, corner)
    return mask.reduce(_SUPERSAMPLING)


def _fade(first: Colour, last: Colour, size: tuple[int, int]) -> Image.Image:
    """A gradient from `first`, top left, to `last`, bottom right."""
    middle = _mix(first, last, 0.5)
    corners = Image.frombytes("RGB", (2, 2), bytes((*first, *middle, *middle, *last)))
    # From centre to centre of the four pixels, so that no corner is a flat patch.
    return corners.resize(size, Image.Resampling.BILINEAR, box=(0.5, 0.5, 1.5, 1.5))


def _mix(first: Colour, last: Colour, share: float) -> Colour:
    """The colour that lies `share` of the way from `first` to `last`."""
    red, green, blue = (round(a + (b - a) * share) for a, b in zip(first, last, strict=True))
    return red, green, blue
