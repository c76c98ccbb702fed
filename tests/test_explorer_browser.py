"""The explorer in a real browser: nothing runs that should not, and it is usable in every way."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from explorer_pack import ODD_ID, ODD_KEY, ODD_NAME, write_explorer_pack
from live_server import LiveServer, start_server
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

pytestmark = pytest.mark.slow

CHROMIUM = Path("/usr/bin/chromium")
# Nothing of its own goes to its maker.
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
]
ODD = f"/datasets/{quote(ODD_NAME, safe='')}"
PAGES = {
    "overview": "/",
    "gallery": ODD,
    "search": f"{ODD}?q=blue",
    "nothing found": f"{ODD}?q=zebra",
    "text only": "/datasets/PLAIN",
    "statistics": f"{ODD}/statistics",
    "odd instruction": f"{ODD}/instructions/{quote(ODD_ID, safe='')}",
    "long text": f"{ODD}/instructions/LONG_TEXT",
    "long id": f"{ODD}/instructions/{'L' * 800}",
    "many pictures": f"{ODD}/instructions/MANY",
    "conversation": "/datasets/TALK/instructions/T0",
    "odd image": f"{ODD}/images/{quote(ODD_KEY, safe='')}",
    "tall image": f"{ODD}/images/TALL",
    "wide image": f"{ODD}/images/WIDE",
    "missing image": f"{ODD}/images/NOT_THERE",
    "batch": "/batches?step=1&seed=3",
    "problems": "/problems",
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    folder = tmp_path_factory.mktemp("browser")
    with start_server(write_explorer_pack(folder / "pack"), folder / "catalog") as live:
        yield live


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    if not CHROMIUM.exists():
        pytest.skip(f"{CHROMIUM} is not there: apt install chromium")
    with sync_playwright() as playwright:
        yield playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)


@contextmanager
def visit(browser: Browser, server: LiveServer, **how: Any) -> Iterator[Page]:
    """A page of a new visitor; what goes wrong in it, or leaves the host, fails the test."""
    base = f"http://127.0.0.1:{server.port}"
    context: BrowserContext = browser.new_context(base_url=base, **how)
    context.set_default_timeout(10_000)
    wrong: list[str] = []

    def note(kind: str, what: object) -> None:
        # That a value is damaged can be told only by decoding it, so its picture is asked for.
        if "BROKEN" not in str(what):
            wrong.append(f"{kind}: {what}")

    def note_request(url: str) -> None:
        if not url.startswith(f"{base}/"):
            note("left", url)

    try:
        page = context.new_page()
        page.on("pageerror", lambda error: note("error", error))
        page.on("console", lambda said: note(said.type, f"{said.text} {said.location}"))
        page.on("request", lambda sent: note_request(sent.url))
        page.on("dialog", lambda dialog: note("dialog", dialog.message))
        yield page
        assert wrong == []
    finally:
        context.close()


def test_every_page_runs_nothing_of_the_data(browser: Browser, server: LiveServer) -> None:
    with visit(browser, server) as page:
        for name, path in PAGES.items():
            answer = page.goto(path)
            assert answer is not None, name
            assert answer.status == 200, name
            assert "broken in" not in page.title(), name
            pictures = page.locator("main img:not([alt=BROKEN])")
            for at in range(min(pictures.count(), 6)):
                pictures.nth(at).scroll_into_view_if_needed()
                expect(pictures.nth(at)).to_have_js_property("complete", True)
                assert pictures.nth(at).evaluate("picture => picture.naturalWidth") > 0, name


@pytest.mark.parametrize("width", [360, 1280])
def test_no_page_is_wider_than_the_screen(browser: Browser, server: LiveServer, width: int) -> None:
    with visit(browser, server, viewport={"width": width, "height": 740}) as page:
        for name, path in PAGES.items():
            page.goto(path)
            assert page.evaluate("document.documentElement.scrollWidth") <= width, name


def test_search_is_live(browser: Browser, server: LiveServer) -> None:
    with visit(browser, server) as page:
        page.goto(ODD)
        page.get_by_label("Text in instruction or answer").press_sequentially("QUESTION 1")
        expect(page.locator(".card")).to_have_count(11)
        expect(page.get_by_role("status")).to_have_text("11 found.")
        assert page.url.endswith("?q=QUESTION+1") or "q=QUESTION%201" in page.url
        page.get_by_label("several pictures").check()
        expect(page.locator(".empty")).to_contain_text("QUESTION 1")
        page.get_by_label("Text in instruction or answer").fill("")
        expect(page.locator(".card")).to_have_count(3)
        page.goto("/")
        page.get_by_label("Datasets called").press_sequentially("tal")
        expect(page.locator("tbody tr")).to_have_count(1)


def test_a_search_that_fails_says_so(browser: Browser, server: LiveServer) -> None:
    error = server.get("/nothing", accept="text/html")

    def search() -> None:
        with visit(browser, server) as page:
            page.goto(ODD)
            page.route("**/*q=busy", lambda sent: sent.fulfill(status=503, body=error.body))
            page.get_by_label("Text in instruction or answer").press_sequentially("busy")
            expect(page.get_by_role("heading", level=1)).to_have_text("Not Found")
            expect(page.get_by_role("link", name="All datasets")).to_be_visible()

    # What the browser itself says of the answer is all that is wrong.
    with pytest.raises(AssertionError, match="503"):
        search()


def test_more_is_added_below(browser: Browser, server: LiveServer) -> None:
    with visit(browser, server) as page:
        page.goto(f"{ODD}?q=Question")
        expect(page.locator(".card")).to_have_count(24)
        for count in (48, 72, 96, 100):
            page.get_by_role("link", name="More").click()
            expect(page.locator(".card")).to_have_count(count)
        expect(page.get_by_role("link", name="More")).to_have_count(0)
        ids = page.locator(".card .id").all_inner_texts()
        assert ids == [f"INS_{n:03}" for n in range(100)]


def test_distributions_come_when_they_are_opened(browser: Browser, server: LiveServer) -> None:
    with visit(browser, server) as page:
        page.goto(ODD)
        page.get_by_text("Distributions").click()
        expect(page.locator("figure svg")).to_have_count(5)


def test_it_is_walked_through_by_keyboard(browser: Browser, server: LiveServer) -> None:
    with visit(browser, server) as page:
        page.goto("/datasets/TALK")
        page.keyboard.press("Tab")
        expect(page.get_by_text("Skip to the content")).to_be_focused()
        expect(page.get_by_text("Skip to the content")).to_be_in_viewport()
        page.keyboard.press("Enter")
        focused = "document.activeElement.textContent.trim()"
        seen = []
        for _ in range(20):
            page.keyboard.press("Tab")
            seen.append(page.evaluate(focused))
            outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
            assert outline != "none", seen
            if seen[-1] == "T1":
                break
        assert "Distributions" in seen
        assert seen[-2:] == ["T0", "T1"]  # one stop for each card
        page.keyboard.press("Enter")
        expect(page.get_by_role("heading", level=1)).to_have_text("T1")


def test_a_search_is_sent_by_enter(browser: Browser, server: LiveServer) -> None:
    with visit(browser, server) as page:
        page.goto(ODD)
        field = page.get_by_label("Text in instruction or answer")
        field.fill("Straße")
        field.press("Enter")
        expect(page.get_by_role("status")).to_have_text("20 found.")


def test_steps_are_walked_through(browser: Browser, server: LiveServer) -> None:
    with visit(browser, server) as page:
        page.goto("/batches")
        page.get_by_label("Batch size").fill("4")
        page.get_by_label("Seed").fill("7")
        page.get_by_role("button", name="Show").click()
        expect(page.locator(".card")).to_have_count(4)
        first = page.locator(".card .id").all_inner_texts()
        page.get_by_role("link", name="Next step").click()
        expect(page.get_by_label("Step", exact=True)).to_have_value("1")
        page.get_by_role("link", name="Previous step").click()
        expect(page.get_by_label("Step", exact=True)).to_have_value("0")
        assert page.locator(".card .id").all_inner_texts() == first


def test_it_is_dark_where_that_is_wanted(browser: Browser, server: LiveServer) -> None:
    grounds = {}
    for scheme in ("light", "dark"):
        with visit(browser, server, color_scheme=scheme) as page:
            page.goto(ODD)
            style = "getComputedStyle(document.body)"
            colours = page.evaluate(f"[{style}.backgroundColor, {style}.color]")
            grounds[scheme] = [_lightness(colour) for colour in colours]
    assert grounds["light"][0] > 240 > 60 > grounds["light"][1]
    assert grounds["dark"][0] < 40 < 200 < grounds["dark"][1]


def _lightness(colour: str) -> float:
    """Of "rgb(1, 2, 3)", 0 to 255."""
    return sum(map(float, colour.strip("rgb()").split(","))) / 3


def test_everything_is_there_without_javascript(browser: Browser, server: LiveServer) -> None:
    with visit(browser, server, java_script_enabled=False) as page:
        page.goto("/")
        page.get_by_role("link", name=ODD_NAME).click()
        page.get_by_label("Text in instruction or answer").fill("question")
        page.get_by_role("button", name="Search").click()
        expect(page.locator(".card")).to_have_count(24)
        page.get_by_role("link", name="More").click()
        expect(page.locator(".card .id").first).to_have_text("INS_024")
        page.locator(".card .id").first.click()
        expect(page.get_by_role("heading", level=1)).to_have_text("INS_024")
        page.locator(".own .strip a").click()
        expect(page.get_by_role("heading", level=1)).to_have_text("IMG_024")
        page.get_by_role("link", name="Problems").click()
        expect(page.get_by_role("heading", level=1)).to_have_text("Problems")
        page.get_by_role("link", name="Batches").click()
        page.get_by_role("link", name="Next step").click()
        expect(page.get_by_label("Step", exact=True)).to_have_value("1")


def test_a_picture_that_does_not_decode_says_so(browser: Browser, server: LiveServer) -> None:
    with visit(browser, server) as page:
        page.goto(f"{ODD}/instructions/BAD", wait_until="networkidle")
        said = "getComputedStyle(document.querySelector('img[alt=BROKEN]'), '::after').content"
        assert "can not be decoded" in page.evaluate(said)


def test_inline_script_would_not_run(browser: Browser, server: LiveServer) -> None:
    def inject() -> None:
        with visit(browser, server) as page:
            page.goto("/")
            page.evaluate(
                """() => {
                    const script = document.createElement("script");
                    script.textContent = "window.ran = true";
                    document.head.append(script);
                }"""
            )
            assert page.evaluate("window.ran") is None

    with pytest.raises(AssertionError, match="Content Security Policy"):
        inject()
