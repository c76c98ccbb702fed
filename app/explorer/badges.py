"""Badges: how many problems of a kind there are, and how bad that is."""

from collections.abc import Mapping
from dataclasses import dataclass

from app.check.kinds import KINDS, Severity

_WORST_FIRST = list(Severity)


@dataclass(frozen=True, slots=True)
class Badge:
    """Problems of one kind, counted."""

    kind: str
    severity: Severity
    title: str
    count: int


def make_badges(counts: Mapping[str, int]) -> list[Badge]:
    """A badge for each kind that there is, the worst first."""
    badges = [
        Badge(kind, KINDS[kind].severity, KINDS[kind].title, count)
        for kind, count in counts.items()
        if count
    ]
    return sorted(badges, key=lambda badge: (_WORST_FIRST.index(badge.severity), badge.kind))
