"""The data YAML: what is accepted, and that every mistake is named with its line and its fix."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.data_yaml import (
    FIELDS,
    GROUPS,
    DataYaml,
    list_image_files,
    load_data_yaml,
    walk,
)
from app.errors import DataYamlError, Mistake
from app.group import Group
from app.key_rules import MAX_RULES, KeyRule

SHARED = Path(__file__).parents[2] / "shared" / "data"
GROUPED = [
    "yaml/Demo_Data.yaml",
    "yaml/Demo_VideoData.yaml",
    "yaml/llava_sft_noconv_nogrounp.yaml",
    "yaml/shai_instance_shai_data_recipe.yaml",
]


def write(folder: Path, text: str | bytes) -> Path:
    path = folder / "data.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def load(folder: Path, text: str | bytes) -> DataYaml:
    return load_data_yaml(write(folder, text), check_files=False)


def refuse(folder: Path, text: str | bytes, *, check_files: bool = False) -> tuple[Mistake, ...]:
    with pytest.raises(DataYamlError) as caught:
        load_data_yaml(write(folder, text), check_files=check_files)
    assert [m.line for m in caught.value.mistakes] == sorted(m.line for m in caught.value.mistakes)
    return caught.value.mistakes


def text_only(fields: str) -> str:
    """A data YAML of one TEXT_ONLY dataset T whose extra field stands on line 4."""
    return f"TEXT_ONLY:\n  T:\n    mimicit_path: t.json\n    {fields}\n"


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def test_every_field_is_read(tmp_path: Path) -> None:
    text = """\
IMAGE_TEXT:
  A:
    mimicit_path: json/a.json
    images_path: images/a.parquet
    train_config_path: /elsewhere/a_train.json
    num_samples: 20_000
    task_description: Describe it.
    key_column: id
    value_column: image.bytes
    key_rules:
      - {pattern: '\\.jpg$', replace: ''}
      - pattern: ^
        replace: LA_
TEXT_ONLY:
  T: {mimicit_path: t.json, num_samples: -1}
IMAGE_TEXT_IN_CONTEXT:
  C: {mimicit_path: c.json, images_path: 'c/*.parquet'}
VIDEO_TEXT:
  V: {mimicit_path: v.json, images_path: v.json}
