"""Key rules that make missing image ids resolve: guessed from some ids, tried on all."""

import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from app.catalog.catalog import Catalog
from app.catalog.image_ids import ImageIds
from app.catalog.questions import Questions
from app.check.candidates import Rules, derive_rules
from app.check.report import Rule, Suggestion
from app.check.subjects import list_joined
from app.key_rules import MAX_ID_CHARS, MAX_RULES, KeyRule, KeyRules, check_pattern, check_replace
from app.progress import Progress
from app.progress import Report as Tell

KeyRulesOf = Mapping[str, Rules]  # by dataset

_GUESSED_IDS = 60  # whose keys are looked for
_SAMPLED_IDS = 2000  # on which guesses are compared
# Guesses that are compared on the sample, and how many of them may break what resolves before it
# is given up: trying one on a million ids takes 5 s.
_COMPARED, _TRIED = 60, 6
_ROUNDS = 3  # a release may have ids of several makes


def suggest_rules(
    catalog: Catalog, questions: Questions, existing: KeyRulesOf, tell: Tell
) -> list[Suggestion]:
    """For each dataset with missing images the rules that make most of them resolve, if any; the
    most helpful first. None changes an id that resolves."""
    found = []
    for dataset, subject in list_joined(catalog):
        if dataset.images is not None and dataset.facts.problems.get("missing_image"):
            tell(Progress(f"{subject.name}: looking for key rules"))
            with tempfile.TemporaryDirectory(prefix=".tmp-", dir=dataset.folder.parent) as folder:
                ids = ImageIds(dataset.instructions, dataset.images, questions, Path(folder))
                suggestion = _suggest(ids, subject.datasets, existing[dataset.name])
            if suggestion is not None:
                found.append(suggestion)
    return sorted(found, key=lambda one: one.missing_after - one.missing_before)


def _suggest(ids: ImageIds, datasets: list[str], existing: Rules) -> Suggestion | None:
    chosen: Rules = ()
    missing = ids.missing
    for _ in range(_ROUNDS):
        room = MAX_RULES - len(existing) - len(chosen)
        better = _improve(ids, chosen, room) if missing else None
        if better is None:
            break
        chosen, missing = (*chosen, *better[0]), missing - better[1]
    if not chosen:
        return None
    return Suggestion(
        datasets=datasets,
        named=ids.named,
        missing_before=ids.missing,
        missing_after=missing,
        rules=[Rule(rule.pattern, rule.replace) for rule in chosen],
        yaml=write_yaml((*existing, *chosen)),
    )


def _improve(ids: ImageIds, chosen: Rules, room: int) -> tuple[Rules, int] | None:
    """The rules that, behind those chosen, make most ids of the sample resolve and break none of
    all; and how often a missing image is found with them."""
    before = KeyRules(chosen).apply
    sample = ids.sample_missing(_SAMPLED_IDS)
    there = ids.count_there([[before(one)] for one in sample]) if chosen else {}
    left = [before(one) for number, one in enumerate(sample) if number not in there]
    left = [one for one in left if len(one) <= MAX_ID_CHARS]
    votes = Counter(
        rules
        for id, key in ids.list_alike(left[:_GUESSED_IDS])
        for rules in derive_rules(id, key)
        if len(rules) <= room and all(map(_is_allowed, rules))
    )
    guesses = sorted(votes, key=lambda rules: (-votes[rules], *_rank(rules)))[:_COMPARED]
    counts = ids.count_there([list(map(KeyRules(rules).apply, left)) for rules in guesses])
    ranked = sorted(counts, key=lambda number: (-counts[number], *_rank(guesses[number])))
    for number in ranked[:_TRIED]:
        rules = guesses[number]
        trial = ids.try_rules(before, KeyRules((*chosen, *rules)).apply)
        if trial.resolved and not trial.broken:
            return rules, trial.resolved
    return None


def _rank(rules: Rules) -> tuple[int, str]:
    """Fewer and shorter rules first; else any order that is always the same."""
    return sum(len(rule.pattern) + len(rule.replace) + 10 for rule in rules), str(rules)


def _is_allowed(rule: KeyRule) -> bool:
    try:
        check_pattern(rule.pattern)
        check_replace(rule.replace, rule.pattern)
    except ValueError:
        return False
    return True


def write_yaml(rules: Sequence[KeyRule]) -> str:
    """The rules as a field of a dataset in the data YAML."""
    lines = ["    key_rules:"]
    for rule in rules:
        lines += [
            f"      - pattern: {_quote(rule.pattern)}",
            f"        replace: {_quote(rule.replace)}",
        ]
    return "\n".join(lines)


def _quote(text: str) -> str:
    if text.isprintable():
        return "'" + text.replace("'", "''") + "'"
    escaped = (
        one if one.isprintable() and one not in '"\\' else f"\\U{ord(one):08x}" for one in text
    )
    return f'"{"".join(escaped)}"'
