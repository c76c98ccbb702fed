"""/metrics: what all workers have counted, for Prometheus."""

from fastapi import APIRouter, Request, Response

from app.live import Live
from app.metrics.exposition import CatalogState, ReloadState, render
from app.routes.revision import CatalogService


def create_router(version: str) -> APIRouter:
    """The route that Prometheus asks."""
    router = APIRouter(tags=["health"])

    @router.get(
        "/metrics",
        summary="What is counted, for Prometheus",
        response_class=Response,
        responses={200: {"content": {"text/plain": {}}, "description": "Its text format."}},
    )
    async def get_metrics(service: CatalogService, request: Request) -> Response:
        catalog = service.catalog
        state = CatalogState(
            version=version,
            revision=catalog.revision,
            built_seconds=catalog.built_seconds,
            problems={name: one.count_problems() for name, one in catalog.datasets.items()},
        )
        live: Live = request.state.live
        reload = ReloadState(live.reload.number, live.reload.outcome, live.reload.since)
        accept = request.headers.get("accept", "")
        data, content_type = render(service.meter.take_stock(), state, reload, accept)
        return Response(data, headers={"content-type": content_type, "cache-control": "no-store"})

    return router