"""
    read = load(tmp_path, text)
    assert read.path == tmp_path / "data.yaml"
    assert [(d.name, d.group, d.line) for d in read.datasets] == [
        ("A", Group.IMAGE_TEXT, 2),
        ("T", Group.TEXT_ONLY, 15),
        ("C", Group.IMAGE_TEXT_IN_CONTEXT, 17),
        ("V", Group.VIDEO_TEXT, 19),
    ]
    a, t, c, _ = read.datasets
    assert a.mimicit_path == tmp_path / "json/a.json"
    assert a.images_path == str(tmp_path / "images/a.parquet")
    assert a.train_config_path == Path("/elsewhere/a_train.json")
    assert (a.num_samples, a.task_description) == (20_000, "Describe it.")
    assert (a.key_column, a.value_column) == ("id", "image.bytes")
    assert a.key_rules == (KeyRule(r"\.jpg$", ""), KeyRule("^", "LA_"))
    assert (t.key_rules, c.key_rules) == ((), ())
    assert (t.images_path, t.num_samples, t.task_description) == (None, None, None)
    assert c.images_path == str(tmp_path / "c/*.parquet")


def test_paths_start_at_the_folder_of_the_yaml(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, text_only("num_samples: 1"))
    monkeypatch.chdir(tmp_path)
    read = load_data_yaml(Path("data.yaml"), check_files=False)
    assert read.datasets[0].mimicit_path == tmp_path / "t.json"


def test_meaning_has_no_path_and_survives_json(tmp_path: Path) -> None:
    text = text_only("train_config_path: c.json\n    num_samples: 7\n    task_description: x")
    other = tmp_path / "other"
    other.mkdir()
    meaning = load(tmp_path, text).meaning()
    assert meaning == load(other, "# moved\n" + text.replace("t.json", "u.json")).meaning()
    assert json.loads(json.dumps(meaning)) == [
        {
            "name": "T",
            "group": "TEXT_ONLY",
            "num_samples": 7,
            "task_description": "x",
            "train_config": True,
        }
    ]


@pytest.mark.parametrize("number", ["-1", "!!int '-1'"])
def test_minus_one_is_all(tmp_path: Path, number: str) -> None:
    assert load(tmp_path, text_only(f"num_samples: {number}")).datasets[0].num_samples is None


@pytest.mark.parametrize(("written", "number"), [("1", 1), ("+5", 5), ("1000000000000", 10**12)])
def test_a_positive_integer_is_that_many(tmp_path: Path, written: str, number: int) -> None:
    assert load(tmp_path, text_only(f"num_samples: {written}")).datasets[0].num_samples == number


@pytest.mark.parametrize(
    ("written", "what"),
    [
        pytest.param("0", "is 0;", id="zero"),
        pytest.param("-2", "is -2;", id="other-negative"),
        pytest.param("1.5", "is a fraction;", id="fraction"),
        pytest.param("20000.0", "is a fraction;", id="whole-but-written-as-fraction"),
        pytest.param(".inf", "is a fraction;", id="infinity"),
        pytest.param('"5"', "is text;", id="quoted"),
        pytest.param("all", "is text;", id="word"),
        pytest.param("20,000", "is text;", id="comma"),
        pytest.param("1e3", "is text;", id="exponent-without-point"),
        pytest.param("true", "is a boolean;", id="boolean"),
        pytest.param("", "is blank;", id="blank"),
        pytest.param("null", "is blank;", id="null"),
        pytest.param("[5]", "is a list;", id="list"),
        pytest.param("{a: 5}", "is a mapping;", id="mapping"),
        pytest.param("010", "is 010;", id="octal-is-not-guessed"),
        pytest.param("0x10", "is 0x10;", id="hexadecimal"),
        pytest.param("0x_", "is 0x_;", id="hexadecimal-without-digits"),
        pytest.param("1:30", "is 1:30;", id="base-60"),
        pytest.param("!!int ''", "is blank;", id="blank-integer"),
        pytest.param("!!int five", "is five;", id="tagged-word"),
        pytest.param("1000000000001", "is 1000000000001;", id="over-the-limit"),
        pytest.param("9" * 5000, "is 9999", id="thousands-of-digits"),
        pytest.param("2024-01-01", "is a date;", id="date"),
    ],
)
def test_num_samples_that_are_refused(tmp_path: Path, written: str, what: str) -> None:
    (mistake,) = refuse(tmp_path, text_only(f"num_samples: {written}"))
    assert (mistake.line, mistake.group, mistake.dataset) == (4, "TEXT_ONLY", "T")
    assert mistake.message.startswith(f"num_samples {what}")
    assert "leave it out or write -1" in mistake.message
    assert "write 1 to 1000000000000 in unquoted digits" in mistake.message
    assert len(mistake.message) < 250


A = "  A: {mimicit_path: a.json, images_path: a.parquet}\n"
REFUSED = {
    "unknown-group-near": (
        f"IMAGE_TEXTS:\n{A}",
        1,
        "IMAGE_TEXTS",
        None,
        "did you mean IMAGE_TEXT?",
    ),
    "unknown-group-case": (f"image_text:\n{A}", 1, "image_text", None, "did you mean IMAGE_TEXT?"),
    "unknown-group-far": (f"zebra:\n{A}", 1, "zebra", None, "the groups are IMAGE_TEXT, TEXT_ONLY"),
    "dataset-without-group": (
        "LADD:\n  mimicit_path: a.json\n  images_path: a.parquet\n",
        *(1, "LADD", None, "the groups are IMAGE_TEXT"),
    ),
    "blank-group": ("IMAGE_TEXT:\n", 1, "IMAGE_TEXT", None, "group is blank; write its datasets"),
    "empty-group": ("IMAGE_TEXT: {}\n", 1, "IMAGE_TEXT", None, "blank"),
    "group-of-a-list": (f"IMAGE_TEXT:\n- {A}", 1, "IMAGE_TEXT", None, "the group is a list"),
    "group-of-text": ("IMAGE_TEXT: a.json\n", 1, "IMAGE_TEXT", None, "the group is text"),
    "unnamed-group": ("null: {}\n", 1, None, None, "group 'null' is blank, not text"),
    "blank-dataset": ("TEXT_ONLY:\n  T:\n", 2, "TEXT_ONLY", "T", "dataset is blank; write its"),
    "dataset-of-text": ("TEXT_ONLY:\n  T: t.json", 2, "TEXT_ONLY", "T", "the dataset is text"),
    "dataset-of-a-list": ("TEXT_ONLY:\n  T: [1]", 2, "TEXT_ONLY", "T", "the dataset is a list"),
    "unknown-field-near": (text_only("num_sample: 5"), 4, "TEXT_ONLY", "T", "mean num_samples?"),
    "unknown-field-far": (text_only("zzz: 5"), 4, "TEXT_ONLY", "T", "the fields are mimicit_path"),
    "field-that-is-a-number": (text_only("5: 5"), 4, "TEXT_ONLY", "T", "field '5' is a number"),
    "field-that-is-a-list": (text_only("? [a]\n    : 5"), 4, "TEXT_ONLY", "T", "field is a list"),
    "no-mimicit-path": ("TEXT_ONLY:\n  T: {num_samples: 1}", 2, "TEXT_ONLY", "T", "JSON"),
    "no-images-path": (
        "VIDEO_TEXT:\n  V: {mimicit_path: v.json}",
        *(2, "VIDEO_TEXT", "V", "images_path is missing; write the images Parquet"),
    ),
    "images-in-text-only": (text_only("images_path: a"), 4, "TEXT_ONLY", "T", "take it out"),
    "key-column-in-text-only": (text_only("key_column: a"), 4, "TEXT_ONLY", "T", "take it out"),
    "key-rules-in-text-only": (text_only("key_rules: []"), 4, "TEXT_ONLY", "T", "take it out"),
    "blank-path": (text_only("train_config_path:"), 4, "TEXT_ONLY", "T", "is blank; write plain"),
    "path-of-blanks": (text_only("train_config_path: '  '"), 4, "TEXT_ONLY", "T", "is blank"),
    "path-list": (text_only("train_config_path: [a]"), 4, "TEXT_ONLY", "T", "is a list; write"),
    "path-number": (text_only("train_config_path: 5"), 4, "TEXT_ONLY", "T", "number; write plain"),
    "path-with-nul": (text_only(r'train_config_path: "a\0b"'), 4, "TEXT_ONLY", "T", "control"),
    "path-custom-tag": (text_only("train_config_path: !env A"), 4, "TEXT_ONLY", "T", "type !env"),
    "task-boolean": (text_only("task_description: no"), 4, "TEXT_ONLY", "T", "is a boolean"),
    "name-number": (f"TEXT_ONLY:\n  1: {{}}\n{A}", 2, "TEXT_ONLY", None, "'1' is a number, not"),
    "name-boolean": ("TEXT_ONLY:\n  NO: {}", 2, "TEXT_ONLY", None, "'NO' is a boolean, not text"),
    "name-empty": ("TEXT_ONLY:\n  '': {}", 2, "TEXT_ONLY", None, "put it in quotes"),
    "group-twice": (
        "TEXT_ONLY:\n  T: {mimicit_path: t}\nTEXT_ONLY:\n  U: {mimicit_path: u}",
        *(3, None, None, "'TEXT_ONLY' is also on line 1; keep one"),
    ),
    "dataset-twice": (
        "TEXT_ONLY:\n  T: {mimicit_path: t}\n  'T': {mimicit_path: u}",
        *(3, "TEXT_ONLY", None, "'T' is also on line 2; keep one"),
    ),
    "field-twice": (text_only("mimicit_path: u"), 4, "TEXT_ONLY", "T", "also on line 3; keep one"),
    "dataset-in-two-groups": (
        "TEXT_ONLY:\n  T: {mimicit_path: t}\nVIDEO_TEXT:\n  T: {mimicit_path: t, images_path: i}",
        *(4, "VIDEO_TEXT", "T", "also in TEXT_ONLY, line 2; rename"),
    ),
    "group-alias": (
        "VIDEO_TEXT: &g\n  V: {mimicit_path: t, images_path: i}\nIMAGE_TEXT: *g",
        *(2, "IMAGE_TEXT", "V", "also in VIDEO_TEXT, line 2; rename"),
    ),
    "merge-of-text": (text_only("<<: base"), 4, "TEXT_ONLY", "T", "'<<' merges text; name a map"),
    "merge-of-a-list-of-text": (text_only("<<: [a]"), 4, "TEXT_ONLY", "T", "'<<' merges text"),
    "merge-twice": (
        text_only("<<: {num_samples: 1}\n    <<: {num_samples: 2}"),
        *(5, "TEXT_ONLY", "T", "'<<' is also on line 4"),
    ),
    "merge-into-itself": ("TEXT_ONLY:\n  T: &t\n    <<: *t", 2, "TEXT_ONLY", "T", "into itself"),
    "alias-inside-itself": (
        "TEXT_ONLY: &t\n  mimicit_path: *t\n",
        *(2, "TEXT_ONLY", "mimicit_path", "is a mapping; write plain text"),
    ),
    "empty-file": ("", 1, None, None, "the file is blank; write groups, such as IMAGE_TEXT:"),
    "only-comments": ("# nothing\n", 1, None, None, "the file is blank; write groups"),
    "only-null": ("~\n", 1, None, None, "the file is blank"),
    "no-groups": ("{}\n", 1, None, None, "the file is blank"),
    "top-level-list": ("- IMAGE_TEXT\n", 1, None, None, "the file is a list; write groups"),
    "top-level-text": ("data.parquet\n", 1, None, None, "the file is text; write groups"),
    "two-documents": (
        text_only("num_samples: 1") + "---\nVIDEO_TEXT: {}\n",
        *(6, None, None, "a second YAML document; keep one"),
    ),
    "syntax": ("TEXT_ONLY:\n  T: {mimicit_path: t\n", 3, None, None, "not YAML ("),
    "colon-in-value": ("TEXT_ONLY:\n  T: a: b\n", 2, None, None, "colons and quotes around this"),
    "tab": ("TEXT_ONLY:\n\tT: {}\n", 2, None, None, "blanks, never tabs"),
    "undefined-alias": (text_only("num_samples: *n"), 4, None, None, "undefined alias"),
    "anchor-twice": ("a: &x 1\nb: &x 2\n", 2, None, None, "not YAML ("),
    "bad-escape": ('a:\n  "\\q": 1\n', 2, None, None, "not YAML ("),
    "control-character": ("TEXT_ONLY:\n  T\x01: 1\n", 2, None, None, r"'\x01' is not printable"),
    "not-utf-8": ("a:\n  é: 1\n".encode("latin-1"), 2, None, None, "UTF-8 text; take it out"),
    "utf-16": ("a: 1\n".encode("utf-16"), 1, None, None, "is not printable UTF-8 text"),
    "nested-too-deep": ("[" * 5000, 1, None, None, "over 20 levels"),
    "too-large": (b"#" * (4 * 1024 * 1024 + 1), 1, None, None, "over 4 MiB; a data YAML only"),
    "too-many-nodes": (b"[" + b"a," * 500_001 + b"]", 1, None, None, "over 500,000 YAML nodes"),
}


@pytest.mark.parametrize(
    ("text", "line", "group", "dataset", "phrase"),
    [pytest.param(*case, id=name) for name, case in REFUSED.items()],
)
def test_refused_with_line_place_and_fix(
    tmp_path: Path,
    text: str | bytes,
    line: int,
    group: str | None,
    dataset: str | None,
    phrase: str,
) -> None:
    mistakes = refuse(tmp_path, text)
    assert [
        m
        for m in mistakes
        if (m.line, m.group, m.dataset) == (line, group, dataset) and phrase in m.message
    ], mistakes


@pytest.mark.parametrize(
    "name",
    ["a/b", r"a\tb", r"a\u009fb", ".", "..", "  ", "n" * 201],
    ids=["slash", "tab", "c1-control", "dot", "dot-dot", "blanks", "over-200-characters"],
)
def test_a_dataset_name_has_to_fit_into_a_url(tmp_path: Path, name: str) -> None:
    mistakes = refuse(tmp_path, f'TEXT_ONLY:\n  "{name}": {{mimicit_path: t.json}}\n')
    assert {(m.line, m.group) for m in mistakes} == {(2, "TEXT_ONLY")}
    assert len(str(mistakes[0])) < 400


@pytest.mark.parametrize("name", ["n" * 200, "a b", "é%?#", "...", "a.b", "数据"])
def test_other_dataset_names_are_accepted(tmp_path: Path, name: str) -> None:
    read = load(tmp_path, f'TEXT_ONLY:\n  "{name}": {{mimicit_path: t.json}}\n')
    assert read.datasets[0].name == name


RULES = "IMAGE_TEXT:\n  A:\n    mimicit_path: a.json\n    images_path: a\n    key_rules:{}\n"
TOO_MANY = "\n" + "    - {pattern: a, replace: b}\n" * (MAX_RULES + 1)
GOOD_RULE = "\n    - {pattern: a, replace: b}"


@pytest.mark.parametrize(
    ("rules", "line", "phrase"),
    [
        pytest.param("", 5, "key_rules is blank; write a list of rules, each", id="blank"),
        pytest.param(" []", 5, "key_rules is blank; write a list", id="empty-list"),
        pytest.param(" '^a'", 5, "key_rules is text; write a list", id="text"),
        pytest.param(
            "\n      pattern: a\n      replace: b", 5, "is a mapping; write a", id="mapping"
        ),
        pytest.param(TOO_MANY, 5, "has 21 rules; write at most 20", id="too-many"),
        pytest.param(
            f"{GOOD_RULE}\n    - '^a'",
            7,
            "key_rules: rule 2 is text; write a map",
            id="rule-of-text",
        ),
        pytest.param("\n    - []", 6, "rule 1 is blank", id="rule-of-nothing"),
        pytest.param("\n    - [a, b]", 6, "rule 1 is a list; write a mapping", id="rule-of-a-list"),
        pytest.param(
            "\n    - replace: a",
            6,
            r"rule 1 has no pattern; write pattern: '\.jpg$'",
            id="no-pattern",
        ),
        pytest.param("\n    - pattern: a", 6, "rule 1 has no replace; write", id="no-replace"),
        pytest.param(
            "\n    - pattern: a\n      replacement: b",
            *(7, "unknown rule field 'replacement'; did you mean replace?"),
            id="near-field",
        ),
        pytest.param(
            "\n    - {pattern: a, replace: b,\n       flags: i}",
            *(7, "unknown rule field 'flags'; the rule fields are pattern, replace"),
            id="unknown-field",
        ),
        pytest.param(
            "\n    - pattern: a\n      pattern: b\n      replace: c",
            *(7, "'pattern' is also on line 6; keep one of them"),
            id="field-twice",
        ),
        pytest.param(
            "\n    - {1: a, pattern: a, replace: b}", 6, "'1' is a number, not text", id="field-1"
        ),
        pytest.param(
            "\n    - pattern: 5\n      replace: b",
            *(6, r"rule 1: pattern is a number; write text in single quotes, such as '\.jpg$'"),
            id="number",
        ),
        pytest.param(
            "\n    - pattern: a\n      replace: 000",
            *(7, "rule 1: replace is a number; write text in single quotes, '' to take out"),
            id="replace-by-a-number",
        ),
        pytest.param("\n    - {pattern: no, replace: b}", 6, "is a boolean; write", id="boolean"),
        pytest.param("\n    - {pattern: [a], replace: b}", 6, "is a list; write", id="list"),
        pytest.param("\n    - {pattern: !re a, replace: b}", 6, "of type !re", id="custom-tag"),
        pytest.param("\n    - {pattern: , replace: b}", 6, "pattern is blank; write", id="no-text"),
        pytest.param("\n    - {pattern: '', replace: b}", 6, "pattern is empty; write", id="empty"),
        pytest.param(
            "\n    - {pattern: a, replace: }", 6, "'' to take out what", id="no-replacement"
        ),
        pytest.param(
            '\n    - {pattern: "a\\0", replace: b}', 6, "pattern is text with a control", id="nul"
        ),
        pytest.param(
            "\n    - pattern: (a\n      replace: b",
            *(6, "pattern is no regular expression (missing ), unterminated subpattern at posi"),
            id="bad-pattern",
        ),
        pytest.param(
            f"\n    - pattern: {'a' * 1001}\n      replace: b",
            *(6, "pattern has 1,001 characters; write at most 1,000"),
            id="long-pattern",
        ),
        pytest.param(
            f"\n    - pattern: a\n      replace: {'a' * 1001}",
            *(7, "replace has 1,001 characters; write at most 1,000"),
            id="long-replacement",
        ),
        pytest.param(
            "\n    - pattern: (a)(b)\n      replace: \\3",
            *(7, "(invalid group reference 3 at position 1); write"),
            id="no-such-group",
        ),
    ],
)
def test_key_rules_that_are_refused(tmp_path: Path, rules: str, line: int, phrase: str) -> None:
    (mistake,) = refuse(tmp_path, RULES.format(rules))
    assert (mistake.line, mistake.group, mistake.dataset) == (line, "IMAGE_TEXT", "A")
    assert mistake.message.startswith(
        ("key_rules", "unknown rule field", "rule field", "'pattern'")
    )
    assert phrase in mistake.message
    assert len(mistake.message) < 250


def test_one_mistake_in_key_rules_hides_no_other(tmp_path: Path) -> None:
    rules = """
    - {pattern: a, replace: b}
    - text
    - pattern: 5
      replace: 6
    - patern: '['
      replace:
    - {}
    - pattern: '(a'
      replace: '\\3'
    num_samples: 0"""
    assert [m.line for m in refuse(tmp_path, RULES.format(rules))] == [
        7,
        8,
        9,
        10,
        10,
        11,
        12,
        13,
        15,
    ]


@pytest.mark.parametrize(
    ("written", "rule"),
    [
        pytest.param("{pattern: a, replace: ''}", KeyRule("a", ""), id="take-out"),
        pytest.param("{pattern: ' ', replace: '  '}", KeyRule(" ", "  "), id="blanks"),
        pytest.param("{pattern: '5', replace: !!str 0}", KeyRule("5", "0"), id="text-of-digits"),
        pytest.param(
            r"{pattern: (?P<n>\d+)$, replace: \g<n>_}",
            KeyRule(r"(?P<n>\d+)$", r"\g<n>_"),
            id="named-group",
        ),
        pytest.param(
            r'{pattern: "\\.jpg$", replace: "é"}', KeyRule(r"\.jpg$", "é"), id="double-quotes"
        ),
    ],
)
def test_key_rules_that_are_accepted(tmp_path: Path, written: str, rule: KeyRule) -> None:
    (dataset,) = load(tmp_path, RULES.format(f"\n    - {written}")).datasets
    assert dataset.key_rules == (rule,)


def test_key_rules_of_one_dataset_can_be_those_of_another(tmp_path: Path) -> None:
    text = """\
