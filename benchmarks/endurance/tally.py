"""What came of the questions: each is right, wrong, or failed for a reason that is counted."""

import hashlib
import json
import statistics
from array import array
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from benchmarks.endurance.connection import Answer
from benchmarks.endurance.pack import Pack
from benchmarks.endurance.questions import RIGHT, WRONG, Question

# The connection was refused, ended before the answer began, or ended in its middle.
NOT_TAKEN, UNANSWERED, CUT_OFF = "not taken", "unanswered", "cut off"
_REFUSALS = (429, 503)
_SHOWN = 10


@dataclass(slots=True)
class Tally:
    """Counts of one stretch of time; latencies are in seconds, of what was right."""

    failed: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    wrong_count: int = 0
    seconds: "array[float]" = field(default_factory=lambda: array("d"))

    @property
    def right_count(self) -> int:
        """How many were right."""
        return len(self.seconds)

    @property
    def count(self) -> int:
        """All that were asked."""
        return self.right_count + self.wrong_count + self.failed.total()

    def quantile_ms(self, share: float) -> float:
        """So long took that share of those that were right, or less."""
        ordered = sorted(self.seconds)
        return 1e3 * ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0

    def describe_failed(self) -> str:
        """The reasons and their counts."""
        return ", ".join(f"{n:,} {why}" for why, n in sorted(self.failed.items())) or "0"

    def add(self, outcome: str, seconds: float, question: Question, answer: Answer) -> None:
        """Count an answer."""
        if outcome == RIGHT:
            self.seconds.append(seconds)
        elif outcome == WRONG:
            self.wrong_count += 1
            if len(self.wrong) < _SHOWN:
                self.wrong.append(f"{question.path}: {answer.status} {answer.body[:200]!r}")
        else:
            self.failed[outcome] += 1


@dataclass(slots=True)
class Judge:
    """Says whether answers are right, by the packs that may be served at the time.

    A revision is of one pack: the first answer that only one of them explains says which.
    """

    packs: list[Pack]
    _pack_of: dict[str, Pack] = field(default_factory=dict)
    _seen: dict[tuple[str, str], bytes] = field(default_factory=dict)

    def judge(self, question: Question, answer: Answer) -> str:
        """RIGHT, WRONG, or why it failed."""
        if answer.status in _REFUSALS and "retry-after" in answer.headers:
            return str(json.loads(answer.body)["code"])
        revision = answer.headers.get("x-catalog-revision", "")
        known = self._pack_of.get(revision)
        outcomes = [
            (_check(question, answer, one), one) for one in ([known] if known else self.packs)
        ]
        good = [(outcome, pack) for outcome, pack in outcomes if outcome != WRONG]
        if not good:
            return WRONG
        if len(self.packs) > 1 and len(good) == 1 and revision:
            self._pack_of[revision] = good[0][1]
        if question.is_determined and good[0][0] == RIGHT:
            digest = hashlib.sha256(answer.body).digest()
            if self._seen.setdefault((revision, question.path), digest) != digest:
                return WRONG
        return good[0][0]


def _check(question: Question, answer: Answer, pack: Pack) -> str:
    try:
        return question.check(answer, pack)
    except (ValueError, KeyError, TypeError, OSError):  # no JSON, no Arrow, other names
        return WRONG


def median(values: Sequence[float]) -> float:
    """The median, 0 of none."""
    return statistics.median(values) if values else 0.0
