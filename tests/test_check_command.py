"""mimicit check as a command: its exit status, what it prints, and the reports it writes."""

import json
import os
import re
import subprocess
import typing
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import msgspec
import pytest
from check_packs import Dataset, Pack, Source, encode, find_in_pack
from live_server import command, environment
from packs import draw_jpeg, record
from test_check import planted

from app.catalog.units import replace_file
from app.charts import Bar, draw_bars, draw_histogram
from app.check.kinds import KINDS
from app.check.report import Report

pytestmark = pytest.mark.slow

EVIL = "<script>alert('1')</script>\"><img src=//evil.example/x onerror=a>&amp;{{7*7}}\x1b[31m"
VOID = {"meta", "br", "img", "link", "input"}


def run(*words: str | Path, folder: Path, **settings: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command("check", *words, "--catalog-dir", folder / "catalogs"),
        env=environment(**settings),
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        timeout=60,
    )


def evil() -> Pack:
    """Texts that would be markup, an address or a command to a terminal, everywhere."""
    values = [(EVIL, encode(draw_jpeg(1))), ("k", encode(b"no picture")), (f"{EVIL}2", None)]
    records = [
        (EVIL, record(EVIL, EVIL, f"{EVIL}gone", answer="")),
        ("1.jpg", record("q", "k.jpg")),
    ]
    return Pack([Dataset("A <b>&'\"{{7*7}}", records, Source("<b>'&.parquet", list(values)))])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("check")


@pytest.fixture(scope="module")
def evil_run(folder: Path) -> subprocess.CompletedProcess[str]:
    data = evil().write(folder)
    words = ("--html", folder / "r.html", "--json", folder / "r.json", "--decode", "--suggest")
    return run(data, *words, folder=folder, COLUMNS="60", FORCE_COLOR="")


def test_the_summary_is_plain_text(evil_run: subprocess.CompletedProcess[str]) -> None:
    assert evil_run.returncode == 1
    assert "\x1b" not in evil_run.stdout + evil_run.stderr
    assert "\u202e" not in evil_run.stdout
    assert max(map(len, evil_run.stdout.splitlines())) <= 120
    for text in ("missing_image 2", "undecodable_picture 1", "empty_answer 1", "key_rules:"):
        assert text in evil_run.stdout
    assert KINDS["missing_image"].advice[:40] in evil_run.stdout
    assert "Traceback" not in evil_run.stderr


