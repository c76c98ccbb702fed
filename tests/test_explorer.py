"""The explorer's pages as the server sends them: what a browser without JavaScript shows."""

import json
import re
import shlex
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import cast
from urllib.parse import quote, unquote

import pytest
from explorer_pack import LONG_KEY, ODD_ID, ODD_KEY, ODD_NAME, SCRIPT, Page, write_explorer_pack
from live_server import LiveServer, start_server

from app.catalog.dataset import Dataset
from app.explorer.mixture import make_mixture
from app.explorer.words import format_bytes
from app.progress import Progress
from app.server import answering, open_socket
from app.settings import load_settings

pytestmark = pytest.mark.slow

ODD = f"/datasets/{quote(ODD_NAME, safe='')}"
HTML = "text/html,application/xhtml+xml"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    folder = tmp_path_factory.mktemp("explorer")
    with start_server(write_explorer_pack(folder / "pack"), folder / "catalog") as live:
        yield live


def get(server: LiveServer, path: str, status: int = 200) -> Page:
    answer = server.get(path, accept=HTML)
    assert answer.status == status, answer
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    return Page(answer.body.decode())


def one(base: str, name: str) -> str:
    return f"{base}/{quote(name, safe='')}"


PAGES = [
    "/",
    "/?q=talk",
    ODD,
    f"{ODD}?q=red&several=true&context=true&problem=true",
    f"{ODD}/statistics",
    one(f"{ODD}/instructions", ODD_ID),
    one(f"{ODD}/images", ODD_KEY),
    one(f"{ODD}/images", LONG_KEY),
    "/datasets/TALK/instructions/T0",
    "/datasets/PLAIN/statistics",
    "/batches",
    "/problems",
    "/problems?kind=missing_image&dataset=TALK",
]


@pytest.mark.parametrize("path", PAGES)
def test_a_page_runs_nothing_and_loads_nothing_from_elsewhere(
    server: LiveServer, path: str
) -> None:
    answer = server.get(path, accept=HTML)
    page = Page(answer.body.decode())
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["referrer-policy"] == "no-referrer"
    for tag, attributes in page.elements:
        assert tag != "style"
        assert not [name for name in attributes if name == "style" or name.startswith("on")]
        for name in ("src", "href", "action", "hx-get"):
            address = attributes.get(name, "/")
            assert address.startswith(("/", "?", "#")), address
            assert not address.startswith("//"), address
    scripts = [one["src"] for one in page.find("script")]
    assert [address.split("?")[0] for address in scripts] == ["/static/explorer/htmx.min.js"]


@pytest.mark.parametrize("path", PAGES)
def test_a_page_can_be_found_ones_way_around_in(server: LiveServer, path: str) -> None:
    page = get(server, path)
    names = [name for name, _ in page.elements]
    assert names.count("h1") == names.count("main") == 1
    assert [one["lang"] for one in page.find("html")] == ["en"]
    assert page.links("#main") == ["#main"]
    labelled = {one.get("for") for one in page.find("label")}
    for field in page.find("input", type="search"):
        assert field["id"] in labelled
    for picture in page.find("img"):
        assert picture["alt"]
    for header in page.find("th"):
        assert header["scope"] in ("row", "col")


@pytest.mark.parametrize("path", PAGES)
def test_links_lead_somewhere(server: LiveServer, path: str) -> None:
    for address in dict.fromkeys(get(server, path).links("/")):
        assert server.get(address, accept=HTML).status == 200, address


def test_the_overview_has_every_dataset_and_its_share(server: LiveServer) -> None:
    page = get(server, "/")
    for name in (ODD_NAME, "TALK", "PLAIN"):
        assert name in page.text
        assert f"/datasets/{quote(name, safe='')}" in page.links()
    shares = server.get_json("/v1/datasets/PLAIN")
    assert shares["share"] == 1.0
    assert server.get("/").headers["x-catalog-revision"] in page.text
    drawn = [one for one in page.find("rect") if one.get("height") == "24"]
    widths = [float(one["width"]) for one in drawn]
    assert len(drawn) == 3 + 3 + 3  # groups, datasets below them, and a bar for each group
    assert sum(widths[:3]) == pytest.approx(1000, abs=0.1)
    assert sum(widths[3:6]) == pytest.approx(1000, abs=0.1)


