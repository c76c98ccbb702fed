"""The style sheet and script of the pages, held in memory, with an address for each version."""

from functools import cache
from hashlib import blake2b
from importlib.resources import files
from typing import NamedTuple

PREFIX = "/static/explorer/"
_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}


class StaticFile(NamedTuple):
    """A file: its content type, its bytes, and the version that these are."""

    content_type: str
    data: bytes
    version: str


@cache
def load_static_files() -> dict[str, StaticFile]:
    """The files by name; 60 KB of them."""
    found = {}
    for file in files("app.explorer").joinpath("static").iterdir():
        for suffix, content_type in _TYPES.items():
            if file.name.endswith(suffix):
                data = file.read_bytes()
                version = blake2b(data, digest_size=8).hexdigest()
                found[file.name] = StaticFile(content_type, data, version)
    return found


def static_link(name: str) -> str:
    """The address of a file in its version, which can be kept for ever."""
    return f"{PREFIX}{name}?v={load_static_files()[name].version}"
