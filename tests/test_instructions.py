"""Instructions files as people have them, and datasets made of them, images and a train config."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import duckdb
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from parquet_files import LIMITS, table_of, write

from app.catalog.build import build_catalog
from app.catalog.catalog import Catalog
from app.catalog.dataset import Dataset
from app.catalog.duck import Database
from app.catalog.instructions import InstructionTable, build_instructions
from app.catalog.limits import BuildLimits
from app.catalog.search import Search
from app.catalog.tools import BuildTools
from app.data_yaml import load_data_yaml
from app.errors import CatalogError, DamagedFileError, UnknownInstructionError

EVERYTHING = 1 << 40  # bytes
ANSWER = {"instruction": "What?", "answer": "This."}


@contextmanager
def opened(path: Path, limits: BuildLimits = LIMITS) -> Iterator[InstructionTable]:
    with TemporaryDirectory() as folder:
        with BuildTools(limits, Path(folder) / "spill") as tools:
            build_instructions(str(path), (), tools, Path(folder), lambda _: None)
        with Database(limits.duckdb_memory_bytes, threads=1) as database:
            table = InstructionTable(Path(folder), database)
            try:
                yield table
            finally:
                table.close()


@contextmanager
def opened_text(data: str | bytes) -> Iterator[InstructionTable]:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "it.json"
        path.write_bytes(data if isinstance(data, bytes) else data.encode())
        with opened(path) as table:
            yield table


def record(**fields: Any) -> dict[str, Any]:
    return {**ANSWER, "image_ids": [], "rel_ins_ids": [], **fields}


def ids_of(table: InstructionTable) -> list[str]:
    return [one.id for one in table.list_page(0, 10_000, EVERYTHING).items]


# Forms of the file


@pytest.mark.parametrize(
    "form",
    [
        '{"meta": {"version": "0.0.1"}, "data": %s}',
        '{"data": %s}',
        "%s",
        '{"data": %s, "meta": {"version": 1}}',
        '{"meta": null, "version": 3, "authors": ["a"], "data": %s, "more": {"data": {}}}',
        '{"meta": {"data": {"x": {"instruction": "", "answer": ""}}}, "data": %s}',
        '\ufeff{"meta": {}, "data": %s}',
        ' \n{"a":1,"b":2,"c":3,"d":4,"e":5,"f":6,"g":7,"h":8,"data": %s}\n ',
    ],
    ids=["usual", "no meta", "bare", "meta behind", "more members", "data in meta", "bom", "eight"],
)
@pytest.mark.parametrize("count", [0, 1, 25])
def test_forms_of_the_file(form: str, count: int) -> None:
    records = {f"id_{number}": record(image_ids=[f"i{number}"]) for number in range(count)}
    with opened_text(form.replace("%s", json.dumps(records))) as table:
        assert ids_of(table) == list(records)
        assert table.facts.instructions == count
        assert table.facts.problems == {}
        for id, one in records.items():
            assert table.get(id).image_ids == one["image_ids"]


def test_a_bare_file_in_which_a_record_is_called_meta_or_data() -> None:
    """Without an object called data among the first members all members are records."""
    records = {"meta": record(answer="1"), **{f"r{n}": record() for n in range(12)}}
    with opened_text(json.dumps({**records, "data": record(answer="2")})) as table:
        assert ids_of(table) == [*records, "data"]
        assert table.get("data").answer == "2"


@pytest.mark.parametrize(
    ("data", "why"),
    [
        ("[]", "an object was expected"),
        ("", "an object was expected"),
        ('"text"', "an object was expected"),
        ('{"meta": {}, "data": []}', '"data" is a list'),
        ('{"meta": {}, "data": {}', "not valid JSON at byte 23"),
        ('{"meta": {}, "data": {}} x', "not valid JSON at byte 25"),
        ('{"data": {"a": {"instruction": "x", "answer": }}}', "not valid JSON at byte 46"),
        ('{"a": tru}', "not valid JSON at byte 6"),
    ],
)
def test_files_that_are_refused(data: str, why: str) -> None:
    with pytest.raises(DamagedFileError, match=why), opened_text(data):
        pass


def test_a_file_that_changes_while_it_is_indexed(tmp_path: Path) -> None:
    path = tmp_path / "it.json"
    path.write_text(json.dumps({"a": record()}))

    def append(_: int) -> None:
        with open(path, "a") as file:
            file.write(" ")

    unit = tmp_path / "unit"
    unit.mkdir()
    with (
        BuildTools(LIMITS, tmp_path / "spill") as tools,
        pytest.raises(DamagedFileError, match="changed while it was indexed"),
    ):
        build_instructions(str(path), (), tools, unit, append)


# Records


@pytest.mark.parametrize("absent", ["image_ids", "rel_ins_ids"])
def test_ids_may_be_absent_or_null(absent: str) -> None:
    without = record(image_ids=["i"], rel_ins_ids=["r"])
    del without[absent]
    null = {**without, absent: None}
    with opened_text(json.dumps({"a": without, "b": null, "c": {**without, absent: []}})) as table:
        assert table.facts.problems == {}
        for id in "abc":
            found = table.get(id)
            assert (found.image_ids, found.rel_ins_ids) == (
                ([], ["r"]) if absent == "image_ids" else (["i"], [])
            )


def test_other_fields_are_kept() -> None:
    others = {
        "source": "é漢\U0001f600",
        "n": 1.5,
        "deep": {"a": [1, None, {"b": "\x00"}]},
        "id": "x",
    }
    with opened_text(json.dumps({"a": record(**others), "b": record()})) as table:
        assert json.loads(table.get("a").extra or "") == others
        assert table.get("b").extra is None


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ("7", "not an object"),
        ("null", "not an object"),
        ("[]", "not an object"),
        ('"text"', "not an object"),
        ('{"answer": "a"}', "instruction is missing"),
        ('{"instruction": "a"}', "answer is missing"),
        ('{"instruction": null, "answer": "a"}', "instruction is missing"),
        ('{"instruction": ["a"], "answer": "a"}', "instruction is missing"),
        ('{"instruction": "a", "answer": 7}', "answer is missing"),
        ('{"instruction": "a", "answer": "b", "image_ids": "i"}', "image_ids is not"),
        ('{"instruction": "a", "answer": "b", "image_ids": {}}', "image_ids is not"),
        ('{"instruction": "a", "answer": "b", "image_ids": [1]}', "image_ids is not"),
        ('{"instruction": "a", "answer": "b", "rel_ins_ids": [null]}', "rel_ins_ids is not"),
        ('{"instruction": "a", "answer": "b", "rel_ins_ids": false}', "rel_ins_ids is not"),
        ('{"instruction": "\\ud800", "answer": "b"}', "surrogates"),
        ('{"instruction": "a", "answer": "b", "image_ids": ["\\udfff"]}', "surrogates"),
        ('{"instruction": "a", "answer": "b", "x": "\\udfff"}', "surrogates"),
        (f'{{"instruction": "a", "answer": "b", "x": {"[" * 300}{"]" * 300}}}', "nested over 100"),
    ],
)
def test_a_record_of_the_wrong_shape_is_its_own_problem(
    wrong: str, why: str, tmp_path: Path
) -> None:
    path = tmp_path / "it.json"
    good = json.dumps(record())
    path.write_text(f'{{"data": {{"a": {good}, "wrong": {wrong}, "b": {good}}}}}')
    with BuildTools(LIMITS, tmp_path / "spill") as tools:
        build_instructions(str(path), (), tools, tmp_path, lambda _: None)
    (kind, name, detail), *others = read_problems(tmp_path)
    assert (kind, name, others) == ("invalid_record", "wrong", [])
    assert why in detail
    with Database(LIMITS.duckdb_memory_bytes, threads=1) as database:
        table = InstructionTable(tmp_path, database)
        assert ids_of(table) == ["a", "b"]
        assert table.facts.problems == {"invalid_record": 1}
        assert table.find("wrong") is None
        table.close()


def read_problems(unit: Path) -> list[tuple[str, str, str]]:
    with pa.ipc.open_file(pa.memory_map(str(unit / "problems.arrow"))) as file:
        return [tuple(row.values()) for row in file.read_all().to_pylist()]


def test_records_that_are_not_utf8_are_their_own_problem() -> None:
    good = json.dumps(record()).encode()
    bad = b'{"instruction": "\xff", "answer": ""}'
    data = b'{"a": %b, "b": %b, "\xff": %b, "c": %b}' % (good, bad, good, good)
    for form in (b"%b", b'{"meta": 1, "data": %b}', b'{"\xff": "\xff", "data": %b}'):
        with opened_text(form % data) as table:
            assert ids_of(table) == ["a", "c"]
            assert table.facts.problems == {"invalid_record": 2}


def test_records_nested_as_deep_as_json_reads() -> None:
    """Where Python's json parses a value and can not write it again, it is a record's problem."""
    outcomes = set()
    for depth in (*range(800, 1010, 3), 200_000):
        deep = '{"instruction": "", "answer": "", "x": ' + "[" * depth + "]" * depth + "}"
        try:
            with opened_text(f'{{"a": {deep}, "b": {json.dumps(record())}}}') as table:
                assert table.find("b") is not None
                assert (table.find("a") is None) == (table.facts.problems != {})
                outcomes.add(str(table.facts.problems))
        except DamagedFileError as error:
            outcomes.add("recursion" if "recursion" in str(error) else str(error))
    # Python's versions differ in how deep they read; beyond that the whole file is refused.
    assert outcomes == {"{'invalid_record': 1}", "recursion"}


ODD_IDS = [
    "a/b", "../x", " ", "é漢\U0001f600", "a\0b", "\0", "%2F", "\n", "'; DROP TABLE", "a" * 494,
    "a" * 495, "a" * 511, "a" * 1000, "é" * 500, "\ufeff", "\U0010ffff", "data", "meta", "a\0", "A",
]  # fmt: skip


@pytest.mark.parametrize("ascii_only", [True, False])
def test_ids_of_any_text(ascii_only: bool) -> None:
    records = {id: record(answer=f"{number}") for number, id in enumerate(ODD_IDS)}
    data = json.dumps({"meta": {}, "data": records}, ensure_ascii=ascii_only)
    with opened_text(data) as table:
        assert ids_of(table) == ODD_IDS
        for number, id in enumerate(ODD_IDS):
            assert table.get(id).answer == f"{number}"
        for id in ("", "a" * 493, "a" * 999, "\ud800", "b", "a" * 5000):
            assert table.find(id) is None
            with pytest.raises(UnknownInstructionError):
                table.get(id)


def test_ids_that_are_no_ids() -> None:
    records = '{"": %s, "%s": %s, "\\ud800": %s, "ok": %s}'
    good = json.dumps(record())
    with opened_text(records % (good, "a" * 1001, good, good, good)) as table:
        assert ids_of(table) == ["ok"]
        assert table.facts.problems == {"invalid_record": 3}


def test_of_an_id_that_is_there_twice_the_last_counts() -> None:
    long = "k" * 700
    pairs = [("a", 1), ("b", 2), (long, 3), ("a", 4), ("c", 5), (long, 6), ("a", 7)]
    data = ", ".join(f'"{id}": {json.dumps(record(answer=str(n)))}' for id, n in pairs)
    with opened_text(f'{{"data": {{{data}}}}}') as table:
        found = [(one.id, one.answer) for one in table.list_page(0, 100, EVERYTHING).items]
        assert found == [("b", "2"), ("c", "5"), (long, "6"), ("a", "7")]
        assert [one.row for one in table.list_page(0, 100, EVERYTHING).items] == [0, 1, 2, 3]
        assert dict(found) == {id: str(n) for id, n in pairs}
        assert table.get("a").answer == "7"
        assert table.facts.problems == {"duplicate_instruction": 3}
        assert table.facts.instructions == 4
    kept = ", ".join(f'"{id}": {json.dumps(record(answer=n))}' for id, n in found)
    with opened_text(f"{{{kept}}}") as again:
        assert again.facts.digest == table.facts.digest


def test_huge_records(tmp_path: Path) -> None:
    path = tmp_path / "it.json"
    sizes = [0, 1 << 20, 5 << 20, 100, 9 << 20, 3]
    records = {f"r{size}": record(answer="é" * size, image_ids=["i"] * 2000) for size in sizes}
    path.write_text(json.dumps(records, ensure_ascii=False))
    with opened(path) as table:
        assert [len(one.answer) for one in table.list_page(0, 9, EVERYTHING).items] == sizes
        assert table.get("r9437184").answer == "é" * (9 << 20)
    small = BuildLimits(1 << 20, 1 << 20, 1 << 28, 1)
    with pytest.raises(DamagedFileError, match="max_value_bytes"), opened(path, small):
        pass


texts = st.text(st.characters(codec="utf-8"), max_size=12)
ids = st.lists(texts, max_size=3)
plain_records = st.fixed_dictionaries(
    {"instruction": texts, "answer": texts},
    optional={
        "image_ids": st.none() | ids,
        "rel_ins_ids": st.none() | ids,
        "more": st.none() | texts | st.floats(allow_nan=False, allow_infinity=False) | ids,
    },
)


@settings(deadline=None, max_examples=60)
@given(
    st.dictionaries(texts.filter(bool), plain_records, max_size=8),
    st.booleans(),
    st.booleans(),
    st.sampled_from([None, 1]),
)
def test_agrees_with_json_load(
    records: dict[str, Any], is_wrapped: bool, ascii_only: bool, indent: int | None
) -> None:
    # A bare file whose first records include one called data can not be told from a wrapped one.
    is_wrapped = is_wrapped or "data" in records
    whole = {"meta": {"v": 1}, "data": records} if is_wrapped else records
    with opened_text(json.dumps(whole, ensure_ascii=ascii_only, indent=indent)) as table:
        assert ids_of(table) == list(records)
        assert table.facts.problems == {}
        for number, (id, one) in enumerate(records.items()):
            found = table.get(id)
            assert found == table.get_row(number)
            assert (found.row, found.instruction) == (number, one["instruction"])
            assert found.answer == one["answer"]
            assert found.image_ids == (one.get("image_ids") or [])
            assert found.rel_ins_ids == (one.get("rel_ins_ids") or [])
            assert json.loads(found.extra or "{}") == (
                {"more": one["more"]} if "more" in one else {}
            )


# Pages and search


def test_rows_in_pages() -> None:
    """More rows than a record batch has, so that pages lie in one, in two and behind the last."""
    records = {f"id_{number}": record(answer=str(number)) for number in range(2500)}
    with opened_text(json.dumps(records)) as table:
        for first in (0, 1, 1000, 1023, 1024, 1025, 2047, 2499, 2500, 9999):
            for limit in (0, 1, 2, 25, 1024, 2500):
                found, behind = table.list_page(first, limit, EVERYTHING)
                expected = range(first, min(2500, first + limit))
                assert [one.row for one in found] == list(expected)
                assert behind == (first + limit if limit and first + limit < 2500 else None)
                assert [one.answer for one in found] == [str(row) for row in expected]


def test_a_page_ends_where_it_has_enough_bytes() -> None:
    records = {f"id_{number}": record(answer="x" * 1_000_000) for number in range(20)}
    with opened_text(json.dumps(records)) as table:
        seen: list[int] = []
        first: int | None = 0
        while first is not None:
            page = table.list_page(first, 100, 6_000_000)
            assert 1 <= len(page.items) <= 10
            seen += [one.row for one in page.items]
            first = page.next
        assert seen == list(range(20))
        found, behind = table.search(0, 100, 3_000_000, Search(text="xx"))
        assert ([one.row for one in found], behind) == ([0, 1, 2], 3)


def test_numbers_that_json_does_not_have_become_null() -> None:
    text = '{"a": {"instruction": "a", "answer": "b", "x": [NaN, {"y": -Infinity}, 1.5]}}'
    with opened_text(text) as table:
        assert json.loads(table.get("a").extra or "") == {"x": [None, {"y": None}, 1.5]}


def test_search() -> None:
    records = {
        "a": record(instruction="A red Bus", image_ids=["1", "2"]),
        "b": record(answer="the RED one", image_ids=["2"]),
        "c": record(instruction="100% _blue", image_ids=[]),
        "d": record(instruction="ÄÖ é", image_ids=["2", "2"]),
        "e": record(answer="nothing' OR 1=1", image_ids=["x'); DROP"]),
    }
    with opened_text(json.dumps(records)) as table:

        def search(
            text: str | None, image: str | None = None, first: int = 0, limit: int = 9
        ) -> str:
            found = table.search(first, limit, EVERYTHING, Search(text, image)).items
            return "".join(one.id for one in found)

        assert search(None) == "abcde"
        assert search("red") == search("RED") == "ab"
        assert search("%") == search("_") == "c"
        assert search("äö") == "d"
        assert search("' or 1=1") == "e"
        assert search(None, "2") == "abd"
        assert search("red", "1") == "a"
        assert search(None, "x'); DROP") == "e"
        assert search("red", first=1) == "b"
        assert search(None, limit=2) == "ab"
        assert search("absent") == search("red", "9") == ""


ODD_TEXTS = (
    "Kelvin \u212a and kelvin k",
    "\u0130stanbul, istanbul, ISTANBUL",
    "Stra\u00dfe STRASSE \u1e9e",
    "\u01c5 \u01c6 \u24b6 \u24d0 \u2160 \u2170",
    "\u732b and \u72ac, 100% [a-z]+ \\d (x|y)? ^$ . *",
    "tab\there, line\nend, nul\0byte",
    "\u0391\u03a3\u03a3 \u03b1\u03c3\u03c2",
)


@pytest.mark.parametrize("is_odd", [False, True])
def test_search_finds_what_lower_case_has(is_odd: bool) -> None:
    texts = [one for one in ODD_TEXTS if is_odd or not set(one) & set("\u212a\u0130")]
    records = {str(n): record(instruction=one) for n, one in enumerate(texts)}
    wanted = {one[at : at + size] for one in texts for size in (1, 3) for at in range(len(one))}
    wanted |= {one.swapcase() for one in wanted} | {"K", "I", "i\u0307", "absent"}
    with opened_text(json.dumps(records)) as table, duckdb.connect() as oracle:
        assert table.facts.has_odd_letters is is_odd
        for one in sorted(wanted):
            found = table.search(0, 99, EVERYTHING, Search(text=one)).items
            expected = [
                str(n)
                for n, text in enumerate([*texts])
                if oracle.execute(
                    "SELECT contains(lower($1), lower($3)) OR contains(lower($2), lower($3))",
                    [text, ANSWER["answer"], one],
                ).fetchall()[0][0]
            ]
            assert [item.id for item in found] == expected, ascii(one)


def test_search_goes_on_from_window_to_window() -> None:
    """More rows than the first windows have: some in the first, one in the last."""
    rows = [0, 7, 4095, 4096, 20_000, 59_999]
    records = {str(n): record(answer="Needle" if n in rows else "hay") for n in range(60_000)}
    with opened_text(json.dumps(records)) as table:
        for limit in (1, 2, 3, 6, 100):
            seen: list[int] = []
            first: int | None = 0
            while first is not None:
                page = table.search(first, limit, EVERYTHING, Search(text="nEEDLE"))
                assert len(page.items) <= limit
                seen += [one.row for one in page.items]
                first = page.next
            assert seen == rows
        assert table.search(60_000, 5, EVERYTHING, Search(text="needle")).items == []
        assert table.search(10**17, 5, EVERYTHING, Search(text="needle")).items == []


def test_search_filters() -> None:
    records = {
        "one": record(image_ids=["1"]),
        "two": record(image_ids=["1", "2"]),
        "talk": record(rel_ins_ids=["one"]),
    }
    with opened_text(json.dumps(records)) as table:

        def search(**wanted: Any) -> list[str]:
            return [one.id for one in table.search(0, 9, EVERYTHING, Search(**wanted)).items]

        assert search(has_several_images=True) == ["two"]
        assert search(has_context=True) == ["talk"]
        ids = pa.table({"id": ["two", "other", "two"]})
        assert search(ids=ids) == ["two"]
        assert search(has_context=True, contexts=ids) == ["two"]
        assert search(ids=ids, has_context=True) == []
        assert search(ids=pa.table({"id": pa.array([], pa.string())})) == []


# A dataset of instructions, images and a train config


@contextmanager
def opened_dataset(
    folder: Path,
    records: dict[str, Any],
    images: dict[str, str | None] | None = None,
    train_config: str | None = None,
    num_samples: int | None = None,
) -> Iterator[Dataset]:
    (folder / "it.json").write_text(json.dumps({"meta": {}, "data": records}))
    fields = ["mimicit_path: it.json"]
    if images is not None:
        table = table_of(list(images.values())).select(["base64"])
        table = table.append_column("key", pa.array(list(images), pa.string()))
        write(folder / "images.parquet", table)
        fields.append("images_path: images.parquet")
    if train_config is not None:
        (folder / "train.json").write_text(train_config)
        fields.append("train_config_path: train.json")
    if num_samples is not None:
        fields.append(f"num_samples: {num_samples}")
    group = "TEXT_ONLY" if images is None else "IMAGE_TEXT_IN_CONTEXT"
    lines = "".join(f"    {field}\n" for field in fields)
    (folder / "data.yaml").write_text(f"{group}:\n  A:\n{lines}")
    catalog_folder = folder / "catalog"
    data_yaml = load_data_yaml(folder / "data.yaml")
    build_catalog(data_yaml, catalog_folder, LIMITS, lambda _: None, wait_seconds=1)
    catalog = Catalog(
        catalog_folder, max_open_files=4, page_cache_bytes=1 << 20, duckdb_memory_bytes=1 << 28
    )
    try:
        yield catalog.get_dataset("A")
    finally:
        catalog.close()


def usable_of(dataset: Dataset) -> str:
    return "".join(dataset.instructions.get_row(row).id for row in dataset.usable)


RECORDS = {
    "a": record(image_ids=["ok"], rel_ins_ids=["b", "c"]),
    "b": record(image_ids=["ok", "gone"]),
    "c": record(image_ids=["null"], rel_ins_ids=["a", "nowhere", "nowhere"]),
    "d": record(image_ids=[]),
    "e": record(image_ids=["empty", "bad", "gone"]),
    "f": record(image_ids=["ok", "ok", "fine\0/é"]),
}
IMAGES = {"ok": "QUJD", "null": None, "empty": "", "bad": "?!", "fine\0/é": "QUJD", "unused": None}


def test_what_is_missing_or_unreadable_is_counted(tmp_path: Path) -> None:
    with opened_dataset(tmp_path, RECORDS, IMAGES) as dataset:
        assert usable_of(dataset) == "adf"
        assert dataset.draws == 3
        assert dataset.count_problems() == {
            "dangling_context": 2,
            "empty_image": 1,
            "missing_image": 2,
            "null_image": 2,
            "undecodable_image": 1,
            "unreadable_image": 3,
        }
        context, missing = dataset.list_context(dataset.context_ids(dataset.instructions.get("c")))
        assert ([one.id for one in context], missing) == (["a"], ["nowhere", "nowhere"])


def test_a_train_config_replaces_the_context_and_limits_what_is_drawn(tmp_path: Path) -> None:
    config = {"f": ["d", "x", "a"], "a": None, "b": ["a"], "nobody": ["a"], "d": []}
    with opened_dataset(tmp_path, RECORDS, IMAGES, json.dumps(config)) as dataset:
        assert usable_of(dataset) == "adf"
        problems = dataset.count_problems()
        assert problems["unknown_train_id"] == 1
        assert problems["dangling_context"] == 1
        instructions = dataset.instructions
        assert dataset.context_ids(instructions.get("f")) == ["d", "x", "a"]
        assert dataset.context_ids(instructions.get("a")) == []
        assert dataset.context_ids(instructions.get("c")) == []
        context, missing = dataset.list_context(dataset.context_ids(instructions.get("f")))
        assert ([one.id for one in context], missing) == (["d", "a"], ["x"])


def test_only_listed_instructions_are_drawn(tmp_path: Path) -> None:
    with opened_dataset(tmp_path, RECORDS, None, '{"e": [], "b": ["a"]}', num_samples=7) as dataset:
        assert usable_of(dataset) == "be"
        assert dataset.draws == 7
        assert dataset.images is None


def test_no_train_id_is_known(tmp_path: Path) -> None:
    with opened_dataset(tmp_path, RECORDS, None, '{"x": []}', num_samples=7) as dataset:
        assert usable_of(dataset) == ""
        assert dataset.draws == 0


def test_no_instructions_at_all(tmp_path: Path) -> None:
    with opened_dataset(tmp_path, {}, {}, "{}") as dataset:
        assert (usable_of(dataset), dataset.draws, dataset.count_problems()) == ("", 0, {})


@pytest.mark.parametrize(
    "wrong",
    [
        '"a": "b"', '"a": 7', '"a": {"b": 1}', '"a": [1]', '"a": [null]', '"a": [["b"]]',
        '"a": 123456789012345678901234567890', '"a": ["\\ud800"]', '"\\ud800": []', '"": []',
        '"a": ' + "[" * 300 + "]" * 300, f'"{"k" * 1001}": []', '"a": [NaN]', '"a": 1.5',
    ],
)  # fmt: skip
def test_members_of_a_train_config_of_the_wrong_shape(wrong: str, tmp_path: Path) -> None:
    config = f'{{"d": ["a"], {wrong}, "f": []}}'
    with opened_dataset(tmp_path, RECORDS, None, config) as dataset:
        assert usable_of(dataset) == "df"
        assert dataset.count_problems()["invalid_train_config"] == 1


def test_a_train_config_with_an_id_twice(tmp_path: Path) -> None:
    config = '{"a": ["b"], "d": [], "a": ["c"]}'
    with opened_dataset(tmp_path, RECORDS, None, config) as dataset:
        assert usable_of(dataset) == "ad"
        assert dataset.context_ids(dataset.instructions.get("a")) == ["c"]
        assert dataset.count_problems()["duplicate_train_id"] == 1


@pytest.mark.parametrize("config", ["", "[]", "7", '{"a": [}', '{"a": []', '{"a": []} x'])
def test_a_train_config_that_is_no_object(config: str, tmp_path: Path) -> None:
    with (
        pytest.raises(CatalogError, match=r"train\.json"),
        opened_dataset(tmp_path, RECORDS, None, config),
    ):
        pass


def test_a_second_data_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "it.json"
    path.write_text(json.dumps({"data": {"a": record()}})[:-1] + ', "data": {}}')
    with (
        BuildTools(LIMITS, tmp_path / "spill") as tools,
        pytest.raises(DamagedFileError, match='more than one "data"'),
    ):
        build_instructions(str(path), (), tools, tmp_path, lambda _: None)
