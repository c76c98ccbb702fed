"""Instructions from tables and conversations become an instructions.json that the service reads."""

import csv
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from convert_files import LIMITS, ROOT, convert, run, write_folder
from hypothesis import given, settings
from hypothesis import strategies as st
from packs import draw_jpeg

from app.catalog.build import build_catalog
from app.catalog.catalog import Catalog
from app.convert.instruction import InstructionColumns
from app.convert.instructions import ConvertedInstructions, convert_instructions
from app.convert.sources import Kind
from app.data_yaml import load_data_yaml
from app.errors import ConvertError, DamagedFileError

DEFAULT = InstructionColumns()


def convert_texts(
    inputs: Sequence[Path],
    destination: Path,
    columns: InstructionColumns = DEFAULT,
    kind: Kind | None = None,
) -> ConvertedInstructions:
    found = list(map(str, inputs))
    return convert_instructions(found, destination, columns, kind, LIMITS, lambda _: None)


def load_data(path: Path) -> dict[str, Any]:
    loaded = json.loads(path.read_text())
    assert [*loaded] == ["meta", "data"]
    data: dict[str, Any] = loaded["data"]
    return data


def load_reasons(found: ConvertedInstructions) -> list[tuple[int, str]]:
    assert found.rejected_path is not None
    lines = map(json.loads, found.rejected_path.read_text().splitlines())
    return sorted((line["row"], line["reason"]) for line in lines)


def write_lines(path: Path, rows: Sequence[object]) -> Path:
    path.write_text("\n".join(json.dumps(row) for row in rows))
    return path


def test_rows_of_json_lines(tmp_path: Path) -> None:
    rows = [
        {"id": "a", "instruction": "é?", "answer": "漢", "image": "x/1.jpg", "more": {"n": [1]}},
        {"id": 7, "instruction": "q", "answer": "", "image": None, "rel_ins_ids": ["a"]},
        {"id": "c", "instruction": "q", "answer": "a", "image": ["1.png", "2"], "rel_ins_ids": "a"},
    ]
    found = convert_texts([write_lines(tmp_path / "a.jsonl", rows)], tmp_path / "o.json")
    assert (found.instructions, found.rejected_path) == (3, None)
    assert found.size_bytes == found.path.stat().st_size
    assert load_data(found.path) == {
        "a": {
            "instruction": "é?",
            "answer": "漢",
            "image_ids": ["x/1"],
            "rel_ins_ids": [],
            "more": {"n": [1]},
        },
        "7": {"instruction": "q", "answer": "", "image_ids": [], "rel_ins_ids": ["a"]},
        "c": {"instruction": "q", "answer": "a", "image_ids": ["1", "2"], "rel_ins_ids": ["a"]},
    }
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.jsonl", "o.json"]


@pytest.mark.parametrize(("suffix", "delimiter"), [(".csv", ","), (".tsv", "\t")])
def test_a_table_with_columns_of_other_names(suffix: str, delimiter: str, tmp_path: Path) -> None:
    path = tmp_path / f"a{suffix}"
    with path.open("w", newline="", encoding="utf-8-sig") as file:
        rows = [
            ["nr", "question", "reply", "files", "before", "level"],
            ["1", 'a "b",\nc', "x\ty", "p.jpg", "", "easy"],
            ["2", "q", "r", '["p.jpg", "q.jpg"]', '["1"]', ""],
        ]
        csv.writer(file, delimiter=delimiter).writerows(rows)
    columns = InstructionColumns("nr", "question", "reply", "files", "before", True)
    assert load_data(convert_texts([path], tmp_path / "o.json", columns).path) == {
        "1": {
            "instruction": 'a "b",\nc',
            "answer": "x\ty",
            "image_ids": ["p.jpg"],
            "rel_ins_ids": [],
            "level": "easy",
        },
        "2": {
            "instruction": "q",
            "answer": "r",
            "image_ids": ["p.jpg", "q.jpg"],
            "rel_ins_ids": ["1"],
            "level": "",
        },
    }
    with pytest.raises(ConvertError, match="no column 'id'; it has: nr, question"):
        convert_texts([path], tmp_path / "p.json")