def test_the_overview_finds_datasets_by_name(server: LiveServer) -> None:
    page = get(server, "/?q=TAL")
    assert "/datasets/TALK" in page.links()
    assert "/datasets/PLAIN" not in page.links()
    assert "No dataset is called like “zebra”" in get(server, "/?q=zebra").text
    assert "No further dataset." in get(server, "/?after=1000").text


def list_ids(page: Page) -> list[str]:
    return [unquote(link.rsplit("/", 1)[1]) for link in page.links() if "/instructions/" in link]


def test_a_gallery_pages_through_all_instructions(server: LiveServer) -> None:
    seen: list[str] = []
    path = ODD
    while path:
        page = get(server, path)
        seen += list_ids(page)
        path = next((one["href"] for one in page.find("a", rel="next")), "")
    expected = server.get_json(f"/v1{ODD}/instructions?limit=1000")["items"]
    # The one whose id is a step in a path has it behind a question mark.
    assert [id.removeprefix("?id=") for id in seen] == [item["id"] for item in expected]


@pytest.mark.parametrize("q", ["red", "STRASSE", "straße", "猫", "question 1", "%", "<script>"])
def test_a_gallery_is_searched_as_the_api_is(server: LiveServer, q: str) -> None:
    found = server.get_json(f"/v1{ODD}/instructions?limit=24&q={quote(q, safe='')}")["items"]
    page = get(server, f"{ODD}?q={quote(q, safe='')}")
    assert list_ids(page) == [item["id"] for item in found]
    if not found:
        assert f"with “{q}”" in page.text


def test_a_gallery_is_filtered(server: LiveServer) -> None:
    assert list_ids(get(server, f"{ODD}?several=true")) == ["SHAPED", "MANY", "BAD"]
    assert list_ids(get(server, f"{ODD}?problem=true")) == ["MISSING", "BAD"]
    assert list_ids(get(server, f"{ODD}?several=true&problem=true&q=BAD")) == ["BAD"]
    assert list_ids(get(server, "/datasets/TALK?context=true")) == ["T0"]
    assert list_ids(get(server, "/datasets/TALK?problem=true")) == ["T0", "T5"]
    assert list_ids(get(server, "/datasets/PLAIN?context=true")) == []


def test_markup_in_the_data_is_text(server: LiveServer) -> None:
    for path in (ODD, one(f"{ODD}/instructions", ODD_ID), f"{ODD}?q={quote(SCRIPT)}"):
        page = get(server, path)
        assert len(list(page.find("script"))) == 1
        assert not [one for one in page.find("img") if not one["src"].startswith("/v1/")]
        assert SCRIPT in page.text
        assert not list(page.find("i"))


def test_what_can_not_be_shown_says_why(server: LiveServer) -> None:
    page = get(server, f"{ODD}/instructions/BAD")
    for why in ("its value is null", "its value is empty", "the bytes are not a JPEG"):
        assert why in page.text
    assert page.classes("no-picture") == 3
    assert "its image NULL is unreadable: never drawn" in page.text
    page = get(server, f"{ODD}/instructions/MISSING")
    assert "missing: the dataset has no image of this key" in page.text


def test_a_conversation_is_in_order_and_marks_what_dangles(server: LiveServer) -> None:
    page = get(server, "/datasets/TALK/instructions/T0")
    text = re.sub(r"\s+", " ", page.text)
    order = ["turn 2", "GONE", "no instruction has this id", "turn 1", "turn 5", "turn 0"]
    assert [text.index(part) for part in order] == sorted(text.index(part) for part in order)
    assert "its image NOT_THERE is missing: left out of the samples" in text
    assert "/datasets/TALK/instructions/GONE" not in page.links()
    assert "curl -s http://127.0.0.1" in text
    assert "Client('http://127.0.0.1" in text


