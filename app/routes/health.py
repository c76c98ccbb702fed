"""Whether the process is up, and whether the catalog is open."""

from fastapi import APIRouter

from app import schemas
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
    async def get_readiness(service: CatalogService) -> schemas.Readiness:
        return schemas.Readiness(status="ready", revision=service.catalog.revision)

    return router
