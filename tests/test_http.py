"""The HTTP contract: keys, conditions, ranges, limits, errors and resizing, on a real server."""

import base64
import io
import json
import random
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pandas as pd
import pytest
from live_server import LiveServer, image_path, start_server
from packs import draw_jpeg, record, write_images, write_instructions
from PIL import Image

pytestmark = pytest.mark.slow

ODD_KEYS = (
    "a/b/c",
    "../../etc/passwd",
    "..",
    ".",
    "/leading",
    "trailing/",
    "a//b",
    "%2F",
    "a%252Fb",
    "sp ace",
    "plus+plus",
    "quote'\"`;--",
    "semi;colon?query#hash",
    "nul\0byte",
    "line\nend",
    "line end\n",
    "tab\t",
    "ключ",
    "図",
    "🙂",
    "\u00e9",
    "e\u0301",
    "x" * 1000,
    "ж" * 500,
    "SELECT * FROM images",
    "images/inside",
    "instructions",
)

PICTURE = draw_jpeg(77, 64, 64)
STANDARD = base64.b64encode(PICTURE).decode()
FORMS = {
    "standard": STANDARD,
    "url-safe": base64.urlsafe_b64encode(PICTURE).decode(),
    "no padding": STANDARD.rstrip("="),
    "lines": base64.encodebytes(PICTURE).decode(),
    "blanks": f"  {STANDARD[:40]} {STANDARD[40:]}\t\r\n",
    "data address": f"data:image/jpeg;base64,{STANDARD}",
    "all": "data:image/jpeg;base64," + base64.urlsafe_b64encode(PICTURE).decode().rstrip("=") + " ",
}


