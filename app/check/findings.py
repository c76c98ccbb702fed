"""The problems that a catalog shows: those that its units noted, and those that they have
together."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from app.catalog.catalog import Catalog
from app.catalog.questions import (
    Question,
    Questions,
    Row,
    ask_empty_answers,
    ask_empty_instructions,
    ask_noted,
    ask_self_contexts,
    ask_shared_instructions,
    ask_unused_images,
)
from app.check.kinds import KINDS, Kind
from app.check.report import Example, Problem, Share
from app.check.shared import find_shared_images
from app.check.subjects import Subject, list_files, list_joined, list_sources
from app.progress import Progress
from app.progress import Report as Tell


@dataclass(frozen=True, slots=True)
class Search:
    """A kind of problem of one subject, and the question that finds it."""

    kind: str
    subject: Subject
    question: Question
    known: int | None = None  # how many there are, if that was counted when it was built

    @property
    def size_bytes(self) -> int:
        """About what the question reads, to tell how far the check is."""
        tables = ("keys.arrow", "table.arrow") if self.known is None else ("problems.arrow",)
        paths = [self.subject.folder / name for name in tables]
        return sum(path.stat().st_size for path in paths if path.exists())


@dataclass(frozen=True, slots=True)
class Finding:
    """The problems of one kind that a subject has, and some of them."""

    kind: str
    subject: Subject
    count: int
    rows: list[Row]


def find_problems(
    catalog: Catalog, questions: Questions, examples: int, tell: Tell
) -> Iterator[Finding]:
    """Every kind of every subject that has it, with at most `examples` rows of each."""
    searches = list(list_searches(catalog))
    sizes_bytes = [search.size_bytes for search in searches]
    total_bytes, done_bytes = sum(sizes_bytes), 0
    for search, size_bytes in zip(searches, sizes_bytes, strict=True):
        tell(Progress("asking for problems", done_bytes, total_bytes))
        done_bytes += size_bytes
        count = questions.count(search.question) if search.known is None else search.known
        if count:
            rows = questions.list_rows(search.question, 0, examples)
            yield Finding(search.kind, search.subject, count, rows)
    tell(Progress("comparing the keys of all sources"))
    for kind, subject, count, rows in find_shared_images(catalog, questions, examples):
        yield Finding(kind, subject, count, rows)


def join_findings(findings: Iterable[Finding], examples: int) -> list[Problem]:
    """The findings by kind, the worst first, each kind with at most `examples` examples."""
    by_kind: dict[str, list[Finding]] = {}
    for finding in findings:
        by_kind.setdefault(finding.kind, []).append(finding)
    return [
        _make_problem(kind, by_kind[name], examples)
        for name, kind in KINDS.items()
        if name in by_kind
    ]


def _make_problem(kind: Kind, findings: list[Finding], examples: int) -> Problem:
    shown = [
        Example(row.name, row.detail, finding.subject.first, finding.subject.path)
        for finding in findings
        for row in finding.rows
    ]
    where = [Share(one.subject.datasets, one.subject.path, one.count) for one in findings]
    return Problem(
        kind=kind.name,
        severity=kind.severity,
        title=kind.title,
        advice=kind.advice,
        count=sum(finding.count for finding in findings),
        where=where,
        examples=shown[:examples],
    )


def list_searches(catalog: Catalog) -> Iterator[Search]:
    """What can be asked about a catalog, but for pictures that several sources have."""
    for file, subject in list_files(catalog):
        yield from _noted(file.facts.problems, subject)
        yield Search("empty_answer", subject, ask_empty_answers(file))
        yield Search("empty_instruction", subject, ask_empty_instructions(file))
    for source, subject, datasets in list_sources(catalog):
        yield from _noted(source.facts.problems, subject)
        yield Search("unused_image", subject, ask_unused_images(source, datasets))
    for dataset, subject in list_joined(catalog):
        yield from _noted(dataset.facts.problems, subject)
        yield Search("self_context", subject, ask_self_contexts(dataset))
    # A file with two sets of key rules is two units, and one file.
    files: dict[str | None, Subject] = {}
    for _, subject in list_files(catalog):
        files.setdefault(subject.path, subject)
    if len(files) > 1:
        names = {subject.folder: subject.name for subject in files.values()}
        everything = Subject(None, catalog.folder, list(catalog.datasets))
        yield Search("shared_instruction", everything, ask_shared_instructions(names))


def _noted(counts: Mapping[str, int], subject: Subject) -> Iterator[Search]:
    for kind, count in counts.items():
        yield Search(kind, subject, ask_noted(subject.folder, kind), count)
