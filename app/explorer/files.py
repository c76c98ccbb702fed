"""The style sheet and the script, to browsers."""

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from starlette.exceptions import HTTPException

from app.explorer.static_files import PREFIX, load_static_files
from app.routes.revision import IMMUTABLE, REVALIDATE
from app.routes.serve_bytes import is_known


def create_router() -> APIRouter:
    """The route of the static files."""
    router = APIRouter()

    @router.get(PREFIX + "{name}")
    async def get_file(
        request: Request, name: str, v: Annotated[str, Query(max_length=100)] = ""
    ) -> Response:
        file = load_static_files().get(name)
        if file is None:
            raise HTTPException(404)
        etag = f'"{file.version}"'
        cache_control = IMMUTABLE if v == file.version else REVALIDATE
        headers = {"etag": etag, "cache-control": cache_control}
        if is_known(request, etag):
            return Response(status_code=304, headers=headers)
        return Response(file.data, headers=headers | {"content-type": file.content_type})

    return router
