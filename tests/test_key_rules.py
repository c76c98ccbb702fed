"""Key rules: what they make of an image id, and what they are refused for; to the served batch."""

import json
import pickle
import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import reduce
from pathlib import Path

import msgspec
import pytest
from batch_answers import read_arrow
from hypothesis import given
from hypothesis import strategies as st
from live_server import image_path, start_server
from packs import draw_jpeg, record, write_images, write_instructions
from parquet_files import LIMITS

from app.catalog.build import build_catalog, is_fresh
from app.catalog.catalog import Catalog
from app.catalog.keyed import MAX_KEY_BYTES
from app.catalog.manifest import Manifest
from app.data_yaml import load_data_yaml
from app.key_rules import (
    MAX_ID_CHARS,
    MAX_RULE_CHARS,
    MAX_RULES,
    KeyRule,
    KeyRules,
    check_pattern,
    check_replace,
)

# Rules


@pytest.mark.parametrize(
    ("rules", "image_id", "key"),
    [
        ((), "a.jpg", "a.jpg"),
        (((r"\.jpg$", ""),), "a.jpg.jpg", "a.jpg"),
        ((("^", "LA_"),), "a\nb", "LA_a\nb"),
        (((r"\.jpg$", ""), ("^", "LA_IMG_")), "000000033471.jpg", "LA_IMG_000000033471"),
        ((("^", "0" * 12), (r"^\d+(\d{12})$", r"\1")), "33471", "000000033471"),
        (((r"^0+(?=\d)", ""),), "000", "0"),
        (
            ((r"^(TVC_IMG)_(.+_clip_\d+)_\2_", r"\1_\2_"),),
            "TVC_IMG_s04_clip_02_s04_clip_02_00009",
            "TVC_IMG_s04_clip_02_00009",
        ),
        ((("a", "b"), ("b", "c")), "ab", "cc"),
        ((("b", "c"), ("a", "b")), "ab", "bc"),
        (((".*", ""),), "a", ""),
        ((("a|(b)", r"<\1>"),), "ab", "<><b>"),
        ((("(?i)jpg", "é\0"),), "a.JPG", "a.é\0"),
    ],
)
def test_what_rules_make_of_an_id(
    rules: tuple[tuple[str, str], ...], image_id: str, key: str
) -> None:
    assert KeyRules(tuple(KeyRule(*rule) for rule in rules)).apply(image_id) == key


def test_the_example_of_the_docs(tmp_path: Path) -> None:
    page = (Path(__file__).parents[1] / "docs/data-yaml.md").read_text("utf-8")
    example = page.split("## Key rules")[1].split("```yaml\n")[1].split("```")[0]
    (tmp_path / "data.yaml").write_text(example)
    (dataset,) = load_data_yaml(tmp_path / "data.yaml", check_files=False).datasets
    made = KeyRules(dataset.key_rules).apply("000000033471.jpg")
    assert made == "LA_IMG_000000033471"
    assert made in page


patterns = st.sampled_from(["a", "^", "$", "b+", "(a)(b)?", "(?P<x>.)", r"\d", "[^a]", ".*", "$^"])
rules = st.builds(KeyRule, patterns, st.text("ab0\n", max_size=3) | st.just(r"<\g<0>>"))


@given(st.lists(rules, max_size=3), st.text("ab01\n", max_size=9))
def test_rules_are_re_sub_one_after_the_other(several: list[KeyRule], image_id: str) -> None:
    made = reduce(lambda text, rule: re.sub(rule.pattern, rule.replace, text), several, image_id)
    assert KeyRules(tuple(several)).apply(image_id) == made


def test_what_no_key_can_be_grows_no_further() -> None:
    doubling = KeyRules((KeyRule("^.*$", r"\g<0>\g<0>"),) * MAX_RULES)
    assert len(doubling.apply("a" * 300)) == 1200
    assert doubling.apply("a" * (MAX_ID_CHARS + 1)) == "a" * (MAX_ID_CHARS + 1)
    assert KeyRules((KeyRule("a", ""),)).apply("a" * MAX_ID_CHARS) == ""
    assert MAX_ID_CHARS == MAX_KEY_BYTES