IMAGE_TEXT:
  A: {mimicit_path: a, images_path: a, key_rules: &rules [{pattern: a, replace: b}]}
  B: {mimicit_path: b, images_path: b, key_rules: *rules}
"""
    a, b = load(tmp_path, text).datasets
    assert a.key_rules == b.key_rules == (KeyRule("a", "b"),)


@pytest.mark.parametrize("field", ["mimicit_path", "images_path", "train_config_path"])
@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("S3://b/a", "of no scheme that is read"),
        ("abfs://b/a", "of no scheme that is read"),
        ("http://b/a", "of no scheme that is read"),
        ("s3://b", "names no object"),
        ("s3:///a", "names no object"),
        ("https://u:secret@b/a", "https://b/… has a user"),
        ("https://b/a?signature=secret", "a query"),
        ("https://b/a%2Fb", "a slash as %2F"),
    ],
)
def test_addresses_that_name_no_object_are_refused(
    tmp_path: Path, field: str, address: str, message: str
) -> None:
    paths = {"mimicit_path": "a.json", "images_path": "a.parquet", field: address}
    (mistake,) = refuse(tmp_path, yaml.safe_dump({"IMAGE_TEXT": {"A": paths}}))
    assert mistake.message.startswith(field)
    assert message in mistake.message
    assert "secret" not in mistake.message


@pytest.mark.parametrize("scheme", ["s3", "gs", "az", "https"])
def test_addresses_are_taken_as_they_are(tmp_path: Path, scheme: str) -> None:
    address = f"{scheme}://b/a//b/*.parquet"
    paths = dict.fromkeys(["mimicit_path", "images_path", "train_config_path"], address)
    data = tmp_path / "data.yaml"
    data.write_text(yaml.safe_dump({"IMAGE_TEXT": {"A": paths}}))
    (dataset,) = load_data_yaml(data, check_files=False).datasets
    assert [dataset.mimicit_path, dataset.images_path, dataset.train_config_path] == [address] * 3


def test_one_mistake_hides_no_other(tmp_path: Path) -> None:
    text = """\
