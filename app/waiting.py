"""What answers while the catalog is being built: up, not ready, and how far it is."""

import dataclasses

import msgspec
from starlette.datastructures import Headers
from starlette.types import Receive, Scope, Send

from app.errors import NotReadyError
from app.explorer.pages import HEADERS, render_html
from app.explorer.static_files import PREFIX, load_static_files
from app.progress import Progress
from app.routes.problems import describe

_RETRY_SECONDS = 2
_RETRY_AFTER = str(_RETRY_SECONDS).encode()
_Body = tuple[int, str, bytes]  # status, content type, and the bytes


class WaitingApp:
    """An ASGI application without a catalog; `report` takes the progress it tells of.

    What is being done names files, which is for nobody where tokens are needed.
    """

    def __init__(self, *, is_open: bool) -> None:
        self._is_open = is_open
        self._progress = Progress("starting")

    def report(self, progress: Progress) -> None:
        """Take note of how far the building is."""
        if not self._is_open:
            progress = dataclasses.replace(progress, doing="indexing")
        self._progress = progress

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        status, content_type, data = self._answer(scope)
        headers = [(b"content-type", content_type.encode()), (b"cache-control", b"no-store")]
        if status == 503:
            headers.append((b"retry-after", _RETRY_AFTER))
        if content_type.startswith("text/html"):
            kept = {name: value for name, value in HEADERS.items() if name != "cache-control"}
            headers += [(name.encode(), value.encode()) for name, value in kept.items()]
        headers.append((b"content-length", str(len(data)).encode()))
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": data})

    def _answer(self, scope: Scope) -> _Body:
        path = scope["path"]
        progress = dataclasses.asdict(self._progress)
        if path == "/healthz":
            return 200, "application/json", msgspec.json.encode({"status": "ok"})
        if path == "/readyz":
            body = {"status": "indexing", **progress}
            return 503, "application/json", msgspec.json.encode(body)
        if file := load_static_files().get(path.removeprefix(PREFIX)):
            return 200, file.content_type, file.data
        if "text/html" in Headers(scope=scope).get("accept", "") and not path.startswith("/v1/"):
            page = render_html("waiting.html", seconds=_RETRY_SECONDS, **progress)
            return 503, "text/html; charset=utf-8", page.encode()
        problem = describe(NotReadyError(f"the catalog is being built: {self._doing()}"))
        body = problem.model_dump(exclude_none=True)
        return 503, "application/problem+json", msgspec.json.encode(body)

    def _doing(self) -> str:
        progress = self._progress
        if not progress.total_bytes:
            return progress.doing
        return f"{progress.doing}, {100 * progress.done_bytes // progress.total_bytes} %"
