"""Keys, ids and parameters that try to be more than text."""

from collections.abc import Iterator
from urllib.parse import quote

import pytest
from live_server import LiveServer, start_server
from packs import draw_jpeg, record, write_images, write_instructions

pytestmark = pytest.mark.slow

SECRET = b"root:x:0:0"
NASTY = (
    "../../../../../../etc/passwd",
    "..\\..\\etc\\passwd",
    "/etc/passwd",
    "file:///etc/passwd",
    "....//....//etc/passwd",
    "%2e%2e%2fetc%2fpasswd",
    "K\0.jpg",
    "'; DROP TABLE instructions; --",
    "' OR '1'='1",
    "K' UNION SELECT content FROM read_text('/etc/passwd') --",
    "%' ESCAPE '\\",
    "{{7*7}}${7*7}<%= 7*7 %>",
    "a\r\nSet-Cookie: stolen=1\r\n\r\n<html>",
    "a\nX-Injected: 1",
    "<script>alert(1)</script>",
    "\x1b[31mred",
    "\u202egnp.exe",
    "x" * 3000,
)
PLACES = (
    "/v1/datasets/A/images/{}",
    "/v1/datasets/A/images/{}?width=10",
    "/v1/images/{}",
    "/v1/datasets/A/instructions/{}",
    "/v1/instructions/{}",
    "/v1/datasets/{}",
    "/v1/datasets/{}/images/K",
    "/v1/groups/{}/batches/0",
    "/v1/datasets/A/images?prefix={}",
    "/v1/datasets/A/images?after={}",
    "/v1/datasets/A/instructions?q={}",
    "/v1/datasets/A/instructions?image_id={}",
    "/v1/datasets?revision={}",
    "/docs/static/{}",
    "/sign-in?next={}",
    "/{}",
)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    folder = tmp_path_factory.mktemp("security")
    write_images(folder / "a.parquet", {"K": draw_jpeg(1)})
    write_instructions(folder / "a.json", {"I": record("q", "K")})
    (folder / "data.yaml").write_text(
        "IMAGE_TEXT:\n  A: {mimicit_path: a.json, images_path: a.parquet}\n"
    )
    with start_server(folder / "data.yaml", folder / "c") as live:
        yield live


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("text", NASTY, ids=lambda text: ascii(text)[:20])
def test_it_is_text_and_nothing_more(server: LiveServer, place: str, text: str) -> None:
    for safe in ("", "/"):
        answer = server.get(place.format(quote(text, safe=safe)))
        assert answer.status in (200, 404, 409, 422), answer
        assert SECRET not in answer.body
        assert not {"set-cookie", "x-injected"} & answer.headers.keys()
        assert all(value.isprintable() for value in answer.headers.values())
        assert answer.headers["x-content-type-options"] == "nosniff"
        if answer.headers["content-type"].startswith("text/html"):
            assert b"<script>" not in answer.body
    if "instructions?" in place or "images?prefix" in place:
        assert answer.status == 422 or answer.json()["items"] == []


def test_nothing_was_harmed(server: LiveServer) -> None:
    assert server.get("/v1/datasets/A/images/K").body == draw_jpeg(1)
    assert server.get_json("/v1/datasets/A/instructions")["items"][0]["id"] == "I"


@pytest.mark.parametrize("text", NASTY, ids=lambda text: ascii(text)[:20])
def test_a_lookup_compares_keys(server: LiveServer, text: str) -> None:
    answer = server.post("/v1/images:lookup", {"dataset": "A", "keys": [text, "K"]})
    if answer.ok:
        first, second = answer.json()["items"]
        assert first["error"]["code"] == "unknown_image"
        assert second["content_type"] == "image/jpeg"
    else:
        assert answer.code == "invalid_request"
    assert server.post("/v1/images:lookup", {"dataset": text, "keys": ["K"]}).status in (404, 422)
