"""The problems: by kind, the rows of a kind in pages, and everything as JSON."""

import asyncio
from typing import Annotated

from fastapi import APIRouter, Query
from fastapi.responses import HTMLResponse, StreamingResponse

from app.check.findings import Search, list_searches
from app.check.kinds import KINDS
from app.errors import InvalidRequestError
from app.explorer.known import Known, KnownThings
from app.explorer.pages import render
from app.explorer.problem_file import stream_problems
from app.explorer.problem_kinds import group_findings
from app.explorer.problem_rows import link_rows
from app.routes.revision import CatalogService
from app.service import Service

_ROWS = 100
# A small catalog is surveyed in less: then the first page is the whole one.
_PATIENCE_SECONDS = 0.5
_POLL_SECONDS = 0.02
_Word = Annotated[str, Query(max_length=1000)]


def create_router() -> APIRouter:
    """The routes of the problems."""
    router = APIRouter()

    @router.get("/problems")
    async def list_problems(
        service: CatalogService,
        known: KnownThings,
        kind: _Word = "",
        dataset: _Word = "",
        unit: _Word = "",
        after: Annotated[int, Query(ge=0, le=10**12)] = 0,
    ) -> HTMLResponse:
        if kind and kind not in KINDS:
            raise InvalidRequestError(f"{kind[:100]!r} is no kind of problem")
        if unit:
            return await _list_rows(service, known, kind, unit, after)
        if dataset:
            service.catalog.get_dataset(dataset)  # raises UnknownDatasetError
        await _wait(known)
        chosen = [
            one
            for one in known.survey.findings
            if kind in ("", one.kind) and (not dataset or dataset in one.subject.datasets)
        ]
        return render(
            "problems.html",
            survey=known.survey,
            kinds=await service.read(lambda: group_findings(service.catalog, chosen)),
            kind=KINDS.get(kind),
            dataset=dataset,
        )

    @router.get("/problems.json")
    async def download_problems(service: CatalogService, known: KnownThings) -> StreamingResponse:
        headers = {
            "content-disposition": 'attachment; filename="problems.json"',
            "cache-control": "no-cache",
        }
        pieces = stream_problems(service.catalog, known)
        return StreamingResponse(pieces, headers=headers, media_type="application/json")

    return router


async def _wait(known: Known) -> None:
    """Have the survey begun, and wait a little for its end."""
    known.survey.start()
    for _ in range(round(_PATIENCE_SECONDS / _POLL_SECONDS)):
        if known.survey.is_done:
            break
        await asyncio.sleep(_POLL_SECONDS)


async def _list_rows(
    service: Service, known: Known, kind: str, unit: str, after: int
) -> HTMLResponse:
    """The page of the rows of a kind that a file, source or dataset has."""

    def find() -> Search | None:
        searches = list_searches(service.catalog)
        return next(
            (one for one in searches if one.kind == kind and one.subject.folder.name == unit), None
        )

    search = await service.read(find)
    if search is None:
        raise InvalidRequestError("nothing here has problems of this kind, or they have no list")
    rows = await known.run(lambda: known.questions.list_rows(search.question, after, _ROWS + 1))
    return render(
        "problem_rows.html",
        kind=KINDS[kind],
        subject=search.subject,
        unit=unit,
        rows=link_rows(service.catalog, kind, search.subject.datasets, rows[:_ROWS]),
        after=after,
        next=after + _ROWS if len(rows) > _ROWS else None,
    )