CONVERSATION = {
    "id": "000",
    "image": "coco/1.jpg",
    "model": "m",
    "conversations": [
        {"from": "human", "value": "<image>\nWhat is this?"},
        {"from": "gpt", "value": "A cat."},
        {"from": "human", "value": "Where is <image> it?"},
        {"from": "gpt", "value": "Here."},
    ],
}


@pytest.mark.parametrize("name", ["a.json", "a.jsonl"])
def test_turns_of_conversations(name: str, tmp_path: Path) -> None:
    said = [{"from": "user", "value": "q"}, {"from": "assistant", "value": "a"}]
    rows = [CONVERSATION, {"id": 5, "conversations": said}]
    path = tmp_path / name
    if name == "a.json":
        path.write_text(json.dumps(rows))
    else:
        write_lines(path, rows)
    assert load_data(convert_texts([path], tmp_path / "o.json").path) == {
        "000_0": {
            "instruction": "What is this?",
            "answer": "A cat.",
            "image_ids": ["coco/1"],
            "rel_ins_ids": [],
            "model": "m",
        },
        "000_1": {
            "instruction": "Where is it?",
            "answer": "Here.",
            "image_ids": ["coco/1"],
            "rel_ins_ids": ["000_0"],
            "model": "m",
        },
        "5_0": {"instruction": "q", "answer": "a", "image_ids": [], "rel_ins_ids": []},
    }


def test_what_makes_no_instruction_is_named(tmp_path: Path) -> None:
    good = {"id": "a", "instruction": "q", "answer": "a"}
    turns = CONVERSATION["conversations"]
    rows: list[object] = [
        good,
        {**good, "answer": "again"},
        {**good, "id": None},
        {**good, "id": "x", "answer": 3},
        {**good, "id": "x", "image": [1]},
        {**good, "id": "k" * 1001},
        [good],
        {**CONVERSATION, "conversations": turns[1:]},
        {**CONVERSATION, "conversations": turns[:3]},
        {**CONVERSATION, "conversations": []},
        {**CONVERSATION, "conversations": ["x", "y"]},
        {**good, "id": "b"},
    ]
    path = write_lines(tmp_path / "a.jsonl", rows)
    with path.open("ab") as file:
        file.write(b'\n{"id": "\xff"}\n{"id": "s", "instruction": "\\ud800", "answer": ""}\n')
    found = convert_texts([path], tmp_path / "o.json")
    assert [*load_data(found.path)] == ["a", "b"]
    assert load_data(found.path)["a"]["answer"] == "a"
    expected = [(row, "invalid_record") for row in (*range(2, 11), 12, 13)]
    assert load_reasons(found) == [(1, "duplicate_instruction"), *expected]


def test_text_that_is_no_unicode_is_rejected(tmp_path: Path) -> None:
    broken = json.dumps(CONVERSATION).replace("A cat.", "\\ud800").replace("000", "001")
    path = tmp_path / "a.json"
    path.write_text(f"[{json.dumps(CONVERSATION)}, {broken}]")
    found = convert_texts([path], tmp_path / "o.json")
    assert [*load_data(found.path)] == ["000_0", "000_1"]
    assert load_reasons(found) == [(1, "foreign_text")]


