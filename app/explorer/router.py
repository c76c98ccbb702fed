"""All pages together."""

from fastapi import APIRouter

from app.explorer import batch, files, gallery, image, instruction, overview, problems, statistics
from app.explorer.pages import load_templates


def create_router() -> APIRouter:
    """The routes of the pages; the API's own description leaves them out."""
    load_templates()  # else the first page waits for them
    router = APIRouter(include_in_schema=False)
    for page in (overview, gallery, statistics, instruction, image, batch, problems, files):
        router.include_router(page.create_router())
    return router
