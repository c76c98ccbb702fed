"""Key rules: replacements by Python's `re` that make an instruction's image id into an image key.

They are applied in order, each to what the one before it made. docs/data-yaml.md states the rules.
"""

import re
import warnings
from dataclasses import dataclass

MAX_RULES = 20  # a prefix, a suffix and a padding take four; each is a pass over every image id
MAX_RULE_CHARS = 1_000  # of a pattern and of a replacement; what they make, a key, is no longer
MAX_ID_CHARS = 1_000  # a key ends at 1,000 bytes; without this 20 rules that double make 1 GB


@dataclass(frozen=True, slots=True)
class KeyRule:
    """What `pattern` finds in an image id is replaced by `replace`, as `re.sub` does it."""

    pattern: str
    replace: str


class KeyRules:
    """Rules that have been checked, compiled once."""

    def __init__(self, rules: tuple[KeyRule, ...]) -> None:
        self._steps = [(re.compile(rule.pattern).sub, rule.replace) for rule in rules]

    def apply(self, image_id: str) -> str:
        """What the rules make of the id; once it is over MAX_ID_CHARS no rule is applied to it."""
        for sub, replace in self._steps:
            if len(image_id) > MAX_ID_CHARS:
                break
            image_id = sub(replace, image_id)
        return image_id


def check_pattern(pattern: str) -> None:
    """Raise ValueError if it can not be a rule's pattern, saying what to write instead."""
    if not pattern:
        raise ValueError("is empty; write what is to be found, such as ^ for the start of the id")
    _check_length(pattern)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", FutureWarning)  # it will mean another thing one day
            re.compile(pattern)
    except (re.error, OverflowError, RecursionError, FutureWarning) as error:
        fix = r"write a backslash before each of . ^ $ * + ? ( ) [ ] { } | \ that stands for itself"
        raise ValueError(f"is no regular expression ({error!s:.200}); {fix}") from None


def check_replace(replace: str, pattern: str) -> None:
    """Raise ValueError if it can not replace what that pattern, which has been checked, finds."""
    _check_length(replace)
    compiled = re.compile(pattern)
    try:
        compiled.sub(replace, "")  # reads the replacement first, also where nothing is found
    except (re.error, IndexError) as error:
        groups = f"\\1 to \\{compiled.groups}" if compiled.groups else "no groups"
        fix = rf"write \g<0> for all that was found, \\ for a backslash; the pattern has {groups}"
        raise ValueError(f"can not be read ({error!s:.200}); {fix}") from None


def _check_length(text: str) -> None:
    if len(text) > MAX_RULE_CHARS:
        raise ValueError(f"has {len(text):,} characters; write at most {MAX_RULE_CHARS:,}")