@pytest.fixture(scope="module")
def pack(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("http")
    odd = {key: draw_jpeg(number) for number, key in enumerate(ODD_KEYS)}
    plain: dict[str, bytes | None] = {f"IMG_{n:03}": draw_jpeg(n, 400, 300) for n in range(20)}
    plain |= {
        "NULL": None,
        "EMPTY": b"",
        "TEXT": b"hello, no picture",
        "BROKEN": draw_jpeg(1, 400, 300)[:700],
        "LARGE": random.Random(5).randbytes(3_000_000),
    }
    write_images(folder / "odd.parquet", odd)
    write_images(folder / "plain.parquet", plain)
    write_instructions(folder / "odd.json", {key: record("what?", key) for key in ODD_KEYS})
    records = {f"INS_{n:03}": record(f"Question {n} of Straße", f"IMG_{n:03}") for n in range(20)}
    records["INS_000"]["rel_ins_ids"] = ["INS_002", "GONE", "INS_001"]
    records["INS_003"]["source"] = {"page": 7, "tags": ["a", None]}
    records["MANY"] = record("many") | {"rel_ins_ids": ["INS_001"] * 60}
    records["BAD_IMAGE"] = record("dangling", "NO_SUCH_IMAGE")
    write_instructions(folder / "plain.json", records)
    write_instructions(folder / "text.json", {"T1": record("text only")})
    forms = pd.DataFrame({"base64": list(FORMS.values())}, index=list(FORMS))
    forms.to_parquet(folder / "forms.parquet")
    escaped = json.dumps(FORMS).replace("/", "\\/").replace("=", "\\u003d")
    (folder / "forms-images.json").write_text(escaped)
    (folder / "data.yaml").write_text(
        "IMAGE_TEXT:\n"
        "  ODD: {mimicit_path: odd.json, images_path: odd.parquet}\n"
        "  PLAIN: {mimicit_path: plain.json, images_path: plain.parquet}\n"
        "  FORMS: {mimicit_path: plain.json, images_path: forms.parquet}\n"
        "  FORMS_JSON: {mimicit_path: plain.json, images_path: forms-images.json}\n"
        "TEXT_ONLY:\n"
        "  TEXT: {mimicit_path: text.json}\n"
    )
    return folder / "data.yaml"


@pytest.fixture(scope="module")
def server(pack: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    with start_server(
        pack,
        tmp_path_factory.mktemp("catalog") / "c",
        max_lookup_keys=30,
        max_answer_bytes=60_000,
        max_body_bytes=50_000,
        max_page_items=50,
        max_image_pixels=200_000,
        max_resize_side=1000,
    ) as live:
        yield live


@pytest.mark.parametrize("key", ODD_KEYS, ids=lambda key: ascii(key)[:24])
def test_a_key_is_opaque_text(server: LiveServer, key: str) -> None:
    number = ODD_KEYS.index(key)
    assert server.get(image_path("ODD", key)).body == draw_jpeg(number)
    assert server.get(f"/v1/images/{quote(key, safe='')}").body == draw_jpeg(number)
    found = server.get_json(f"/v1/datasets/ODD/instructions/{quote(key, safe='')}")
    assert found["id"] == key
    assert server.get(found["image_urls"][0]).body == draw_jpeg(number)


def test_odd_keys_are_listed_in_key_order_and_paged(server: LiveServer) -> None:
    keys: list[str] = []
    after = ""
    while after is not None:
        page = server.get_json(f"/v1/datasets/ODD/images?limit=4&after={quote(after, safe='')}")
        keys += [item["key"] for item in page["items"]]
        after = page["next"]
    assert sorted(keys) == sorted(ODD_KEYS)
    assert keys == sorted(ODD_KEYS, key=str.encode)
    found = server.get_json("/v1/datasets/ODD/images?prefix=a")
    assert [item["key"] for item in found["items"]] == ["a%252Fb", "a/b/c", "a//b"] or all(
        item["key"].startswith("a") for item in found["items"]
    )
    assert len(found["items"]) == 3


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("/v1/datasets/NO", "unknown_dataset"),
        ("/v1/datasets/NO/images", "unknown_dataset"),
        ("/v1/datasets/NO/images/IMG_000", "unknown_dataset"),
        ("/v1/datasets/NO/instructions/INS_000", "unknown_dataset"),
        ("/v1/datasets/PLAIN/images/NO", "unknown_image"),
        ("/v1/datasets/PLAIN/images/", "unknown_image"),
        ("/v1/datasets/PLAIN/images/" + "y" * 5000, "unknown_image"),
        ("/v1/datasets/PLAIN/images/%ff%fe", "unknown_image"),
        ("/v1/datasets/PLAIN/images/%ed%a0%80", "unknown_image"),
        ("/v1/datasets/TEXT/images/IMG_000", "unknown_image"),
        ("/v1/images/NO", "unknown_image"),
        ("/v1/datasets/PLAIN/instructions/NO", "unknown_instruction"),
        ("/v1/instructions/NO", "unknown_instruction"),
        ("/v1/instructions/", "unknown_instruction"),
        ("/nothing/here", "unknown_path"),
        ("/v1", "unknown_path"),
    ],
)
def test_what_is_not_there_is_404(server: LiveServer, path: str, code: str) -> None:
    answer = server.get(path)
    assert (answer.status, answer.code) == (404, code)


@pytest.mark.parametrize(
    "path",
    [
        "/v1/datasets/PLAIN/instructions?limit=0",
        "/v1/datasets/PLAIN/instructions?limit=51",
        "/v1/datasets/PLAIN/instructions?limit=ten",
        "/v1/datasets/PLAIN/instructions?after=x",
        "/v1/datasets/PLAIN/instructions?after=-1",
        "/v1/datasets/PLAIN/instructions?after=99999999999999999999999",
        "/v1/datasets/PLAIN/instructions?q=",
        "/v1/datasets/PLAIN/images?limit=-1",
        "/v1/datasets/PLAIN/images/IMG_000?width=0",
        "/v1/datasets/PLAIN/images/IMG_000?width=1001",
        "/v1/datasets/PLAIN/images/IMG_000?width=wide",
        "/v1/datasets/PLAIN/images/IMG_000?fit=stretch",
        "/v1/datasets/PLAIN/images/IMG_000?format=bmp",
        "/v1/datasets/PLAIN/images/IMG_000?quality=101",
        "/v1/datasets/PLAIN/instructions/INS_000?related=perhaps",
    ],
)
def test_what_is_not_of_the_form_is_422_and_says_where(server: LiveServer, path: str) -> None:
    answer = server.get(path)
    assert (answer.status, answer.code) == (422, "invalid_request")


