"""Instructions: one by id, with its context, and pages of them."""

import json
from typing import Annotated
from urllib.parse import quote

from fastapi import APIRouter, Depends, Query

from app import schemas
from app.catalog.dataset import Dataset
from app.catalog.instructions import Instruction
from app.catalog.search import Search
from app.routes.keys import register_key_convertor
from app.routes.problems import PROBLEM_RESPONSES
from app.routes.revision import CatalogService, pin_revision
from app.service import Service
from app.settings import Settings

Related = Annotated[bool, Query(description="Also the instructions that go before it, in order.")]


def create_router(settings: Settings) -> APIRouter:
    """The routes of the instructions."""
    register_key_convertor()
    router = APIRouter(
        prefix="/v1",
        tags=["instructions"],
        dependencies=[Depends(pin_revision)],
        responses=PROBLEM_RESPONSES,
    )
    limit_query = Query(ge=1, le=settings.max_page_items)
    default_limit = min(settings.default_page_items, settings.max_page_items)

    @router.get("/datasets/{dataset}/instructions", summary="A page of instructions")
    async def list_instructions(
        service: CatalogService,
        dataset: str,
        limit: Annotated[int, limit_query] = default_limit,
        after: Annotated[
            str, Query(pattern="^[0-9]{1,18}$", description="The `next` of the page before.")
        ] = "0",
        q: Annotated[
            str | None,
            Query(
                min_length=1,
                max_length=1000,
                description="Only those with this text in instruction or answer; letter case does "
                "not count.",
            ),
        ] = None,
        image_id: Annotated[
            str | None, Query(max_length=1000, description="Only those with this image.")
        ] = None,
    ) -> schemas.InstructionPage:
        found = service.catalog.get_dataset(dataset)
        if q is None and image_id is None:
            page = found.instructions.list_page(int(after), limit, settings.max_answer_bytes)
        else:
            search = Search(text=q, image_id=image_id)
            page = await service.search(found.instructions, int(after), limit, search)
        return schemas.InstructionPage(
            items=[_describe(found, item) for item in page.items],
            next=None if page.next is None else str(page.next),
        )

    @router.get("/datasets/{dataset}/instructions/{id:key}", summary="One instruction")
    async def get_instruction(
        service: CatalogService, dataset: str, id: str, related: Related = False
    ) -> schemas.RelatedInstruction:
        found = service.catalog.get_dataset(dataset)
        return await _relate(service, found, found.instructions.get(id), related)

    @router.get(
        "/instructions/{id:key}",
        summary="One instruction, in whichever dataset it is",
    )
    async def find_instruction(
        service: CatalogService, id: str, related: Related = False
    ) -> schemas.RelatedInstruction:
        return await _relate(service, *service.catalog.get_instruction(id), related)

    return router


def _describe(dataset: Dataset, item: Instruction) -> schemas.Instruction:
    images = f"/v1/datasets/{quote(dataset.name, safe='')}/images/"
    return schemas.Instruction(
        dataset=dataset.name,
        id=item.id,
        instruction=item.instruction,
        answer=item.answer,
        image_ids=item.image_ids,
        rel_ins_ids=item.rel_ins_ids,
        extra=None if item.extra is None else json.loads(item.extra),
        image_urls=(
            [images + quote(key, safe="") for key in item.image_ids] if dataset.images else []
        ),
    )


async def _relate(
    service: Service, dataset: Dataset, item: Instruction, related: bool
) -> schemas.RelatedInstruction:
    described = schemas.RelatedInstruction(**_describe(dataset, item).model_dump())
    if related:
        context, missing = await service.list_context(dataset, item)
        described.context = [_describe(dataset, other) for other in context]
        described.missing_context_ids = missing
    return described