def test_a_rule_can_be_sent_and_named() -> None:
    rule = KeyRule("a", "b")
    assert pickle.loads(pickle.dumps(rule)) == rule
    assert json.loads(msgspec.json.encode([rule])) == [{"pattern": "a", "replace": "b"}]


@pytest.mark.parametrize(
    "pattern",
    [
        *("", "(", "*", "a{99999999999}", "[", "\\", "(?P<a", "(?L)a", "a(?i)", "(?<=a*)b", "[[a]"),
        *("(" * 499 + ")" * 499, r"\1", "a" * (MAX_RULE_CHARS + 1)),
    ],
)
def test_patterns_that_are_refused(pattern: str) -> None:
    with pytest.raises(ValueError, match=r"^(is|has) .*; write "):
        check_pattern(pattern)


@pytest.mark.parametrize(
    ("replace", "pattern", "why"),
    [
        (r"\1", "a", "the pattern has no groups"),
        (r"\3", "(a)(b)", r"the pattern has \\1 to \\2"),
        (r"\g<x>", "(?P<y>a)", "unknown group name 'x'"),
        (r"\g<", "a", "missing group name"),
        (r"\d", "a", r"bad escape \\d at position 0"),
        ("\\", "a", "bad escape"),
        ("a" * (MAX_RULE_CHARS + 1), "a", "write at most 1,000"),
    ],
)
def test_replacements_that_are_refused(replace: str, pattern: str, why: str) -> None:
    with pytest.raises(ValueError, match=why) as caught:
        check_replace(replace, pattern)
    assert "; write " in str(caught.value)


regex_text = st.text(st.sampled_from(r"ab1.^$*+?()[]{}|\<>=!:P,-") | st.characters(), max_size=20)


@given(regex_text, regex_text, st.text("ab1", max_size=8))
def test_what_is_not_refused_is_applied(pattern: str, replace: str, image_id: str) -> None:
    try:
        check_pattern(pattern)
        check_replace(replace, pattern)
    except ValueError:
        return
    KeyRules((KeyRule(pattern, replace),)).apply(image_id)


# Datasets

IDS = [f"{number}.jpg" for number in range(5)]
KEYS = [f"LA_IMG_{number:012}" for number in range(5)]
RULES = r"""
      - {pattern: '\.jpg$', replace: ''}
      - {pattern: '^', replace: '000000000000'}
      - {pattern: '^\d+(\d{12})$', replace: 'LA_IMG_\1'}
"""


def write_pack(folder: Path, **key_rules: str) -> Path:
    """Datasets by those names, of the same files, whose image ids and keys are not the same."""
    folder.mkdir(exist_ok=True)
    pictures = [draw_jpeg(number) for number in range(5)]
    write_images(folder / "i.parquet", dict(zip(KEYS, pictures, strict=True)))
    records = {f"I{number}": record("q", one, IDS[0]) for number, one in enumerate(IDS)}
    write_instructions(folder / "i.json", records)
    return write_yaml(folder, **key_rules)


def write_yaml(folder: Path, **key_rules: str) -> Path:
    lines = ["IMAGE_TEXT:"]
    for name, written in key_rules.items():
        lines += [f"  {name}:", "    mimicit_path: i.json", "    images_path: i.parquet"]
        lines += [f"    key_rules: {written}"] if written else []
    (folder / "data.yaml").write_text("\n".join(lines))
    return folder / "data.yaml"


def build(data: Path) -> Manifest:
    loaded = load_data_yaml(data)
    return build_catalog(loaded, data.parent / "c", LIMITS, lambda _: None, wait_seconds=1)


@contextmanager
def built(data: Path) -> Iterator[Catalog]:
    build(data)
    catalog = Catalog(
        data.parent / "c", max_open_files=8, page_cache_bytes=1 << 20, duckdb_memory_bytes=1 << 28
    )
    try:
        yield catalog
    finally:
        catalog.close()