@pytest.mark.parametrize("key", ["NULL", "EMPTY"])
def test_a_value_without_a_picture_is_unreadable(server: LiveServer, key: str) -> None:
    for path in (image_path("PLAIN", key), image_path("PLAIN", key) + "?width=10"):
        answer = server.get(path)
        assert (answer.status, answer.code) == (422, "image_unreadable")
    assert server.get(image_path("PLAIN", key), if_none_match="*").status == 422


@pytest.mark.parametrize("key", ["TEXT", "BROKEN"])
def test_a_broken_picture_is_served_as_it_is_but_not_resized(server: LiveServer, key: str) -> None:
    assert server.get(image_path("PLAIN", key)).status == 200
    answer = server.get(image_path("PLAIN", key) + "?width=10")
    assert (answer.status, answer.code) == (422, "image_unreadable")


@pytest.mark.parametrize("dataset", ["FORMS", "FORMS_JSON"])
@pytest.mark.parametrize("form", FORMS)
def test_base64_comes_in_every_form(server: LiveServer, dataset: str, form: str) -> None:
    answer = server.get(image_path(dataset, form))
    assert (answer.status, answer.headers["content-type"]) == (200, "image/jpeg")
    assert answer.body == PICTURE


def test_a_large_value_comes_whole(server: LiveServer) -> None:
    answer = server.get(image_path("PLAIN", "LARGE"))
    assert answer.body == random.Random(5).randbytes(3_000_000)


def test_bytes_that_show_no_image_type_are_an_octet_stream(server: LiveServer) -> None:
    answer = server.get(image_path("PLAIN", "TEXT"))
    assert answer.headers["content-type"] == "application/octet-stream"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.body == b"hello, no picture"


def test_the_hot_path_and_the_route_answer_alike(server: LiveServer) -> None:
    revision = server.get_json("/readyz")["revision"]
    hot = server.get(image_path("PLAIN", "IMG_004"))
    pinned = server.get(image_path("PLAIN", "IMG_004") + f"?revision={revision}")
    ranged = server.get(image_path("PLAIN", "IMG_004"), range="bytes=0-")
    slow = server.get(image_path("PLAIN", "IMG_004") + f"?revision={revision}&fit=contain")
    for other, skipped in (
        (pinned, {"cache-control"}),
        (slow, {"cache-control"}),
        (ranged, {"content-range"}),
    ):
        assert other.body == hot.body
        skipped |= {"date", "x-request-id"}
        assert {n: v for n, v in other.headers.items() if n not in skipped} == {
            n: v for n, v in hot.headers.items() if n not in skipped
        }
    assert hot.headers["x-catalog-revision"] == revision
    assert hot.headers["cache-control"] == "no-cache"
    assert pinned.headers["cache-control"] == slow.headers["cache-control"]
    assert "immutable" in pinned.headers["cache-control"]


def test_an_etag_that_is_known_gives_304(server: LiveServer) -> None:
    path = image_path("PLAIN", "IMG_005")
    etag = server.get(path).headers["etag"]
    for header in (etag, f'"other", {etag}', f"W/{etag}", "*"):
        answer = server.get(path, if_none_match=header)
        assert (answer.status, answer.body) == (304, b"")
        assert answer.headers["etag"] == etag
    assert server.get(path, if_none_match='"other"').status == 200
    small = server.get(path + "?width=20")
    assert small.headers["etag"] != etag
    assert server.get(path + "?width=20", if_none_match=small.headers["etag"]).status == 304
    assert server.get(image_path("PLAIN", "IMG_006")).headers["etag"] != etag


