"""Errors as pages, where a browser asks; what they say and their status is the API's own."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from difflib import get_close_matches
from typing import Any, cast

from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import Response

from app.catalog.catalog import Catalog
from app.explorer import links
from app.explorer.pages import render
from app.service import Service

_PAGES = ("/datasets", "/batches", "/problems", "/static/explorer/")
_NEAR = 5
Handler = Callable[[Request, Exception], Awaitable[Response]]


def add_error_pages(app: FastAPI) -> None:
    """Have errors that people meet leave as pages, and all others as they are."""
    for kind, handler in list(app.exception_handlers.items()):
        app.add_exception_handler(kind, _as_page(cast("Handler", handler)))


def _as_page(handler: Handler) -> Handler:
    async def handle(request: Request, error: Exception) -> Response:
        answer = await handler(request, error)
        if not _wants_page(request):
            return answer
        problem: dict[str, Any] = json.loads(bytes(answer.body))
        service: Service = request.state.service
        asked = {**request.query_params, **request.path_params}
        # Of 10,000 datasets it compares the names for a second.
        near = await asyncio.to_thread(_find_near, service.catalog, problem["code"], asked)
        page = render("error.html", answer.status_code, problem=problem, near=near)
        for name in ("retry-after", "allow"):
            if name in answer.headers:
                page.headers[name] = answer.headers[name]
        return page

    return handle


def _wants_page(request: Request) -> bool:
    path = request.url.path
    if path.startswith("/v1/"):
        return False
    is_page = path == "/" or path.startswith(_PAGES)
    return is_page or "text/html" in request.headers.get("accept", "")


def _find_near(catalog: Catalog, code: str, asked: dict[str, Any]) -> list[tuple[str, str]]:
    """Names like the one that is not there, and their pages."""
    name, dataset = asked.get("name", ""), catalog.datasets.get(asked.get("dataset", ""))
    if code == "unknown_dataset":
        found = get_close_matches(asked["dataset"], list(catalog.datasets), _NEAR, 0.4)
        return [(one, links.dataset_page(one)) for one in found]
    if dataset is None:
        return []
    if code == "unknown_image" and dataset.images is not None:
        # The keys that come next in their order: a key cut short, or its next of kin.
        keys = dataset.images.list_keys(name, "", _NEAR)
        return [(key, links.image_page(dataset.name, key)) for key, _ in keys]
    if code == "unknown_instruction":
        ids = dataset.instructions.list_ids(name, _NEAR)
        return [(id, links.instruction_page(dataset.name, id)) for id in ids]
    return []