def test_an_instruction_with_many_pictures_has_them_in_pages(server: LiveServer) -> None:
    page = get(server, f"{ODD}/instructions/MANY")
    assert len(list(page.find("img"))) == 24
    (following,) = [one["href"] for one in page.find("a", rel="next")]
    assert len(list(get(server, f"{ODD}/instructions/MANY{following}").find("img"))) == 16


def test_an_instruction_shows_its_other_fields_and_the_commands_work(server: LiveServer) -> None:
    page = get(server, one(f"{ODD}/instructions", ODD_ID))
    assert '"page": 7' in page.text
    (address,) = re.findall(r"curl -s '?http://127\.0\.0\.1:\d+(/[^\s']+)", page.text)
    assert server.get_json(address)["id"] == ODD_ID


def test_the_commands_work_for_an_id_that_is_a_step_in_a_path(server: LiveServer) -> None:
    page = get(server, f"{ODD}/instructions/?id=..")
    (command,) = re.findall(r"curl .*", page.text)
    found = subprocess.run(shlex.split(command), capture_output=True, timeout=30, check=True)
    assert json.loads(found.stdout)["id"] == ".."
    assert not page.links("/v1/")


def test_an_image_says_where_its_bytes_are(server: LiveServer) -> None:
    page = get(server, one(f"{ODD}/images", ODD_KEY))
    text = re.sub(r"\s+", " ", page.text)
    for fact in (
        "image/jpeg",
        "200 \u00d7 200",
        "odd.parquet",
        "Row group0",
        "snappy",
        "fast path",
    ):
        assert fact in text, fact
    (picture,) = [one for one in page.find("img") if "?" not in one["src"]]
    assert server.get(picture["src"]).body.startswith(b"\xff\xd8\xff")
    assert list_ids(page) == [ODD_ID]


def test_an_image_that_is_not_there_names_who_wants_it(server: LiveServer) -> None:
    page = get(server, f"{ODD}/images/NOT_THERE")
    assert "missing" in page.text
    assert list_ids(page) == ["MISSING"]
    page = get(server, f"{ODD}/images/NULL")
    assert "the value is null" in page.text


def test_thumbnails_are_the_api_s_and_keep_their_etag(server: LiveServer) -> None:
    thumbs = [one["src"] for one in get(server, ODD).find("img") if "BROKEN" not in one["src"]]
    assert len(thumbs) > 20
    for address in thumbs:
        answer = server.get(address)
        assert answer.headers["content-type"].startswith("image/"), address
        assert server.get(address, if_none_match=answer.headers["etag"]).status == 304


def test_a_batch_shows_what_the_api_hands_out(server: LiveServer) -> None:
    for query in ("step=1&seed=3", "step=2&batch_size=4&rank=1&world_size=2&seed=9&epoch=5"):
        lines = server.get(
            f"/v1/batches/{query.replace('step=', '').replace('&', '?', 1)}"
            "&format=ndjson&images=none"
        ).body.splitlines()
        page = get(server, f"/batches?{query}")
        assert list_ids(page) == [json.loads(line)["id"] for line in lines]
        plan = server.get_json(f"/v1/plan?{query.split('&', 1)[1]}")
        assert f"of {plan['steps']}, counted from 0" in page.text
        following = [one["href"] for one in page.find("a", rel="next")]
        assert all("step=" in address for address in following)


def test_a_batch_that_is_not_there_is_said_beside_the_form(server: LiveServer) -> None:
    page = get(server, "/batches?step=100000", 404)
    assert "there is no step 100000" in page.text
    assert list(page.find("input", name="step", value="100000"))
    assert "they begin at 0" in get(server, "/batches?rank=2", 422).text


