"""Pages out of templates, with the headers that all of them have."""

from functools import cache

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from starlette.responses import HTMLResponse

from app.explorer import links, words
from app.explorer.static_files import static_link

# Nothing is loaded from elsewhere, and no script or style stands in a page: text of a data set
# that got past the escaping would still not run.
_POLICY = "; ".join(
    (
        "default-src 'none'",
        "img-src 'self'",
        "style-src 'self'",
        "script-src 'self'",
        "connect-src 'self'",
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    )
)
HEADERS = {
    "content-security-policy": _POLICY,
    "referrer-policy": "no-referrer",
    "cache-control": "no-cache",
    "x-frame-options": "DENY",
}


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("app.explorer"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals |= {"links": links, "static": static_link, "many": words.format_many}
    environment.filters |= {
        "code": _mark_code,
        "count": words.format_count,
        "bytes": words.format_bytes,
        "share": words.format_share,
        "shorten": words.shorten,
    }
    return environment


def _mark_code(text: str) -> Markup:
    """The text, what is in backquotes as code."""
    parts = text.split("`")
    return Markup("").join(
        Markup("<code>{}</code>").format(part) if number % 2 else part
        for number, part in enumerate(parts)
    )


def load_templates() -> None:
    """Compile every template."""
    environment = _environment()
    for name in environment.list_templates():
        environment.get_template(name)


def render_html(template: str, **context: object) -> str:
    """The text of a page."""
    return _environment().get_template(template).render(context)


def render(template: str, status: int = 200, **context: object) -> HTMLResponse:
    """A page."""
    return HTMLResponse(render_html(template, **context), status, HEADERS)