@pytest.mark.parametrize(
    ("wanted", "first", "last"),
    [
        ("bytes=0-0", 0, 0),
        ("bytes=5-9", 5, 9),
        ("bytes=5-", 5, None),
        ("bytes=-7", -7, None),
        ("bytes=-999999", 0, None),
        ("bytes=10-999999", 10, None),
    ],
)
def test_a_range_is_answered_206(
    server: LiveServer, wanted: str, first: int, last: int | None
) -> None:
    body = draw_jpeg(7, 400, 300)
    answer = server.get(image_path("PLAIN", "IMG_007"), range=wanted)
    expected = body[first:] if last is None else body[first : last + 1]
    start = first % len(body)
    assert (answer.status, answer.body) == (206, expected)
    assert answer.headers["content-range"] == (
        f"bytes {start}-{start + len(expected) - 1}/{len(body)}"
    )


@pytest.mark.parametrize("wanted", ["bytes=999999-", "bytes=-0"])
def test_a_range_of_nothing_is_416(server: LiveServer, wanted: str) -> None:
    answer = server.get(image_path("PLAIN", "IMG_007"), range=wanted)
    assert answer.status == 416
    assert answer.headers["content-range"] == f"bytes */{len(draw_jpeg(7, 400, 300))}"


@pytest.mark.parametrize(
    "wanted", ["bytes=9-5", "bytes=0-1,4-5", "items=0-1", "bytes=a-b", "bytes=-", "nonsense"]
)
def test_a_range_that_is_none_is_ignored(server: LiveServer, wanted: str) -> None:
    answer = server.get(image_path("PLAIN", "IMG_007"), range=wanted)
    assert (answer.status, answer.body) == (200, draw_jpeg(7, 400, 300))


def test_a_range_holds_only_for_the_etag_it_names(server: LiveServer) -> None:
    path = image_path("PLAIN", "IMG_007")
    etag = server.get(path).headers["etag"]
    assert server.get(path, range="bytes=0-3", if_range=etag).status == 206
    assert server.get(path, range="bytes=0-3", if_range='"old"').status == 200


def test_a_request_for_other_bytes_is_refused(server: LiveServer) -> None:
    path = image_path("PLAIN", "IMG_007")
    etag = server.get(path).headers["etag"]
    for names in (etag, f'"other", {etag}', "*"):
        assert server.get(path, if_match=names, range="bytes=0-3").status == 206
    for names in ('"other"', f"W/{etag}", ""):  # the comparison is the strong one
        answer = server.get(path, if_match=names, range="bytes=0-3")
        assert (answer.status, answer.code) == (412, "precondition_failed")
    assert server.get(path + "?width=20", if_match=etag).status == 412


@pytest.mark.parametrize(
    "path",
    [
        image_path("PLAIN", "IMG_008"),
        image_path("PLAIN", "IMG_008") + "?width=20",
        image_path("PLAIN", "NO"),
        "/v1/datasets",
        "/v1/datasets/PLAIN/instructions?limit=2",
        "/v1/plan",
        "/v1/batches/0",
        "/v1/batches/999999",
        "/healthz",
        "/readyz",
        "/",
        "/docs",
        "/openapi.json",
        "/nothing",
    ],
)
def test_head_has_the_headers_of_get(server: LiveServer, path: str) -> None:
    head, get = server.request("HEAD", path, {"range": "bytes=0-3"}), server.get(path)
    assert (head.status, head.body) == (get.status, b"")
    own = {"date", "x-request-id"}
    if get.status >= 400:
        own.add("content-length")  # the body has the request's id, which may be one longer
    assert {n: v for n, v in head.headers.items() if n not in own} == {
        n: v for n, v in get.headers.items() if n not in own
    }


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("DELETE", image_path("PLAIN", "IMG_008"), "GET, HEAD"),
        ("POST", "/v1/plan", "GET, HEAD"),
        ("HEAD", "/v1/images:lookup", "POST"),
        ("GET", "/v1/images:lookup", "POST"),
    ],
)
def test_another_method_is_405(server: LiveServer, method: str, path: str, allowed: str) -> None:
    answer = server.request(method, path)
    assert (answer.status, answer.headers["allow"]) == (405, allowed)
    assert method == "HEAD" or answer.code == "method_not_allowed"