def test_inputs_that_are_no_instructions_are_refused(tmp_path: Path) -> None:
    out = tmp_path / "o.json"
    (tmp_path / "a.json").write_text('{"data": {}}')
    (tmp_path / "b.csv").write_text("id,instruction,id\n")
    (tmp_path / "c.jsonl").write_text("")
    (tmp_path / "d.tar").touch()
    (tmp_path / "e.json").write_text("[{}")
    with pytest.raises(DamagedFileError, match="no list of conversations"):
        convert_texts([tmp_path / "a.json"], out)
    with pytest.raises(DamagedFileError, match="same name twice"):
        convert_texts([tmp_path / "b.csv"], out)
    with pytest.raises(ConvertError, match="no instruction was found"):
        convert_texts([tmp_path / "c.jsonl"], out)
    with pytest.raises(ConvertError, match="holds no instructions"):
        convert_texts([tmp_path / "d.tar"], out)
    with pytest.raises(DamagedFileError, match="not valid JSON at byte 3"):
        convert_texts([tmp_path / "e.json"], out)
    assert not out.exists()
    out.write_text("mine")
    with pytest.raises(ConvertError, match="is there already"):
        convert_texts([tmp_path / "c.jsonl"], out)


TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=50)
RECORDS = st.dictionaries(
    st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=100), TEXTS, min_size=1
)


@settings(max_examples=30, deadline=None)
@given(RECORDS)
def test_any_text_goes_through(
    tmp_path_factory: pytest.TempPathFactory, texts: dict[str, str]
) -> None:
    folder = tmp_path_factory.mktemp("texts")
    rows = [{"id": id, "instruction": text, "answer": id} for id, text in texts.items()]
    found = convert_texts([write_lines(folder / "a.jsonl", rows)], folder / "o.json")
    data = load_data(found.path)
    assert {id: record["instruction"] for id, record in data.items()} == texts
    assert [*data] == [*texts]


def test_both_conversions_fit_together(tmp_path: Path) -> None:
    """The service reads them, and every instruction finds its picture."""
    data = draw_jpeg(1)
    convert(write_folder(tmp_path / "images", {"coco/1": data}), tmp_path / "LA.parquet")
    (tmp_path / "llava.json").write_text(json.dumps([CONVERSATION]))
    out = tmp_path / "LA_instructions.json"
    done = run("convert", "instructions", tmp_path / "llava.json", out)
    assert done.returncode == 0, done.stderr
    assert f"{out}: 2 instructions, " in done.stderr
    (tmp_path / "data.yaml").write_text(
        f"IMAGE_TEXT: {{LA: {{mimicit_path: {out}, images_path: {tmp_path}/LA.parquet}}}}"
    )
    folder = tmp_path / "catalog"
    data_yaml = load_data_yaml(tmp_path / "data.yaml")
    build_catalog(data_yaml, folder, LIMITS, lambda _: None, wait_seconds=1)
    catalog = Catalog(folder, max_open_files=1, page_cache_bytes=0, duckdb_memory_bytes=1 << 26)
    try:
        (dataset,) = catalog.datasets.values()
        assert dataset.facts.usable == 2
        assert not dataset.facts.problems
    finally:
        catalog.close()


@pytest.mark.slow
def test_many_instructions_take_little_memory(tmp_path: Path) -> None:
    text = "word " * 400
    with (tmp_path / "a.jsonl").open("w") as file:
        for number in range(120_000):
            file.write(f'{{"id": "I{number}", "instruction": "{text}", "answer": "{number}"}}\n')
    code = (
        "import sys; from app.cli.main import app\n"
        "try: app(sys.argv[1:])\n"
        "finally:\n"
        "    status = open('/proc/self/status').read()\n"
        "    print(status.split('VmHWM:')[1].split()[0])\n"
    )
    words = ["convert", "instructions", str(tmp_path / "a.jsonl"), str(tmp_path / "o.json")]
    command = [sys.executable, "-c", code, *words]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout.split()[-1]) < 300_000


def test_a_cell_that_is_nested_too_deep_is_one_id(tmp_path: Path) -> None:
    cell = "[" * 100_000
    rows = [{"id": "a", "instruction": "q", "answer": "a", "image": cell}]
    found = convert_texts([write_lines(tmp_path / "a.jsonl", rows)], tmp_path / "o.json")
    assert load_data(found.path)["a"]["image_ids"] == [cell]
