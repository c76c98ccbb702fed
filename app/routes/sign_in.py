"""Signing in with a token, for people with a browser: a cookie stands for it."""

from html import escape
from urllib.parse import parse_qs, urlsplit

from fastapi import APIRouter, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse
from starlette.requests import ClientDisconnect

from app.access.sessions import COOKIE
from app.routes.guard import SIGN_IN, Guard

_MAX_FORM_BYTES = 8192
_HEADERS = {
    "content-security-policy": "default-src 'none'; form-action 'self'; base-uri 'none'; "
    "frame-ancestors 'none'",
    "cache-control": "no-store",
    "referrer-policy": "same-origin",
    "x-frame-options": "DENY",
}
_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Sign in: mimicit</title>
</head>
<body>
<main>
<h1>Sign in</h1>
{message}
<form method="post" action="/sign-in">
<input type="hidden" name="next" value="{next}">
<p><label for="token">Token</label>
<input type="password" id="token" name="token" autocomplete="current-password" required></p>
<p><button type="submit">Sign in</button></p>
</form>
</main>
</body>
</html>
"""


def create_router(guard: Guard) -> APIRouter:
    """The routes of signing in and out; the API's own description leaves them out."""
    router = APIRouter(include_in_schema=False)

    @router.get(SIGN_IN)
    async def get_page(next: str = "/") -> Response:
        return _show(next)

    @router.post(SIGN_IN)
    async def sign_in(request: Request) -> Response:
        form = await _read_form(request)
        wanted = form.get("next", "/")
        if not _is_own(request):
            return _show(wanted, "That form was not this service's own.", 403)
        holder = guard.tokens.find(form.get("token", "").strip())
        if holder is None:
            return _show(wanted, "That is not one of this service's tokens.", 401)
        answer = RedirectResponse(find_local(wanted), 303, {"cache-control": "no-store"})
        answer.set_cookie(
            COOKIE,
            guard.sessions.make(holder),
            max_age=guard.sessions.seconds,
            httponly=True,
            samesite="strict",
            secure=request.url.scheme == "https",
        )
        return answer

    @router.post("/sign-out")
    async def sign_out() -> Response:
        answer = RedirectResponse(SIGN_IN, 303, {"cache-control": "no-store"})
        answer.delete_cookie(COOKIE, httponly=True, samesite="strict")
        return answer

    return router


def find_local(target: str) -> str:
    """The target if it is a path of this service, else its first page: a link to the form must not
    lead away. Browsers take a backslash for a slash, and leave controls out."""
    parts = target[:1] == "/" and target[1:2] not in ("/", "\\")
    return target if parts and target.isascii() and target.isprintable() else "/"


def _show(wanted: str, message: str = "", status: int = 200) -> HTMLResponse:
    shown = f"<p role=alert>{escape(message)}</p>" if message else ""
    page = _PAGE.format(message=shown, next=escape(find_local(wanted)))
    return HTMLResponse(page, status, _HEADERS)


async def _read_form(request: Request) -> dict[str, str]:
    """The form's fields; none if it is too large or no form."""
    body = bytearray()
    try:
        async for chunk in request.stream():
            body += chunk
            if len(body) > _MAX_FORM_BYTES:
                return {}
        fields = parse_qs(bytes(body).decode(), max_num_fields=10)
    except (ClientDisconnect, ValueError):
        return {}
    return {name: values[0] for name, values in fields.items()}


def _is_own(request: Request) -> bool:
    """Whether the form was sent from a page of this service: no other signs people in here."""
    origin = request.headers.get("origin")
    return origin is None or urlsplit(origin).netloc == request.headers.get("host")
