"""Key rules that make one image id into one key: guesses, to be tried on all of them."""

import re
from collections.abc import Iterator
from difflib import SequenceMatcher
from itertools import product

from app.key_rules import KeyRule, KeyRules

Rules = tuple[KeyRule, ...]

_MIN_COMMON = 3  # characters that an id and its key share at the least
_LAST_NUMBER = re.compile(r"\d+(?=\D*$)")
_TOKENS = re.compile(r"\d+|[A-Za-z]+|.", re.DOTALL)
_REPEATED = KeyRule(r"([_/].{2,100})\1", r"\1")


def derive_rules(image_id: str, key: str) -> set[Rules]:
    """Some ways to make the id the key."""
    found = {
        (*first, *rules)
        for first in ((), *_pad(image_id, key), *_fold(image_id))
        for rules in _derive(KeyRules(first).apply(image_id), key)
    }
    return {rules for rules in found if rules and KeyRules(rules).apply(image_id) == key}


def _derive(image_id: str, key: str) -> Iterator[Rules]:
    yield ()
    yield from _swap_ends(image_id, key)
    yield from _swap_middle(image_id, key)


def _pad(image_id: str, key: str) -> Iterator[Rules]:
    """The last number with as many digits as the key's has."""
    own, wanted = _LAST_NUMBER.search(image_id), _LAST_NUMBER.search(key)
    if own is None or wanted is None or int(own[0]) != int(wanted[0]):
        return
    width = len(wanted[0])
    cut = KeyRule(rf"0+(\d{{{width}}})(?=\D*$)", r"\1")
    if width > len(own[0]):
        yield KeyRule(r"(\d+)(?=\D*$)", "0" * width + r"\1"), cut
    elif width < len(own[0]):
        yield (KeyRule(r"(?<!\d)0+(?=\d+\D*$)", ""),)
        yield (cut,)


def _fold(image_id: str) -> Iterator[Rules]:
    """One of two equal parts that follow each other."""
    if re.search(_REPEATED.pattern, image_id):
        yield (_REPEATED,)


def _swap_ends(image_id: str, key: str) -> Iterator[Rules]:
    """What is before and behind the longest common part, replaced."""
    same = SequenceMatcher(None, image_id, key, autojunk=False).find_longest_match()
    if same.size >= min(_MIN_COMMON, len(image_id), len(key)) > 0:
        heads = _list_heads(image_id[: same.a], key[: same.b])
        tails = _list_tails(image_id[same.a + same.size :], key[same.b + same.size :])
        for head, tail in product(heads, tails):
            yield (*head, *tail)


def _list_heads(own: str, wanted: str) -> list[Rules]:
    if own == wanted:
        return [()]
    if not own:
        # Where some ids have the prefix already, those shall stay as they are.
        return [(KeyRule(start, _literal(wanted)),) for start in ("^", f"^(?!{re.escape(wanted)})")]
    _, slash, name = own.rpartition("/")
    patterns = {f"^{re.escape(own)}", f"^{_shape(own, words=False)}"}
    if slash:
        patterns |= {f"^.*/{re.escape(name)}"}
    return [(KeyRule(pattern, _literal(wanted)),) for pattern in sorted(patterns)]


def _list_tails(own: str, wanted: str) -> list[Rules]:
    if own == wanted:
        return [()]
    if not own:
        return [(KeyRule(end, _literal(wanted)),) for end in ("$", f"(?<!{re.escape(wanted)})$")]
    patterns = {f"{re.escape(own)}$", f"{_shape(own, words=False)}$"}
    if own.startswith("."):
        patterns |= {r"\.\w+$"}
    return [(KeyRule(pattern, _literal(wanted)),) for pattern in sorted(patterns)]


def _swap_middle(image_id: str, key: str) -> Iterator[Rules]:
    """What is between the common start and the common end, replaced, wherever both look alike."""
    start = _count_common(image_id, key)
    end = _count_common(image_id[start:][::-1], key[start:][::-1])
    while start and _splits_word(image_id, start) and image_id[start - 1] == key[start - 1]:
        start -= 1  # whole words and numbers, which stand for others of their kind
    own, wanted = image_id[start : len(image_id) - end], key[start : len(key) - end]
    if start and end and own != wanted:
        for words in (False, True):
            parts = (image_id[:start], own, image_id[len(image_id) - end :])
            before, middle, behind = (_shape(part, words=words) for part in parts)
            pattern = f"^({before}){middle}({behind})$"
            yield (KeyRule(pattern, rf"\g<1>{_literal(wanted)}\g<2>"),)


def _count_common(one: str, other: str) -> int:
    """How many characters they begin with alike."""
    for number, (mine, yours) in enumerate(zip(one, other, strict=False)):
        if mine != yours:
            return number
    return min(len(one), len(other))


def _splits_word(text: str, at: int) -> bool:
    return at < len(text) and text[at - 1].isalnum() and text[at].isalnum()


def _shape(text: str, *, words: bool) -> str:
    """A pattern for texts that differ from this one in their numbers, or in their words too."""
    return "".join(_token(token, words) for token in _TOKENS.findall(text))


def _token(token: str, words: bool) -> str:
    if token.isdecimal():
        return r"\d+"
    return "[A-Za-z]+" if words and token.isalpha() and token.isascii() else re.escape(token)


def _literal(text: str) -> str:
    return text.replace("\\", r"\\")