def test_what_allows_head_by_itself_says_so_once(server: LiveServer) -> None:
    answer = server.request("POST", "/docs/static/swagger-ui.css")
    assert answer.status == 405
    assert sorted(answer.headers["allow"].split(", ")) == ["GET", "HEAD"]


def test_a_pinned_revision_is_kept_or_refused(server: LiveServer) -> None:
    revision = server.get_json("/readyz")["revision"]
    for path in (
        "/v1/datasets",
        "/v1/datasets/PLAIN",
        "/v1/datasets/PLAIN/images",
        "/v1/datasets/PLAIN/instructions",
        "/v1/datasets/PLAIN/instructions/INS_000",
        image_path("PLAIN", "IMG_000"),
        image_path("PLAIN", "IMG_000") + "?width=9",
    ):
        join = "&" if "?" in path else "?"
        good = server.get(f"{path}{join}revision={revision}")
        assert good.status == 200
        assert "immutable" in good.headers["cache-control"]
        bad = server.get(f"{path}{join}revision=0123")
        assert (bad.status, bad.code) == (409, "revision_changed")
        assert bad.headers["x-catalog-revision"] == revision


@pytest.mark.parametrize(
    ("query", "size", "kind"),
    [
        ("width=100", (100, 75), "image/jpeg"),
        ("height=30", (40, 30), "image/jpeg"),
        ("width=64&height=64", (64, 48), "image/jpeg"),
        ("width=64&height=64&fit=cover", (64, 64), "image/jpeg"),
        ("width=100&format=png", (100, 75), "image/png"),
        ("width=100&format=webp&quality=30", (100, 75), "image/webp"),
        ("format=png", (400, 300), "image/png"),
        ("width=1000", (400, 300), "image/jpeg"),
        ("width=40&fit=cover", (40, 30), "image/jpeg"),
    ],
)
def test_a_picture_is_resized(
    server: LiveServer, query: str, size: tuple[int, int], kind: str
) -> None:
    answer = server.get(f"{image_path('PLAIN', 'IMG_009')}?{query}")
    assert answer.status == 200
    assert answer.headers["content-type"] == kind
    with Image.open(io.BytesIO(answer.body)) as picture:
        assert picture.size == size


def test_an_instruction_has_its_other_fields_and_its_context(server: LiveServer) -> None:
    found = server.get_json("/v1/datasets/PLAIN/instructions/INS_003")
    assert found["extra"] == {"source": {"page": 7, "tags": ["a", None]}}
    assert found["context"] is None
    found = server.get_json("/v1/instructions/INS_000?related=true")
    assert [one["id"] for one in found["context"]] == ["INS_002", "INS_001"]
    assert found["missing_context_ids"] == ["GONE"]
    answer = server.get("/v1/instructions/MANY?related=true")
    assert (answer.status, answer.code) == (413, "too_large")


def test_instructions_are_searched_and_paged(server: LiveServer) -> None:
    page = server.get_json("/v1/datasets/PLAIN/instructions?q=QUESTION%201&limit=4")
    assert [item["id"] for item in page["items"]] == ["INS_001", "INS_010", "INS_011", "INS_012"]
    rest = server.get_json(f"/v1/datasets/PLAIN/instructions?q=question%201&after={page['next']}")
    assert [item["id"] for item in rest["items"]] == [f"INS_{n:03}" for n in range(13, 20)]
    assert rest["next"] is None
    found = server.get_json("/v1/datasets/PLAIN/instructions?image_id=IMG_005")
    assert [item["id"] for item in found["items"]] == ["INS_005"]
    assert server.get_json("/v1/datasets/PLAIN/instructions?q=%25%27--")["items"] == []


def test_problems_are_counted(server: LiveServer) -> None:
    problems = server.get_json("/v1/datasets/PLAIN")["problems"]
    assert problems == {
        "dangling_context": 1,
        "empty_image": 1,
        "missing_image": 1,
        "null_image": 1,
    }
    assert server.get_json("/v1/datasets/PLAIN")["usable"] == 21