class Page(HTMLParser):
    """A page's elements, and whether every one of them is closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def test_the_page_is_self_contained_and_escaped(
    evil_run: subprocess.CompletedProcess[str], folder: Path
) -> None:
    text = (folder / "r.html").read_text()
    page = Page(text)
    assert page.open == []
    tags = {tag for tag, _ in page.elements}
    assert not tags & {"script", "img", "link", "iframe", "object", "b><", "base", "form"}
    for _, attributes in page.elements:
        assert not [name for name in attributes if name.startswith("on") or name in ("src", "href")]
    assert not re.search(r"https?:|url\(|@import", text)
    shown = " ".join(page.texts)
    assert "<script>alert('1')</script>" in shown
    assert "{{7*7}}" in shown
    assert "\x1b" not in text
    assert "\u202e" not in text
    assert sum(tag == "svg" for tag, _ in page.elements) >= 2
    policy = next(a["content"] for t, a in page.elements if t == "meta" and "http-equiv" in a)
    assert policy is not None
    assert "default-src 'none'" in policy
    assert {"missing_image", "undecodable_picture"} <= {
        attributes.get("id") for tag, attributes in page.elements if tag == "article"
    }


def test_the_json_is_what_its_types_say(
    evil_run: subprocess.CompletedProcess[str], folder: Path
) -> None:
    text = (folder / "r.json").read_bytes()
    report = msgspec.json.decode(text, type=Report, strict=True)
    assert msgspec.json.format(msgspec.json.encode(report)) == text.rstrip()
    found = json.loads(text)
    assert found["format"] == 1
    expected = find_in_pack(evil())[0] | {"undecodable_picture": 1}
    assert {one["kind"]: one["count"] for one in found["problems"]} == expected
    names = {row["name"] for one in found["problems"] for row in one["examples"]}
    assert {EVIL, f"{EVIL}2"} <= names
    assert found["suggestions"][0]["missing_before"] == 2


def list_fields(kind: Any) -> Iterator[str]:
    for field in msgspec.structs.fields(kind):
        yield field.encode_name
        for inner in [field.type, *typing.get_args(field.type)]:
            if isinstance(inner, type) and issubclass(inner, msgspec.Struct):
                yield from list_fields(inner)


def test_every_field_and_kind_is_documented() -> None:
    page = (Path(__file__).parents[1] / "docs" / "check.md").read_text()
    for name in list_fields(Report):
        assert f"`{name}`" in page, name
    rows = dict(re.findall(r"^\| `(\w+)` \| (.*) \|$", page, re.MULTILINE))
    for kind in KINDS.values():
        assert rows[kind.name] == f"{kind.severity} | {kind.title} | {kind.advice}"
    table = page.split("## Kinds of problems")[1].split("\n## ")[0]
    assert set(re.findall(r"^\| `(\w+)`", table, re.MULTILINE)) == set(KINDS)


@pytest.mark.parametrize(
    ("fail_on", "status"),
    [
        ([], 1),
        (["errors"], 1),
        (["any"], 1),
        (["none"], 0),
        (["missing_image"], 1),
        (["long_key,null_image"], 1),
        (["long_key", "null_image"], 1),
        (["long_key,dangling_context"], 0),
    ],
)
def test_the_exit_status(evil_run: object, folder: Path, fail_on: list[str], status: int) -> None:
    words = [word for kind in fail_on for word in ("--fail-on", kind)]
    found = run(folder / "data.yaml", "--json", "-", "--examples", "0", *words, folder=folder)
    assert found.returncode == status
    report = json.loads(found.stdout)  # nothing else is on stdout
    assert all(one["examples"] == [] for one in report["problems"])


def test_a_clean_set_has_status_0_and_notes_do_not_count(tmp_path: Path) -> None:
    source = Source("I.parquet", [("k", encode(draw_jpeg(1))), ("unused", encode(draw_jpeg(2)))])
    data = Pack([Dataset("SET", [("I", record("q", "k"))], source)]).write(tmp_path)
    found = run(data, "--decode", "--suggest", folder=tmp_path)
    assert (found.returncode, "unused_image 1" in found.stdout) == (0, True)
    assert run(data, "--fail-on", "any", folder=tmp_path).returncode == 1
    assert [path.name for path in tmp_path.glob("catalogs/*/units/.tmp*")] == []


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (["--fail-on", "nonsense"], 2, "long_key"),
        (["--examples", "-1"], 2, "examples"),
        (["--html", "no/such/folder/x.html"], 1, "can not be written"),
        (["--fail-on", ""], 2, "no kind"),
        (["--json", "-", "--html", "-"], 2, "only one of"),
    ],
)
def test_mistakes_are_said(tmp_path: Path, words: list[str], status: int, said: str) -> None:
    data = Pack([Dataset("T", [("I", record("q"))], None)]).write(tmp_path)
    found = run(data, *words, folder=tmp_path, COLUMNS="300")
    assert found.returncode == status
    assert said in found.stderr
    assert "Traceback" not in found.stderr


def test_no_data_yaml_is_said(tmp_path: Path) -> None:
    found = run(tmp_path / "none.yaml", folder=tmp_path)
    assert found.returncode == 1
    assert "none.yaml" in found.stderr


def test_reports_replace_those_that_are_there(tmp_path: Path) -> None:
    data = planted().write(tmp_path)
    path = tmp_path / "out.json"
    path.write_text("old")
    before = os.stat(path).st_ino
    assert run(data, "--json", path, "--fail-on", "none", folder=tmp_path).returncode == 0
    assert json.loads(path.read_text())["format"] == 1
    assert os.stat(path).st_ino != before
    assert not list(tmp_path.glob(".tmp*"))


def test_charts_say_their_numbers() -> None:
    drawn = draw_histogram("A <title>", [0, 10, 20, 50], [3, 0, 1], "b&w")
    page = Page(drawn)
    assert page.open == []
    assert [tag for tag, _ in page.elements].count("rect") == 2
    said = " ".join(page.texts)
    assert "A <title>" in said
    assert "0 to 9 b&w: 3; 20 to 49 b&w: 1" in said
    bars = Page(draw_bars("Kinds", [Bar("one", 1, "error"), Bar("<none>", 0)], "of them"))
    assert "one: 1 of them; <none>: 0 of them" in " ".join(bars.texts)
    assert [one["class"] for tag, one in bars.elements if tag == "rect"] == ["bar error", "bar "]
    for nothing in (draw_histogram("None", [], [], "x"), draw_bars("None", [], "x")):
        assert "nothing to show" in nothing


def test_a_pipe_is_written_to_and_a_link_stays(tmp_path: Path) -> None:
    data = planted().write(tmp_path)
    pipe, link, path = tmp_path / "pipe", tmp_path / "link", tmp_path / "out.json"
    os.mkfifo(pipe)
    path.write_text("old")
    link.symlink_to(path)
    with subprocess.Popen(["cat", pipe], stdout=subprocess.PIPE) as reader:
        words = ("--json", pipe, "--html", link, "--fail-on", "none")
        assert run(data, *words, folder=tmp_path).returncode == 0
        assert json.loads(reader.communicate(timeout=60)[0])["format"] == 1
    assert pipe.is_fifo()
    assert link.is_symlink()
    assert path.read_text().startswith("<!DOCTYPE html>")


def test_a_report_that_can_not_be_written_leaves_nothing(tmp_path: Path) -> None:
    data = planted().write(tmp_path)
    (tmp_path / "there").mkdir()
    found = run(data, "--json", tmp_path / "there", folder=tmp_path)
    assert "can not be written: Is a directory" in found.stderr
    with pytest.raises(OSError, match="Is a directory"):
        replace_file(tmp_path / "there", b"{}")
    assert not list(tmp_path.glob(".tmp*"))
