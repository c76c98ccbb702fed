"""What answers while the catalog is being built: up, not ready, and how far it is."""

import dataclasses

import msgspec
from starlette.types import Receive, Scope, Send

from app.errors import NotReadyError
from app.progress import Progress
from app.routes.problems import describe

_RETRY_AFTER = b"2"


class WaitingApp:
    """An ASGI application without a catalog; `report` takes the progress it tells of."""

    def __init__(self) -> None:
        self._progress = Progress("starting")

    def report(self, progress: Progress) -> None:
        """Take note of how far the building is."""
        self._progress = progress

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        content_type = b"application/json"
        if scope["path"] == "/healthz":
            status, body = 200, {"status": "ok"}
        elif scope["path"] == "/readyz":
            status, body = 503, {"status": "indexing", **dataclasses.asdict(self._progress)}
        else:
            status = 503
            problem = describe(NotReadyError(f"the catalog is being built: {self._doing()}"))
            body, content_type = problem.model_dump(exclude_none=True), b"application/problem+json"
        headers = [(b"content-type", content_type), (b"cache-control", b"no-store")]
        if status == 503:
            headers.append((b"retry-after", _RETRY_AFTER))
        data = msgspec.json.encode(body)
        headers.append((b"content-length", str(len(data)).encode()))
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": data})

    def _doing(self) -> str:
        progress = self._progress
        if not progress.total_bytes:
            return progress.doing
        return f"{progress.doing}, {100 * progress.done_bytes // progress.total_bytes} %"
