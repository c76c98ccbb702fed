"""Every problem as one JSON document, made a page of rows at a time."""

import asyncio
from collections.abc import AsyncIterator
from functools import partial

import msgspec

from app.catalog.catalog import Catalog
from app.catalog.questions import Question, Row
from app.check.findings import list_searches
from app.check.kinds import KINDS
from app.check.subjects import Subject
from app.explorer.known import Known
from app.explorer.problem_kinds import HAS_NO_LIST

_ROWS = 5000  # some 500 kB


_POLL_SECONDS = 0.1


async def stream_problems(catalog: Catalog, known: Known) -> AsyncIterator[bytes]:
    """The pieces of {"revision": …, "problems": [{kind, …, "rows": [{name, detail}, …]}, …]}.

    Of kinds that take reading pictures to find, `rows` has the first, and `count` is of all.
    """
    yield b'{"revision":%s,"problems":[' % msgspec.json.encode(catalog.revision)
    separator = b""
    for search in list_searches(catalog):
        is_begun = False
        async for rows in _list_pages(search.question, known):
            start = b",\n" if is_begun else separator + _begin(search.kind, search.subject)
            yield start + _encode(rows)
            is_begun, separator = True, b",\n"
        if is_begun:
            yield b"]}"
    known.survey.start()
    while not known.survey.is_done:
        await asyncio.sleep(_POLL_SECONDS)
    for finding in known.survey.findings:
        if finding.kind in HAS_NO_LIST:
            start = separator + _begin(finding.kind, finding.subject, count=finding.count)
            yield start + _encode(finding.rows) + b"]}"
            separator = b",\n"
    yield b"]}\n"


async def _list_pages(question: Question, known: Known) -> AsyncIterator[list[Row]]:
    after = 0
    while True:
        call = partial(known.questions.list_rows, question, after, _ROWS)
        if rows := await known.run(call):
            yield rows
        if len(rows) < _ROWS:
            return
        after += _ROWS


def _begin(name: str, subject: Subject, **more: object) -> bytes:
    kind = KINDS[name]
    about = {
        "kind": kind.name,
        "severity": kind.severity,
        "title": kind.title,
        "advice": kind.advice,
        "datasets": subject.datasets,
        "path": subject.path,
    }
    return msgspec.json.encode(about | more)[:-1] + b',"rows":['


def _encode(rows: list[Row]) -> bytes:
    """The rows without the brackets around them."""
    return msgspec.json.encode([row._asdict() for row in rows])[1:-1]
