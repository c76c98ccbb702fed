"""The page of an image: the picture, where its bytes are, and who uses it."""

from typing import Annotated

from fastapi import APIRouter, Query
from fastapi.responses import HTMLResponse

from app.catalog.search import Search
from app.errors import UnknownImageError
from app.explorer import links
from app.explorer.cards import make_cards
from app.explorer.image_facts import load_facts
from app.explorer.pages import render
from app.routes.keys import register_key_convertor
from app.routes.revision import CatalogService

_CARDS = 12


def create_router() -> APIRouter:
    """The route of an image's page."""
    register_key_convertor()
    router = APIRouter()

    @router.get("/datasets/{dataset}/images/{name:key}")
    async def get_image(
        service: CatalogService,
        dataset: str,
        name: str,
        key: Annotated[str, Query(max_length=1000)] = "",
        after: Annotated[int, Query(ge=0, le=10**18)] = 0,
    ) -> HTMLResponse:
        found = service.catalog.get_dataset(dataset)
        if found.images is None:
            raise UnknownImageError(f"dataset {dataset!r} has no images: its group is TEXT_ONLY")
        wanted = name or key
        place = found.images.find_place(wanted)
        search = Search(image_id=wanted)
        users = await service.search(found.instructions, after, _CARDS, search)
        if place is None and not users.items:
            found.images.get_place(wanted)  # raises UnknownImageError
        return render(
            "image.html",
            dataset=found,
            key=wanted,
            data=links.image_data(dataset, wanted),
            facts=None if place is None else await load_facts(service, found.images, place),
            cards=await make_cards(service, found, users.items),
            after=after,
            next=users.next,
        )

    return router