def test_datasets_of_one_file_have_rules_of_their_own(tmp_path: Path) -> None:
    before = write_pack(tmp_path, A="", B=RULES).read_bytes(), (tmp_path / "i.json").read_bytes()
    with built(tmp_path / "data.yaml") as catalog:
        without, having = catalog.get_dataset("A"), catalog.get_dataset("B")
        assert without.instructions.get("I1").image_ids == [IDS[1], IDS[0]]
        assert (list(without.usable), without.count_problems()) == ([], {"missing_image": 10})
        assert having.instructions.get("I1").image_ids == [KEYS[1], KEYS[0]]
        assert (list(having.usable), having.count_problems()) == ([0, 1, 2, 3, 4], {})
    assert before == ((tmp_path / "data.yaml").read_bytes(), (tmp_path / "i.json").read_bytes())


def test_an_instruction_is_written_once_with_its_rules(tmp_path: Path) -> None:
    """Also where rows are written again because an id is there twice."""
    write_pack(tmp_path, A=r"[{pattern: '\.jpg$', replace: '.jpg.jpg'}]")
    twice = json.dumps(record("q", "x.jpg"))
    (tmp_path / "i.json").write_text(f'{{"a": {twice}, "b": {twice}, "a": {twice}}}')
    with built(tmp_path / "data.yaml") as catalog:
        instructions = catalog.get_dataset("A").instructions
        assert [instructions.get_row(n).image_ids for n in (0, 1)] == [["x.jpg.jpg"]] * 2


@pytest.mark.parametrize(
    "written",
    [
        pytest.param("[{pattern: '.+', replace: ''}]", id="empty"),
        pytest.param(f"[{{pattern: '^', replace: '{'é' * 600}'}}]", id="over-1000-bytes"),
        pytest.param(f"[{{pattern: '^', replace: '{'e' * 1000}'}}]", id="over-1000-characters"),
        pytest.param(r"[{pattern: '^', replace: '\0'}]", id="nul"),
    ],
)
def test_ids_that_rules_make_no_keys_are_missing_images(tmp_path: Path, written: str) -> None:
    with built(write_pack(tmp_path, A=written)) as catalog:
        dataset = catalog.get_dataset("A")
        assert dataset.count_problems() == {"missing_image": 10}
        assert list(dataset.usable) == []
        assert dataset.images is not None
        for image_id in dataset.instructions.get("I1").image_ids:
            assert dataset.images.find_place(image_id) is None


def test_the_catalog_follows_the_rules(tmp_path: Path) -> None:
    """Other rules are another unit; those that make the same ids are not another revision."""
    data = write_pack(tmp_path, A="")
    plain = build(data).revision
    assert is_fresh(load_data_yaml(data), tmp_path / "c", LIMITS)
    revisions = []
    for written in ("[{pattern: NOT THERE, replace: x}]", RULES, RULES.replace("12", "11", 1)):
        write_yaml(tmp_path, A=written)
        assert not is_fresh(load_data_yaml(data), tmp_path / "c", LIMITS)
        revisions.append(build(data).revision)
    assert revisions[0] == plain
    assert len({plain, *revisions[1:]}) == 3


@pytest.mark.slow
def test_what_is_served_has_the_keys(tmp_path: Path) -> None:
    with start_server(write_pack(tmp_path, A=RULES), tmp_path / "c") as server:
        found = server.get_json("/v1/datasets/A/instructions/I3")
        assert found["image_ids"] == [KEYS[3], KEYS[0]]
        for number in (3, 0):
            assert server.get(image_path("A", KEYS[number])).body == draw_jpeg(number)
        page = server.get_json(f"/v1/datasets/A/instructions?image_id={KEYS[2]}")
        assert [one["id"] for one in page["items"]] == ["I2"]
        answer = server.get("/v1/groups/IMAGE_TEXT/batches/0?batch_size=5")
        assert answer.status == 200, answer
        rows = {row["id"]: row for row in read_arrow(answer.body).to_pylist()}
        assert sorted(rows) == [f"I{number}" for number in range(5)]
        for number in range(5):
            assert rows[f"I{number}"]["image_ids"] == [KEYS[number], KEYS[0]]
            assert rows[f"I{number}"]["images"] == [draw_jpeg(number), draw_jpeg(0)]