IMAGE_TXT:
  A:
    mimicit_pth: a.json
    images_path: [a.parquet]
    num_samples: 0
  1: {}
  B: text
VIDEO_TEXT:
zebra:
  C:
    mimicit_path: 5
TEXT_ONLY:
  D:
    num_samples: 1.5
    num_samples: 2
  A:
    mimicit_path: abfs://b/a.json
mimicit_path:
  LA: [a.json]
"""
    places = [(m.line, m.group, m.dataset) for m in refuse(tmp_path, text)]
    assert places == [
        (1, "IMAGE_TXT", None),
        (3, "IMAGE_TXT", "A"),
        (4, "IMAGE_TXT", "A"),
        (5, "IMAGE_TXT", "A"),
        (6, "IMAGE_TXT", None),
        (7, "IMAGE_TXT", "B"),
        (8, "VIDEO_TEXT", None),
        (9, "zebra", None),
        (11, "zebra", "C"),
        (13, "TEXT_ONLY", "D"),
        (14, "TEXT_ONLY", "D"),
        (15, "TEXT_ONLY", "D"),
        (16, "TEXT_ONLY", "A"),
        (17, "TEXT_ONLY", "A"),
        (18, None, None),
    ]


def test_merge_keys_work_and_own_fields_win(tmp_path: Path) -> None:
    text = """\
