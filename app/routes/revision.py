"""The catalog revision of a request: what it pins, and how long its answer may be kept.

Dependencies are coroutines: FastAPI runs plain functions on a thread, and the way there and back
takes longer than they do.
"""

from typing import Annotated

from fastapi import Depends, Query, Request, Response

from app.errors import RevisionChangedError
from app.service import Service

# Private: what `public` says a proxy may give to those who have no token.
IMMUTABLE = "private, max-age=31536000, immutable"
REVALIDATE = "no-cache"


async def get_service(request: Request) -> Service:
    """The worker's open catalog, as the lifespan yields it."""
    service: Service = request.state.service
    return service


def check_revision(service: Service, revision: str | None) -> str:
    """The Cache-Control of an answer; raises RevisionChangedError if another one is pinned."""
    if revision is None:
        return REVALIDATE
    if revision != service.catalog.revision:
        raise RevisionChangedError(
            f"the catalog's revision is {service.catalog.revision}, and the request pins "
            f"{revision[:64]!r}: the data have changed. Ask without revision=, or pin the new one."
        )
    return IMMUTABLE


CatalogService = Annotated[Service, Depends(get_service)]


async def _pin(
    service: CatalogService,
    revision: Annotated[
        str | None, Query(description="Answer only from the catalog of this revision, else 409.")
    ] = None,
) -> str:
    return check_revision(service, revision)


CacheControl = Annotated[str, Depends(_pin)]


async def pin_revision(response: Response, cache_control: CacheControl) -> None:
    """Check the pinned revision, and say how long the answer may be kept."""
    response.headers["cache-control"] = cache_control