def test_a_lookup_keeps_the_order_and_gives_an_error_for_each(server: LiveServer) -> None:
    keys = ["IMG_003", "NO", "IMG_001", "NULL", "IMG_003", "TEXT", 'q"\n']
    answer = server.post("/v1/images:lookup", {"dataset": "PLAIN", "keys": keys})
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["cache-control"] == "no-cache"
    assert answer.headers["content-length"] == str(len(answer.body))
    items = answer.json()["items"]
    assert [item["key"] for item in items] == keys
    assert base64.b64decode(items[0]["base64"]) == draw_jpeg(3, 400, 300)
    assert items[0]["content_type"] == "image/jpeg"
    assert items[1]["error"]["code"] == "unknown_image"
    assert items[3]["error"]["code"] == "image_unreadable"
    assert items[4]["base64"] == items[0]["base64"]
    assert base64.b64decode(items[5]["base64"]) == b"hello, no picture"


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"dataset": "PLAIN", "keys": ["k"] * 31}, 413, "too_large"),
        ({"dataset": "PLAIN", "keys": ["IMG_001"] * 30}, 413, "too_large"),
        ({"dataset": "NO", "keys": ["k"]}, 404, "unknown_dataset"),
        ({"dataset": "TEXT", "keys": ["k"]}, 404, "unknown_image"),
        ({"dataset": "PLAIN", "keys": []}, 422, "invalid_request"),
        ({"dataset": "PLAIN"}, 422, "invalid_request"),
        ({"dataset": "PLAIN", "keys": [7]}, 422, "invalid_request"),
        (["no", "object"], 422, "invalid_request"),
        (b"{not json", 422, "invalid_request"),
        (b"\xff\xfe", 422, "invalid_request"),
        (b"[" * 30_000, 422, "invalid_request"),
        (b'{"dataset": "PLAIN", "keys": ["\\ud800"]}', 422, "invalid_request"),
        (b" " * 60_000, 413, "too_large"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_lookup_that_can_not_be(server: LiveServer, body: object, status: int, code: str) -> None:
    answer = server.post("/v1/images:lookup", body)
    assert (answer.status, answer.code) == (status, code)


def test_a_client_that_hangs_up_disturbs_nobody(server: LiveServer) -> None:
    def hang_up(body: bytes) -> None:
        with socket.create_connection(("127.0.0.1", server.port), timeout=5) as client:
            client.sendall(body)

    half = b"POST /v1/images:lookup HTTP/1.1\r\nHost: x\r\nContent-Length: 5000\r\n\r\n{half"
    get = f"GET {image_path('PLAIN', 'IMG_000')} HTTP/1.1\r\nHost: x\r\n\r\n".encode()
    bodies = [half, get, get[:20], b"\0\0garbage\r\n\r\n"] * 10
    threads = [threading.Thread(target=hang_up, args=(body,)) for body in bodies]
    for thread in threads:
        thread.start()
    for number in range(20):
        answer = server.get(image_path("PLAIN", f"IMG_{number:03}"))
        assert answer.body == draw_jpeg(number, 400, 300)
    for thread in threads:
        thread.join()
    assert server.get("/healthz").status == 200
    assert "Traceback" not in server.log.read_text()


def test_the_api_pages_load_nothing_from_elsewhere(server: LiveServer) -> None:
    page = server.get("/docs")
    assert page.status == 200
    text = page.body.decode()
    for source in ("/docs/static/swagger-ui-bundle.js", "/docs/static/swagger-ui.css"):
        assert source in text
        assert server.get(source).status == 200
    assert "http" not in text.replace('charset="utf-8"', "")
    assert "default-src 'self'" in page.headers["content-security-policy"]
    assert server.get("/docs/start.js").status == 200
    assert json.loads(server.get("/openapi.json").body)["openapi"].startswith("3.")
    assert server.get("/docs/static/../../../main.py").status == 404