IMAGE_TEXT:
  A: &a {mimicit_path: a.json, images_path: a.parquet, num_samples: 5}
  B: &b {<<: *a, mimicit_path: b.json}
  C: {task_description: c, <<: [{num_samples: 9}, *b]}
"""
    _, b, c = load(tmp_path, text).datasets
    assert (b.mimicit_path, b.num_samples) == (tmp_path / "b.json", 5)
    assert (c.mimicit_path, c.num_samples, c.task_description) == (tmp_path / "b.json", 9, "c")


def test_a_mistake_in_a_merged_field_has_the_line_it_stands_on(tmp_path: Path) -> None:
    text = "TEXT_ONLY:\n  T: &t\n    mimicit_path: t\n    num_samples: 0\n  U: {<<: *t}\n"
    assert [(m.line, m.dataset) for m in refuse(tmp_path, text)] == [(4, "T"), (4, "U")]


def test_an_alias_bomb_is_refused_early(tmp_path: Path) -> None:
    lines = ["x0: &x0 {mimicit_path: a.json}"]
    lines += [f"x{n}: &x{n} {{<<: [{', '.join([f'*x{n - 1}'] * 10)}]}}" for n in range(1, 12)]
    mistakes = refuse(tmp_path, "\n".join(lines))
    assert any("over 500,000 YAML nodes" in mistake.message for mistake in mistakes)


@pytest.mark.parametrize(
    "make", [lambda p: None, lambda p: p.mkdir()], ids=["missing", "is-a-folder"]
)
def test_a_data_yaml_that_can_not_be_opened(tmp_path: Path, make: Any) -> None:
    make(tmp_path / "data.yaml")
    with pytest.raises(DataYamlError, match=r"line 1: .*; name a readable data YAML"):
        load_data_yaml(tmp_path / "data.yaml")


def test_a_byte_order_mark_is_no_mistake(tmp_path: Path) -> None:
    assert load(tmp_path, b"\xef\xbb\xbf" + text_only("num_samples: 1").encode()).datasets


OLD_RECIPE = """\
mimicit_ic_path:
  LA:
    - /data/LA/LACR_T2T_instructions.json
