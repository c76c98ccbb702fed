"""The hot path: a picture that is in memory, asked for as it is, goes straight to the socket.

It is answered before the application, whose routing, parameters and layers take longer than reading
the picture does. Whatever is not that plain (a query but the pin, a condition, a range, an error, a
cold read) is left to the application's own route, so this adds no behaviour: `routes.images` says
what is right.
"""

from starlette.types import Scope

from app.errors import MimicitError
from app.images.sniff import content_type
from app.routes.revision import IMMUTABLE, REVALIDATE
from app.service import Service
from app.storage import WouldBlockError

_DATASETS = "/v1/datasets/"
TEMPLATE = "/v1/datasets/{dataset}/images/{key}"
_CONDITIONS = frozenset({b"if-none-match", b"if-match", b"range", b"if-range"})
Headers = list[tuple[bytes, bytes]]


def read(scope: Scope, service: Service) -> tuple[Headers, bytes] | None:
    """The headers and bytes that answer GET /v1/datasets/{dataset}/images/{key}, or None if this is
    not for the hot path."""
    if scope["method"] != "GET" or not scope["path"].startswith(_DATASETS):
        return None
    name, _, key = scope["path"][len(_DATASETS) :].partition("/images/")
    cache_control = _cache_control(scope["query_string"], service.catalog.revision)
    if cache_control is None:
        return None
    dataset = service.catalog.datasets.get(name)
    if dataset is None or dataset.images is None:
        return None
    for header, _ in scope["headers"]:
        if header in _CONDITIONS:
            return None
    place = dataset.images.find_place(key)
    if place is None:
        return None
    try:
        data = service.read_warm(dataset.images, place)
    except (WouldBlockError, MimicitError):
        return None
    headers = [
        (b"content-type", content_type(data).encode()),
        (b"content-length", b"%d" % len(data)),
        (b"etag", b'"%016x"' % place.hash),
        (b"cache-control", cache_control),
        (b"accept-ranges", b"bytes"),
        (b"x-catalog-revision", service.catalog.revision.encode()),
        (b"x-content-type-options", b"nosniff"),
    ]
    return headers, data


def _cache_control(query: bytes, revision: str) -> bytes | None:
    """How long the answer may be kept; None for any query but one that pins this revision."""
    if not query:
        return REVALIDATE.encode()
    return IMMUTABLE.encode() if query == b"revision=" + revision.encode() else None
