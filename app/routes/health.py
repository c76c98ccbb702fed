"""Whether the process is up, and whether the catalog is open."""

import msgspec
from fastapi import APIRouter, Request

from app import schemas
from app.live import Live
from app.routes.revision import CatalogService


def create_router() -> APIRouter:
    """The routes that a load balancer asks."""
    router = APIRouter(tags=["health"])

    @router.get("/healthz", summary="Whether the process is up")
    async def get_health() -> schemas.Health:
        return schemas.Health()

    @router.get(
        "/readyz",
        summary="Whether the catalog is open",
        responses={503: {"model": schemas.Readiness, "description": "Not yet; how far it is."}},
    )
    async def get_readiness(service: CatalogService, request: Request) -> schemas.Readiness:
        live: Live = request.state.live
        reload = schemas.Reload(**msgspec.structs.asdict(live.reload))
        if not request.state.is_known:  # messages name files
            reload.message = ""
        return schemas.Readiness(status="ready", revision=service.catalog.revision, reload=reload)

    return router
