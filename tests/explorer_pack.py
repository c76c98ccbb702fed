"""A pack with what pages get wrong: markup in texts, odd keys, pictures of every bad kind."""

import json
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

from packs import draw_jpeg, record, write_images, write_instructions

SCRIPT = '<script>document.title = "broken in"</script><img src=x onerror="document.title=1">'
ODD_KEY = "a/\"quoted\"/'key' & <b>?x=1#y%2F.jpg"
ODD_ID = "in/\"s\"/'t' & <i>?#%2F"
ODD_NAME = 'Odd & "<name>"'
LONG_KEY = "long-key-" * 110
WORDS = ("red", "green", "blue", "Straße", "猫")


def write_explorer_pack(folder: Path) -> Path:
    """Write it; the path of its data.yaml."""
    folder.mkdir(parents=True, exist_ok=True)
    images: dict[str, bytes | None] = {f"IMG_{n:03}": draw_jpeg(n, 320, 240) for n in range(40)}
    images |= {
        ODD_KEY: draw_jpeg(1, 200, 200),
        LONG_KEY: draw_jpeg(2, 200, 100),
        "..": draw_jpeg(3),
        "TALL": draw_jpeg(4, 40, 3000),
        "WIDE": draw_jpeg(5, 3000, 40),
        "NULL": None,
        "EMPTY": b"",
        "TEXT": b"hello, no picture",
        "BROKEN": draw_jpeg(6, 400, 300)[:700],
    }
    write_images(folder / "odd.parquet", images)
    odd: dict[str, Any] = {
        ODD_ID: record(SCRIPT, ODD_KEY, answer=SCRIPT, source={"page": 7, "html": SCRIPT}),
        "LONG_TEXT": record("word " * 6000, LONG_KEY, answer="unbroken" * 4000),
        "..": record("a step in a path", ".."),
        "SHAPED": record("tall and wide", "TALL", "WIDE"),
        "MANY": record("many pictures", *(f"IMG_{n:03}" for n in range(40))),
        "MISSING": record("no such image", "NOT_THERE"),
        "BAD": record("every bad kind", "NULL", "EMPTY", "TEXT", "BROKEN"),
        "BLANK": record("", "IMG_000", answer=""),
        "L" * 800: record("an id of 800 characters", "IMG_001"),
    }
    odd |= {
        f"INS_{n:03}": record(f"Question {n} is {WORDS[n % 5]}?", f"IMG_{n % 40:03}")
        for n in range(100)
    }
    write_instructions(folder / "odd.json", odd)
    talk = {f"T{n}": record(f"turn {n}", f"IMG_{n:03}") for n in range(6)}
    talk["T0"]["rel_ins_ids"] = ["T2", "GONE", "T1", "T5"]
    talk["T5"]["image_ids"] = ["NOT_THERE"]
    write_instructions(folder / "talk.json", talk)
    write_instructions(folder / "text.json", {f"X{n}": record(f"text {n}") for n in range(30)})
    groups = {
        "IMAGE_TEXT": {ODD_NAME: {"mimicit_path": "odd.json", "images_path": "odd.parquet"}},
        "IMAGE_TEXT_IN_CONTEXT": {
            "TALK": {"mimicit_path": "talk.json", "images_path": "odd.parquet"}
        },
        "TEXT_ONLY": {"PLAIN": {"mimicit_path": "text.json", "num_samples": 40}},
    }
    (folder / "data.yaml").write_text(json.dumps(groups))  # JSON is YAML
    return folder / "data.yaml"


class Page(HTMLParser):
    """A page, parsed: its elements with their attributes, and its text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.text = ""
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attributes}))

    def handle_data(self, data: str) -> None:
        self.text += data

    def find(self, tag: str, **wanted: str) -> Iterator[dict[str, str]]:
        """The attributes of the elements of that name which have those."""
        for name, attributes in self.elements:
            if name == tag and wanted.items() <= attributes.items():
                yield attributes

    def links(self, start: str = "") -> list[str]:
        """Where the links lead that begin so."""
        found = (one.get("href", "") for one in self.find("a"))
        return [address for address in found if address.startswith(start)]

    def classes(self, name: str) -> int:
        """How many elements are of that class."""
        return sum(name in one.get("class", "").split() for _, one in self.elements)
