"""What a check finds, as it is written to JSON. docs/check.md names every field."""

import msgspec

from app.check.kinds import Severity
from app.histogram import Histogram

FORMAT_VERSION = 1


class Example(msgspec.Struct, frozen=True):
    """One problem: the id or key it is of, what it is, and a dataset and file that have it.

    Those are null where several have it between them, and `detail` names them.
    """

    name: str
    detail: str
    dataset: str | None
    path: str | None


class Share(msgspec.Struct, frozen=True):
    """How many problems of a kind a file or folder has, and the datasets that it is of."""

    datasets: list[str]
    path: str | None
    count: int


class Problem(msgspec.Struct, frozen=True):
    """All problems of one kind."""

    kind: str
    severity: Severity
    title: str
    advice: str
    count: int
    where: list[Share]
    examples: list[Example]


class DatasetReport(msgspec.Struct, frozen=True):
    """A dataset, its counts and how its samples are distributed."""

    name: str
    group: str
    path: str
    images_path: str | None
    instructions: int
    usable: int
    num_samples: int | None
    draws: int
    problems: dict[str, int]
    images_per_sample: Histogram
    answer_chars: Histogram


class FileReport(msgspec.Struct, frozen=True):
    """An images file: how it is read, why not in place if it is not, and what a lookup takes."""

    path: str
    size_bytes: int
    rows: int
    reader: str
    reason: str | None
    is_compared: bool
    lookup_us: float | None


class SourceReport(msgspec.Struct, frozen=True):
    """An image source, which datasets may share; pictures' sizes are known once decoded."""

    path: str
    datasets: list[str]
    images: int
    readable: int
    stored_bytes: int
    readers: dict[str, int]
    files: list[FileReport]
    image_bytes: Histogram
    widths: Histogram | None = None
    heights: Histogram | None = None


class Rule(msgspec.Struct, frozen=True):
    """A key rule."""

    pattern: str
    replace: str


class Suggestion(msgspec.Struct, frozen=True):
    """Key rules that a dataset may have, behind those it has; `yaml` is all of them, to paste.

    `named` is how often its instructions name an image, and `missing_before` and `missing_after`
    how many of those find none.
    """

    datasets: list[str]
    named: int
    missing_before: int
    missing_after: int
    rules: list[Rule]
    yaml: str


class Report(msgspec.Struct, frozen=True):
    """What a check finds; `suggestions` and `decoded` are null where they were not asked for."""

    format: int
    data_yaml: str
    revision: str
    datasets: list[DatasetReport]
    sources: list[SourceReport]
    problems: list[Problem]
    decoded: int | None
    suggestions: list[Suggestion] | None

    def count_kinds(self, kinds: frozenset[str]) -> int:
        """How many problems of those kinds there are."""
        return sum(problem.count for problem in self.problems if problem.kind in kinds)