images_ic_path:
  LA: [/data/LA/LA.json]
past_mimicit_path: {LA: [/data/a.json]}
mimicit_vt_path: {V: [/data/v.json]}
train_config_text_path: {L: [/data/l.json]}
num_samples: 5
"""


def assert_explains_the_grouped_form(mistakes: tuple[Mistake, ...]) -> None:
    (mistake,) = mistakes
    assert (mistake.line, mistake.group, mistake.dataset) == (1, None, None)
    for phrase in ("older recipe form", "for example", "IMAGE_TEXT:\n", "mimicit_path: LA/"):
        assert phrase in mistake.message


def test_the_older_recipe_is_refused_with_one_explanation(tmp_path: Path) -> None:
    mistakes = refuse(tmp_path, OLD_RECIPE)
    assert_explains_the_grouped_form(mistakes)
    example = mistakes[0].message.partition("for example:\n")[2]
    assert [d.name for d in load(tmp_path, example).datasets] == ["LACONV"]


def test_the_older_recipe_in_the_wild_is_refused() -> None:
    path = SHARED / "yaml/refused-old-recipe.yaml"
    if not path.exists():
        pytest.skip(f"{path} is not here")
    with pytest.raises(DataYamlError) as caught:
        load_data_yaml(path)
    assert_explains_the_grouped_form(caught.value.mistakes)


@pytest.mark.parametrize("name", GROUPED)
def test_data_yamls_in_the_wild(name: str) -> None:
    path = SHARED / name
    if not path.exists():
        pytest.skip(f"{path} is not here")
    assert_reports_each_missing_path(path)


def test_a_grouped_twin_of_those_in_the_wild(tmp_path: Path) -> None:
    dataset = {"mimicit_path": "j/a.json", "images_path": "/none/here.parquet", "num_samples": -1}
    text = {"mimicit_path": "/none/t.json", "train_config_path": "t_train.json"}
    groups = {"IMAGE_TEXT": {"A": dataset, "B": dataset}, "TEXT_ONLY": {"T": text}}
    assert_reports_each_missing_path(write(tmp_path, "# twin\n" + yaml.safe_dump(groups)))


def assert_reports_each_missing_path(path: Path) -> None:
    read = load_data_yaml(path, check_files=False)
    expected = {
        (dataset.group.value, dataset.name, str(missing))
        for dataset in read.datasets
        for missing in (dataset.mimicit_path, dataset.images_path, dataset.train_config_path)
        if missing is not None
    }
    assert len(expected) >= 2
    with pytest.raises(DataYamlError) as caught:
        load_data_yaml(path)
    mistakes = caught.value.mistakes
    assert len(mistakes) == len(expected)
    for group, dataset, missing in expected:
        assert [
            m
            for m in mistakes
            if (m.group, m.dataset) == (group, dataset) and f"{missing} is missing" in m.message
        ]


def test_the_shared_pack_has_all_its_files() -> None:
    path = SHARED / "mimicit/data.yaml"
    if not path.exists():
        pytest.skip(f"{path} is not here")
    read = load_data_yaml(path)
    assert [d.name for d in read.datasets] == ["ANTH", "WH", "WH_LEGACY", "OSQ", "ANTHIC"]
    parts = list_image_files(read.datasets[0].images_path or "")
    assert [p.name for p in parts] == [f"part.{n}.parquet" for n in range(5)]


IMAGES = "IMAGE_TEXT:\n  A:\n    mimicit_path: a.json\n    images_path: {}\n"


@pytest.mark.parametrize(
    "images", ["one.parquet", "one.json", "plain", "dask.parquet", "dask.parquet/*", "**/*.parquet"]
)
def test_images_that_are_there(tmp_path: Path, images: str) -> None:
    touch(tmp_path, "a.json", "one.parquet", "one.json", "plain", "dask.parquet/part.0.parquet")
    read = load_data_yaml(write(tmp_path, IMAGES.format(f"'{images}'")))
    assert read.datasets[0].images_path == str(tmp_path / images)


@pytest.mark.parametrize(
    "images",
    ["none.parquet", "empty", "nested", "*.parquet", "empty/*", "side/*"],
    ids=[
        "missing",
        "empty-folder",
        "only-sub-folders",
        "no-match",
        "no-match-inside",
        "side-files",
    ],
)
def test_images_that_are_not_there(tmp_path: Path, images: str) -> None:
    touch(tmp_path, "a.json", "nested/sub/part.0.parquet", "side/_metadata", "side/a.crc")
    (tmp_path / "empty").mkdir()
    (mistake,) = refuse(tmp_path, IMAGES.format(f"'{images}'"), check_files=True)
    assert (mistake.line, mistake.group, mistake.dataset) == (4, "IMAGE_TEXT", "A")
    assert str(tmp_path / images) in mistake.message
    assert "a folder that has *.parquet files, or a glob" in mistake.message


def test_a_part_that_leads_nowhere_is_named(tmp_path: Path) -> None:
    touch(tmp_path, "a.json", "parts/part.0.parquet")
    (tmp_path / "parts/part.1.parquet").symlink_to(tmp_path / "gone")
    (mistake,) = refuse(tmp_path, IMAGES.format("parts"), check_files=True)
    assert f"{tmp_path}/parts/part.1.parquet is missing" in mistake.message
    assert "part.0" not in mistake.message


@pytest.mark.parametrize("field", ["mimicit_path", "train_config_path"])
def test_a_folder_in_place_of_a_json_file(tmp_path: Path, field: str) -> None:
    touch(tmp_path, "t.json")
    (tmp_path / "folder").mkdir()
    paths = {"mimicit_path": "t.json", field: "folder"}
    (mistake,) = refuse(tmp_path, yaml.safe_dump({"TEXT_ONLY": {"T": paths}}), check_files=True)
    assert mistake.message.startswith(field)
    assert f"{tmp_path}/folder is unreadable; name a file" in mistake.message


def test_a_file_that_may_not_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path, "t.json")
    monkeypatch.setattr("os.access", lambda path, mode: False)  # tests may run as root
    (mistake,) = refuse(tmp_path, text_only("num_samples: 1"), check_files=True)
    assert f"{tmp_path}/t.json is unreadable" in mistake.message


def test_a_path_longer_than_the_system_takes_is_missing(tmp_path: Path) -> None:
    touch(tmp_path, "t.json")
    (mistake,) = refuse(tmp_path, text_only(f"train_config_path: {'p' * 5000}"), check_files=True)
    assert "is missing" in mistake.message


def test_a_glob_below_a_folder_whose_name_looks_like_one(tmp_path: Path) -> None:
    folder = tmp_path / "run[1]"
    touch(folder, "a.json", "part.2.parquet", "part.10.parquet", "fixed[0].parquet")
    glob_path = load_data_yaml(write(folder, IMAGES.format("part.*"))).datasets[0].images_path
    assert [p.name for p in list_image_files(glob_path or "")] == [
        "part.2.parquet",
        "part.10.parquet",
    ]
    whole = load_data_yaml(write(folder, IMAGES.format("part.2.parquet"))).datasets[0].images_path
    assert list_image_files(whole or "") == [folder / "part.2.parquet"]


def test_a_folder_lists_its_own_parts_in_natural_order(tmp_path: Path) -> None:
    names = [f"part.{n}.parquet" for n in (10, 2, 1, 0, 100)]
    touch(tmp_path, *names, "UPPER.parquet", "sub/part.3.parquet")
    touch(tmp_path, "_metadata", "_common_metadata", ".part.0.parquet.crc", "part.0.parquet.crc")
    touch(tmp_path, "_temporary.parquet", ".hidden.parquet", "readme.txt")
    (tmp_path / "folder.parquet").mkdir()
    assert [p.name for p in list_image_files(str(tmp_path))] == [
        "UPPER.parquet",
        *(f"part.{n}.parquet" for n in (0, 1, 2, 10, 100)),
    ]


def test_a_glob_takes_files_and_the_parts_of_folders(tmp_path: Path) -> None:
    touch(tmp_path, "b/part.10.parquet", "b/part.2.parquet", "b/readme.txt", "a.parquet", "c.crc")
    found = [str(p.relative_to(tmp_path)) for p in list_image_files(f"{tmp_path}/*")]
    assert found == ["a.parquet", "b/part.2.parquet", "b/part.10.parquet"]
    found = [str(p.relative_to(tmp_path)) for p in list_image_files(f"{tmp_path}/**/*.parquet")]
    assert found == ["a.parquet", "b/part.2.parquet", "b/part.10.parquet"]


def test_numbers_that_are_equal_still_have_an_order(tmp_path: Path) -> None:
    touch(tmp_path, "p1.parquet", "p01.parquet", "p001.parquet")
    assert [p.name for p in list_image_files(str(tmp_path))] == [
        "p001.parquet",
        "p01.parquet",
        "p1.parquet",
    ]


@pytest.mark.parametrize("name", ["missing.parquet", "missing/*", "missing/**"])
def test_nothing_there_is_an_empty_list(tmp_path: Path, name: str) -> None:
    assert list_image_files(str(tmp_path / name)) == []


def test_a_file_is_itself_whatever_its_name(tmp_path: Path) -> None:
    touch(tmp_path, "_x[1]", "x.json")
    assert list_image_files(str(tmp_path / "_x[1]")) == [tmp_path / "_x[1]"]
    assert list_image_files(str(tmp_path / "x.json")) == [tmp_path / "x.json"]


def test_the_example_and_the_docs_name_every_field_and_group() -> None:
    root = Path(__file__).parents[1]
    example = root / "config/data.example.yaml"
    read = load_data_yaml(example, check_files=False)
    assert {d.group for d in read.datasets} == set(Group)
    for text in (example.read_text("utf-8"), (root / "docs/data-yaml.md").read_text("utf-8")):
        for name in (*FIELDS, *GROUPS):
            assert name in text


LOADERS = pytest.mark.parametrize(
    "loader",
    [pytest.param(walk._LOADER, id="built"), pytest.param(yaml.SafeLoader, id="python")],
)
many = settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def outcome(path: Path, data: bytes, loader: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(walk, "_LOADER", loader)
    path.write_bytes(data)
    for check_files in (False, True):
        try:
            read = load_data_yaml(path, check_files=check_files)
            json.dumps(read.meaning())
            mistakes: tuple[Mistake, ...] = ()
        except DataYamlError as error:
            mistakes = error.mistakes
            read = None
        assert bool(read and read.datasets) != bool(mistakes)
        assert all(m.line >= 1 and m.message for m in mistakes)


PIECES = [": ", ":\n ", "-", "{", "}", "[", "]", ",", "&a", "*a", "<<:", "?", "|\n", "!!int", '"']
PIECES += ["'", "\\", r"\ud800", r"\UFFFFFFFF", "0x_", "1", "-1", "#", "\n---\n", "\n...\n", "\n"]
PIECES += ["%TAG ! ", "%YAML 1.1", "a.json", "**", "é", " ", "\t", "\x00", "\u2028"]
pieces = st.sampled_from([*GROUPS, *FIELDS, *PIECES])


@LOADERS
@given(data=st.binary() | st.text().map(lambda t: t.encode("utf-8", "surrogatepass")))
@many
def test_any_text_gives_datasets_or_mistakes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, loader: Any, data: bytes
) -> None:
    outcome(tmp_path / "any.yaml", data, loader, monkeypatch)


@LOADERS
@given(parts=st.lists(pieces, max_size=40))
@many
def test_any_yaml_like_text_gives_datasets_or_mistakes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, loader: Any, parts: list[str]
) -> None:
    outcome(tmp_path / "any.yaml", " ".join(parts).encode(), loader, monkeypatch)


scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.dates()
values = st.recursive(
    scalars, lambda inner: st.lists(inner) | st.dictionaries(scalars, inner), max_leaves=5
)
datasets = st.dictionaries(st.sampled_from(FIELDS) | st.text(), values)
groups = st.dictionaries(st.text() | st.integers(), datasets | values)


@LOADERS
@given(structure=st.dictionaries(st.sampled_from(GROUPS) | st.text(), groups | values) | values)
@many
def test_any_structure_gives_datasets_or_mistakes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, loader: Any, structure: Any
) -> None:
    text = yaml.safe_dump(structure, allow_unicode=True)
    outcome(tmp_path / "any.yaml", text.encode("utf-8", "surrogatepass"), loader, monkeypatch)