def test_an_epoch_without_steps_leads_back_to_its_first(server: LiveServer) -> None:
    page = get(server, "/batches?group=VIDEO_TEXT&step=3", 404)
    (back,) = page.find("a", rel="prev")
    assert "there is no step 0" in get(server, back["href"], 404).text


def test_a_large_batch_is_shown_in_parts(server: LiveServer) -> None:
    path, count = "/batches?group=IMAGE_TEXT&batch_size=60", 0
    while path:
        page = get(server, path)
        count += len(list_ids(page))
        path = next((link for link in page.links("/batches?") if "first=" in link), "")
    assert count == 60


def test_problems_are_those_of_the_check_with_links(server: LiveServer) -> None:
    page = get(server, "/problems")
    for link in ("MISSING", "BAD", "BLANK"):
        assert f"{ODD}/instructions/{link}" in page.links()
    assert f"{ODD}/images/NULL" in page.links()
    answer = server.get("/problems.json")
    assert "attachment" in answer.headers["content-disposition"]
    found = answer.json()
    assert found["revision"] == answer.headers["x-catalog-revision"]
    kinds = {one["kind"] for one in found["problems"]}
    assert kinds >= {"missing_image", "null_image", "dangling_context", "empty_answer"}
    missing = [one for one in found["problems"] if one["kind"] == "missing_image"]
    assert [row["name"] for one in missing for row in one["rows"]] == ["MISSING", "T5"]


def test_every_problem_of_a_kind_is_listed(server: LiveServer) -> None:
    words = get(server, "/problems?kind=missing_image").text.split()
    assert {"MISSING", "T5", "NOT_THERE"} <= {*words}
    assert "missing_image" not in get(server, "/problems?kind=null_image").text


@pytest.mark.parametrize(
    ("path", "status", "words", "near"),
    [
        ("/datasets/TALKS", 404, "no dataset is called", "/datasets/TALK"),
        (
            "/datasets/TALK/instructions/",
            404,
            "no instruction has",
            "/datasets/TALK/instructions/T0",
        ),
        ("/datasets/TALK/images/IMG_0", 404, "no image has", "/datasets/TALK/images/IMG_000"),
        ("/datasets/PLAIN/images/X", 404, "TEXT_ONLY", "/"),
        ("/nothing/here", 404, "there is no such path", "/"),
        ("/batches?step=-1", 422, "greater than or equal", "/"),
        ("/problems?kind=made_up", 422, "no kind of problem", "/"),
        ("/problems?dataset=TALKS", 404, "no dataset is called", "/datasets/TALK"),
    ],
)
def test_an_error_is_a_page(
    server: LiveServer, path: str, status: int, words: str, near: str
) -> None:
    page = get(server, path, status)
    assert words in page.text
    assert near in page.links()


def test_programs_get_errors_as_before(server: LiveServer) -> None:
    assert server.get("/nothing/here").code == "unknown_path"
    assert server.get("/v1/datasets/NO", accept=HTML).code == "unknown_dataset"
    assert server.request("POST", "/v1/datasets").status == 405


def test_static_files_are_kept_for_ever_in_their_version(server: LiveServer) -> None:
    (address,) = [one["href"] for one in get(server, "/").find("link", rel="stylesheet")]
    answer = server.get(address)
    assert "immutable" in answer.headers["cache-control"]
    assert server.get(address.split("?")[0]).headers["cache-control"] == "no-cache"
    etag = answer.headers["etag"]
    assert server.get(address, if_none_match=etag).status == 304
    assert server.get("/static/explorer/..%2Fpages.py").status == 404


def test_the_description_has_no_pages(server: LiveServer) -> None:
    paths = server.get_json("/openapi.json")["paths"]
    own = ("/v1/", "/healthz", "/readyz", "/metrics")
    assert not [path for path in paths if not path.startswith(own)]


