"""True questions and answers about scenes, and true sums.

Every answer is a whole sentence that can be held against the scene. Chance picks what is asked and
how it is worded; what is answered is always counted from the scene.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random

from app.demo.pictures import CELLS, COLOURS, KINDS, Scene, Shape

PLACES = {
    (0, 0): "in the top left corner",
    (0, 1): "at the top centre",
    (0, 2): "in the top right corner",
    (1, 0): "at the centre left",
    (1, 1): "in the centre",
    (1, 2): "at the centre right",
    (2, 0): "in the bottom left corner",
    (2, 1): "at the bottom centre",
    (2, 2): "in the bottom right corner",
}

# Which shapes count as being on a side of another: by whole rows or columns, however far away.
SIDES: dict[str, Callable[[Shape, Shape], bool]] = {
    "left of": lambda shape, other: shape.column < other.column,
    "right of": lambda shape, other: shape.column > other.column,
    "above": lambda shape, other: shape.row < other.row,
    "below": lambda shape, other: shape.row > other.row,
}

ORDINALS = ("first", "second", "third")


@dataclass(frozen=True, slots=True)
class Text:
    """A question and its true answer."""

    instruction: str
    answer: str


def ask_about(scene: Scene, chance: Random) -> Text:
    """Any question about one picture."""
    return chance.choice(_QUESTIONS)(scene, chance)


def ask_for_count(scene: Scene, chance: Random) -> Text:
    """How many shapes of a colour, a kind, or both; one time in five of a colour not there."""
    seen = chance.choice(scene.shapes)
    colour = chance.choice(list(COLOURS)) if chance.random() < 0.2 else seen.colour
    kind = seen.kind
    colour, kind = chance.choice(((colour, kind), (colour, kind), (colour, ""), ("", kind)))
    count = sum(_is(shape, colour, kind) for shape in scene.shapes)
    many = _name(2, colour, kind)
    question = chance.choice(
        (
            f"How many {many} are there?",
            f"How many {many} can you see in the picture?",
            f"Count the {many} in this picture.",
            f"What is the number of {many} shown here?",
        )
    )
    verb = "is" if count == 1 else "are"
    return Text(question, f"There {verb} {count or 'no'} {_name(count, colour, kind)}.")


def ask_about_all(scenes: Sequence[Scene], task: int, chance: Random) -> Text:
    """A question about 2 or 3 pictures together; `task` says which of the three to ask."""
    return _TASKS[task % len(_TASKS)](scenes, chance)


def ask_for_sum(chance: Random) -> Text:
    """A sum, a difference or a product of whole numbers, none below zero."""
    first, second = chance.randint(2, 99), chance.randint(2, 99)
    match chance.choice("+-x"):
        case "+":
            sign, word, result = "+", "plus", first + second
        case "-":
            first, second = max(first, second), min(first, second)
            sign, word, result = "-", "minus", first - second
        case _:
            second = second % 12 + 1
            sign, word, result = "x", "times", first * second
    if chance.random() < 0.5:
        question = chance.choice(
            (f"What is {first} {sign} {second}?", f"{first} {sign} {second} =")
        )
        return Text(question, f"{first} {sign} {second} = {result}")
    question = chance.choice(
        (f"What is {first} {word} {second}?", f"How much is {first} {word} {second}?")
    )
    return Text(question, f"{first} {word} {second} is {result}.")


def _ask_what(scene: Scene, chance: Random) -> Text:
    """What is in a cell, one time in six a cell that may be empty."""
    seen = chance.choice(scene.shapes)
    cell = chance.choice(CELLS) if chance.random() < 1 / 6 else (seen.row, seen.column)
    place = PLACES[cell]
    question = chance.choice(
        (
            f"What is {place}?",
            f"What can you see {place}?",
            f"Which shape is {place} of the picture?",
            f"Tell me what is {place}.",
        )
    )
    found = [shape for shape in scene.shapes if (shape.row, shape.column) == cell]
    return Text(question, _capital(f"{_list(found) or 'nothing'} is {place}."))


def _ask_where(scene: Scene, chance: Random) -> Text:
    """Where a shape is, or where all of its colour and kind are."""
    seen = chance.choice(scene.shapes)
    found = [shape for shape in scene.shapes if _is(shape, seen.colour, seen.kind)]
    verb = "is" if len(found) == 1 else "are"
    name = _name(len(found), seen.colour, seen.kind)
    question = chance.choice(
        (
            f"Where {verb} the {name}?",
            f"Where in the picture {verb} the {name}?",
            f"Say where the {name} {verb}.",
        )
    )
    places = _join([PLACES[shape.row, shape.column] for shape in found])
    return Text(question, f"The {name} {verb} {places}.")


def _ask_colour(scene: Scene, chance: Random) -> Text:
    """What colours the shapes of a kind have."""
    kind = chance.choice(scene.shapes).kind
    found = [shape for shape in scene.shapes if shape.kind == kind]
    verb = "is" if len(found) == 1 else "are"
    name = _name(len(found), "", kind)
    question = chance.choice(
        (
            f"What colour {verb} the {name}?",
            f"Which colour {verb} the {name} in the picture?",
            f"Name the colour of the {name}.",
        )
    )
    colours = dict.fromkeys(shape.colour for shape in found)
    return Text(question, f"The {name} {verb} {_join(list(colours))}.")


def _ask_beside(scene: Scene, chance: Random) -> Text:
    """What is on one side of a shape that is the only one of its colour and kind."""
    names = [(shape.colour, shape.kind) for shape in scene.shapes]
    alone = [s for s in scene.shapes if names.count((s.colour, s.kind)) == 1]
    if not alone:
        return _ask_where(scene, chance)
    other = chance.choice(alone)
    side = chance.choice(list(SIDES))
    found = [shape for shape in scene.shapes if SIDES[side](shape, other)]
    name = _name(1, other.colour, other.kind)
    question = chance.choice(
        (
            f"What is {side} the {name}?",
            f"Which shapes are {side} the {name}?",
            f"List everything {side} the {name}.",
        )
    )
    verb = "is" if len(found) < 2 else "are"
    return Text(question, _capital(f"{_list(found) or 'nothing'} {verb} {side} the {name}."))


def _ask_whether(scene: Scene, chance: Random) -> Text:
    """Whether a colour and kind is in the picture, as often as not."""
    if chance.random() < 0.5:
        seen = chance.choice(scene.shapes)
        colour, kind = seen.colour, seen.kind
    else:
        colour, kind = chance.choice(list(COLOURS)), chance.choice(KINDS)
    name = _with_article(_name(1, colour, kind))
    question = chance.choice(
        (f"Is there {name}?", f"Can you see {name} in this picture?", f"Does it show {name}?")
    )
    if any(_is(shape, colour, kind) for shape in scene.shapes):
        return Text(question, f"Yes, there is {name}.")
    return Text(question, f"No, there is no {_name(1, colour, kind)}.")


def _describe(scene: Scene, chance: Random) -> Text:
    """Everything in the picture, in reading order."""
    question = chance.choice(
        (
            "Describe the picture.",
            "What does this picture show?",
            "Give a full description of the image.",
            "Say what is in the picture and where.",
        )
    )
    things = [f"{_list([shape])} {PLACES[shape.row, shape.column]}" for shape in scene.shapes]
    ground = _with_article(f"{scene.background} background")
    return Text(question, f"On {ground}: {_join(things)}.")


def _count_over_all(scenes: Sequence[Scene], chance: Random) -> Text:
    """How many shapes of a kind all pictures have together."""
    kind = chance.choice(chance.choice(scenes).shapes).kind
    count = sum(shape.kind == kind for scene in scenes for shape in scene.shapes)
    many = _name(2, "", kind)
    question = chance.choice(
        (
            f"How many {many} are there in all the pictures together?",
            f"Count the {many} over all pictures.",
        )
    )
    verb = "is" if count == 1 else "are"
    name = _name(count, "", kind)
    return Text(question, f"There {verb} {count} {name} in the {len(scenes)} pictures together.")


def _find_fullest(scenes: Sequence[Scene], chance: Random) -> Text:
    """Which picture, or pictures, have the most shapes."""
    question = chance.choice(
        ("Which picture has the most shapes?", "In which picture are there the most shapes?")
    )
    most = max(len(scene.shapes) for scene in scenes)
    fullest = [
        word for word, scene in zip(ORDINALS, scenes, strict=False) if len(scene.shapes) == most
    ]
    if len(fullest) == 1:
        return Text(question, f"The {fullest[0]} picture has the most shapes, {most}.")
    return Text(question, f"The {_join(fullest)} pictures have the most shapes, {most} each.")


def _find_shared(scenes: Sequence[Scene], chance: Random) -> Text:
    """Which colours every picture has."""
    question = chance.choice(
        ("Which colours are in every picture?", "What colours do all of the pictures share?")
    )
    seen = [{shape.colour for shape in scene.shapes} for scene in scenes]
    shared = [colour for colour in COLOURS if all(colour in colours for colours in seen)]
    verb = "is" if len(shared) < 2 else "are"
    return Text(question, _capital(f"{_join(shared) or 'no colour'} {verb} in every picture."))


def _is(shape: Shape, colour: str, kind: str) -> bool:
    """Whether a shape is of the colour and the kind, either left out if empty."""
    return colour in ("", shape.colour) and kind in ("", shape.kind)


def _name(count: int, colour: str, kind: str) -> str:
    """ "red circle", "red crosses", "blue shapes", "stars"."""
    plural = "" if count == 1 else "es" if kind == "cross" else "s"
    return f"{colour} {kind or 'shape'}{plural}".strip()


def _with_article(name: str) -> str:
    return f"{'an' if name[0] in 'aeiou' else 'a'} {name}"


def _list(shapes: Sequence[Shape]) -> str:
    """ "a red circle and 2 blue stars", empty if there are none."""
    names = [(shape.colour, shape.kind) for shape in shapes]
    return _join(
        [
            f"{count} {_name(count, *name)}" if count > 1 else _with_article(_name(1, *name))
            for name in dict.fromkeys(names)
            for count in [names.count(name)]
        ]
    )


def _join(words: Sequence[str]) -> str:
    """ "a", "a and b", "a, b and c"."""
    return " and ".join([part for part in (", ".join(words[:-1]), *words[-1:]) if part])


def _capital(sentence: str) -> str:
    return sentence[0].upper() + sentence[1:]


_QUESTIONS = (
    *(ask_for_count, _ask_what, _ask_where, _ask_colour, _ask_beside, _ask_whether),
    _describe,
)
_TASKS = (_count_over_all, _find_fullest, _find_shared)
