"""The page of an instruction."""

import json
from shlex import quote
from typing import Annotated

from fastapi import APIRouter, Query, Request
from fastapi.responses import HTMLResponse

from app.explorer import links
from app.explorer.conversation import load_conversation
from app.explorer.pages import render
from app.routes.keys import register_key_convertor
from app.routes.revision import CatalogService

_EXTRA_CHARS = 20_000


def create_router() -> APIRouter:
    """The route of an instruction's page."""
    register_key_convertor()
    router = APIRouter()

    @router.get("/datasets/{dataset}/instructions/{name:key}")
    async def get_instruction(
        service: CatalogService,
        request: Request,
        dataset: str,
        name: str,
        id: Annotated[str, Query(max_length=1000)] = "",
        first: Annotated[int, Query(ge=0, le=10**9)] = 0,
    ) -> HTMLResponse:
        found = service.catalog.get_dataset(dataset)
        item = found.instructions.get(name or id)
        at = str(request.base_url).rstrip("/")
        conversation = await load_conversation(service, found, item, first)
        shown = first + len(conversation.turn.pictures)
        data, is_step = links.instruction_data(dataset, item.id), links.is_step(item.id)
        fields = json.loads(item.extra or "null")
        extra = json.dumps(fields, indent=2, ensure_ascii=False) if fields else ""
        return render(
            "instruction.html",
            dataset=found,
            item=item,
            conversation=conversation,
            first=first,
            shown=shown,
            next=shown if shown < len(item.image_ids) and found.images else None,
            is_configured=found.has_train_config,
            extra=extra[:_EXTRA_CHARS],
            is_cut=len(extra) > _EXTRA_CHARS,
            data=None if is_step else data,
            curl=f"curl -s {'--path-as-is ' if is_step else ''}{quote(at + data)}",
            python=f"Client({at!r}).instruction({item.id!r}, {dataset!r})",
        )

    return router
