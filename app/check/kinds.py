"""Every kind of problem there is: what it is, how bad, and what to do about it."""

from enum import StrEnum
from typing import NamedTuple


class Severity(StrEnum):
    """How bad a problem is."""

    ERROR = "error"
    """Data is lost, or instructions are never drawn."""
    WARNING = "warning"
    """It is served, and is likely not what was meant."""
    NOTE = "note"
    """It costs no more than disk space."""


class Kind(NamedTuple):
    """A kind of problem; docs/check.md has the same texts."""

    name: str
    severity: Severity
    title: str
    advice: str


_ALL = (
    Kind(
        "missing_image",
        Severity.ERROR,
        "images that instructions name and no source has",
        "Name the source that has them in images_path. Where ids and keys are only written "
        "differently, mimicit check --suggest proposes key_rules.",
    ),
    Kind(
        "unreadable_image",
        Severity.ERROR,
        "images that instructions name and that can not be read",
        "The image has a problem of its own, listed here as well. Put the picture in its place.",
    ),
    Kind(
        "null_image",
        Severity.ERROR,
        "images whose value is null",
        "Write the picture again, or take the row out.",
    ),
    Kind(
        "empty_image",
        Severity.ERROR,
        "images whose value is empty",
        "Write the picture again, or take the row out.",
    ),
    Kind(
        "undecodable_image",
        Severity.ERROR,
        "images whose value is not base64",
        "Encode the picture's bytes as base64, standard or URL-safe.",
    ),
    Kind(
        "large_image",
        Severity.ERROR,
        "images whose value is over max_value_bytes",
        "Make the picture smaller, or raise the setting max_value_bytes.",
    ),
    Kind(
        "undecodable_picture",
        Severity.ERROR,
        "pictures that do not decode",
        "The bytes are cut short, damaged or no picture: fetch it again from where it came from.",
    ),
    Kind(
        "large_picture",
        Severity.ERROR,
        "pictures over the pixel limit",
        "Make the picture smaller, or raise the setting max_image_pixels.",
    ),
    Kind(
        "conflicting_image",
        Severity.ERROR,
        "keys that a source has more than once, with other bytes",
        "One of the pictures is never served. Give each a key of its own.",
    ),
    Kind(
        "unnamed_image",
        Severity.ERROR,
        "images without a key",
        "Give the image a key; an index that is not text is none.",
    ),
    Kind(
        "long_key",
        Severity.ERROR,
        "images whose key is over 1,000 bytes",
        "Give the image a shorter key.",
    ),
    Kind(
        "invalid_record",
        Severity.ERROR,
        "records of the wrong shape",
        "A record is an object with the texts instruction and answer, and image_ids and "
        "rel_ins_ids as lists of text.",
    ),
    Kind(
        "duplicate_instruction",
        Severity.ERROR,
        "ids that an instructions file has more than once",
        "Only the last record is read. Give each an id of its own.",
    ),
    Kind(
        "invalid_train_config",
        Severity.ERROR,
        "entries of a train config of the wrong shape",
        "An entry is an id and a list of context ids.",
    ),
    Kind(
        "duplicate_train_id",
        Severity.ERROR,
        "ids that a train config has more than once",
        "Only the last entry is read. Take the others out.",
    ),
    Kind(
        "unknown_train_id",
        Severity.ERROR,
        "ids of a train config that no instruction has",
        "They are never drawn. Correct the id, or take the entry out.",
    ),
    Kind(
        "dangling_context",
        Severity.WARNING,
        "context ids that no instruction has",
        "The instruction is drawn without them. Correct rel_ins_ids or the train config.",
    ),
    Kind(
        "self_context",
        Severity.WARNING,
        "instructions that are in their own context",
        "The model sees the answer before the question. Take the id out of its own context.",
    ),
    Kind(
        "empty_answer",
        Severity.WARNING,
        "instructions whose answer is empty",
        "They are drawn, and teach the model to say nothing. Write an answer, or take them out.",
    ),
    Kind(
        "empty_instruction",
        Severity.WARNING,
        "instructions whose instruction is empty",
        "They are drawn without a question. Write one, or take them out.",
    ),
    Kind(
        "shared_instruction",
        Severity.WARNING,
        "ids that several instructions files have",
        "Such an id can only be asked for with its dataset. Give each an id of its own.",
    ),
    Kind(
        "ambiguous_image",
        Severity.WARNING,
        "keys that several image sources have, with other bytes",
        "Such a key can only be asked for with its dataset. Give each picture a key of its own.",
    ),
    Kind(
        "shared_image",
        Severity.NOTE,
        "keys that several image sources have, with the same bytes",
        "Nothing is wrong with it; one source for all of its datasets takes less space.",
    ),
    Kind(
        "duplicate_image",
        Severity.NOTE,
        "keys that a source has more than once, with the same bytes",
        "Nothing is lost; the repeated rows take space.",
    ),
    Kind(
        "unused_image",
        Severity.NOTE,
        "images that no instruction uses",
        "They are served, and never drawn. Where they should be used, see missing_image.",
    ),
)
KINDS = {kind.name: kind for kind in _ALL}
# What `--fail-on` takes for the kinds that it stands for.
ERRORS = frozenset(kind.name for kind in _ALL if kind.severity is Severity.ERROR)


def parse_fail_on(words: list[str]) -> frozenset[str]:
    """The kinds that `--fail-on` names, in words that may be lists: `any`, `none`, `errors`.

    Raises ValueError, with every kind, if there is no such kind.
    """
    groups = {"any": frozenset(KINDS), "none": frozenset[str](), "errors": ERRORS}
    named: frozenset[str] = frozenset()
    for word in (part.strip() for text in words for part in text.split(",")):
        if word not in groups and word not in KINDS:
            raise ValueError(
                f"{word[:100]!r} is no kind of problem; write {', '.join(groups)}, or some of "
                f"{', '.join(KINDS)}"
            )
        named |= groups.get(word, {word})
    return named