def test_a_file_that_has_changed_leaves_the_page_standing(tmp_path: Path) -> None:
    data = write_explorer_pack(tmp_path / "pack")
    with start_server(data, tmp_path / "catalog") as server:
        parquet = data.parent / "odd.parquet"
        parquet.write_bytes(parquet.read_bytes()[:-100] + b"x" * 100)
        page = get(server, "/datasets/TALK")
        assert page.classes("no-picture") == 6
        assert "index" in page.text
        page = get(server, "/datasets/TALK/images/IMG_000")
        assert "source_changed" in page.text
        assert get(server, "/datasets/TALK/statistics").classes("bar")
        assert get(server, "/batches?group=IMAGE_TEXT_IN_CONTEXT&batch_size=2", 503)
        assert "Traceback" not in server.log.read_text()


Waiting = tuple[LiveServer, Callable[[Progress], None]]


@pytest.fixture
def waiting() -> Iterator[Waiting]:
    """What answers while the catalog is being built, and what it is told of the progress."""
    with wait_with() as found:
        yield found


@contextmanager
def wait_with(tokens: str | None = None) -> Iterator[Waiting]:
    settings = load_settings(port=0, tokens=tokens)
    with (
        open_socket(settings) as listening,
        answering(settings, listening) as tell,
        subprocess.Popen(["true"], text=True) as process,
    ):
        yield LiveServer(listening.getsockname()[1], process, Path()), tell


def test_what_is_done_names_files_and_is_for_nobody_where_tokens_are_needed() -> None:
    with wait_with(tokens="ann: 0123456789abcdef") as (server, tell):
        tell(Progress("sorting the keys of /data/secret", 25, 100))
        assert server.get("/readyz").json()["done_bytes"] == 25
        for path in ("/readyz", "/v1/datasets", "/"):
            assert b"secret" not in server.get(path, accept=HTML).body


def test_a_browser_sees_how_far_the_building_is(waiting: Waiting) -> None:
    server, tell = waiting
    tell(Progress("indexed 1 of <4> files", 250_000_000, 1_000_000_000))
    answer = server.get("/datasets/TALK", accept=HTML)
    assert (answer.status, answer.headers["retry-after"]) == (503, "2")
    assert answer.headers["cache-control"] == "no-store"
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    page = Page(answer.body.decode())
    assert "indexed 1 of <4> files" in page.text
    assert "250 MB of 1.0 GB, 25.0 %" in page.text
    assert [one["content"] for one in page.find("meta") if "http-equiv" in one] == ["2"]
    assert not list(page.find("script"))
    (style,) = [one["href"] for one in page.find("link", rel="stylesheet")]
    assert server.get(style).headers["content-type"].startswith("text/css")


def test_programs_are_told_as_before_while_it_is_built(waiting: Waiting) -> None:
    server, _ = waiting
    assert server.get("/").code == "not_ready"
    assert server.get("/v1/datasets", accept=HTML).code == "not_ready"
    assert server.get("/readyz", accept=HTML).json()["status"] == "indexing"
    assert server.get("/healthz", accept=HTML).json() == {"status": "ok"}


def test_a_bar_of_many_datasets_is_whole() -> None:
    draws = [(f"D{number}", number % 7 + 9000 * (number < 3)) for number in range(10_000)]
    datasets = [SimpleNamespace(name=name, group="TEXT_ONLY", draws=n) for name, n in draws]
    mixture = make_mixture(cast("list[Dataset]", datasets))
    (bar,) = mixture.groups
    assert bar.samples == mixture.samples == sum(n for _, n in draws)
    assert [one.label for one in bar.slices] == ["D0", "D1", "D2", "9,997 others"]
    assert sum(one.width for one in bar.slices) == pytest.approx(1000, abs=0.01)
    assert sum(one.share for one in bar.slices) == pytest.approx(1)


@pytest.mark.parametrize(
    ("size_bytes", "text"),
    [
        (0, "0 bytes"),
        (999, "999 bytes"),
        (1000, "1.0 kB"),
        (75_340, "75.3 kB"),
        (999_600, "1.0 MB"),
    ],
)
def test_sizes_are_words(size_bytes: int, text: str) -> None:
    assert format_bytes(size_bytes) == text
