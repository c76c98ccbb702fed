"""mimicit check --suggest: rules for releases whose image ids are not the keys, and none else."""

from collections.abc import Sequence
from pathlib import Path

import pytest
import yaml
from check_packs import Dataset, Pack, Source, encode, run_check
from hypothesis import given
from hypothesis import strategies as st
from packs import record

from app.check.candidates import derive_rules
from app.check.report import Suggestion
from app.check.suggest import write_yaml
from app.key_rules import KeyRule, KeyRules

pytestmark = pytest.mark.slow

PICTURE = encode(b"picture")


def write_pack(folder: Path, ids: Sequence[str], keys: Sequence[str]) -> Path:
    source = Source("I.parquet", [(key, PICTURE) for key in keys])
    records = [(f"I{number}", record("q", id)) for number, id in enumerate(ids)]
    return Pack([Dataset("SET", records, source)]).write(folder)


def suggest(folder: Path, ids: Sequence[str], keys: Sequence[str]) -> Suggestion | None:
    found = run_check(write_pack(folder, ids, keys), folder / "c", suggest=True).suggestions
    assert found is not None
    return found[0] if found else None


def numbers(count: int) -> list[int]:
    return [number * 7919 % 600_000 for number in range(1, count + 1)]


def scenes(pattern: str) -> list[str]:
    return [pattern.format(s, f * 100) for s in range(30) for f in range(10)]


def clips(pattern: str) -> list[str]:
    return [
        pattern.format(show=show, clip=f"s{s:02}e{e:02}_seg02_clip_{c:02}", frame=f"{f:05}")
        for show in ("castle", "bbt", "friends")
        for s, e, c in ((1, 1, 0), (7, 9, 2), (10, 3, 11))
        for f in (3, 9, 120)
    ]


RELEASES = {
    # Otter's issue 172: TV captions, the clip named twice, and without the show the first time
    "repeated": (
        clips("TVC_IMG_{show}_{clip}_{show}_{clip}_{frame}"),
        clips("TVC_IMG_{show}_{clip}_{frame}"),
    ),
    "repeated-less": (
        clips("TVC_IMG_{clip}_{show}_{clip}_{frame}"),
        clips("TVC_IMG_{clip}_{frame}"),
    ),
    # its issue 228: ScanNet, without the number of the scan
    "inserted": (
        scenes("SN_IMG_scene{:04}_color_{:06}"),
        scenes("SN_IMG_scene{:04}_00_color_{:06}"),
    ),
    "infix": (
        [f"LACR_T2T_IMG_{n:012}" for n in numbers(80)],
        [f"LA_IMG_{n:012}" for n in numbers(99)],
    ),
    "coco": ([f"{n:012}.jpg" for n in numbers(80)], [f"LA_IMG_{n:012}" for n in numbers(99)]),
    "folder": (
        [f"coco/train2017/{n:012}.jpg" for n in numbers(80)],
        [f"{n:012}" for n in numbers(99)],
    ),
    "folders": ([f"a{n % 7}/b{n % 3}/x{n}" for n in numbers(80)], [f"x{n}" for n in numbers(99)]),
    "prefix": ([f"{n:012x}" for n in numbers(80)], [f"X_{n:012x}" for n in numbers(99)]),
    "no-prefix": ([f"X_{n:012x}" for n in numbers(80)], [f"{n:012x}" for n in numbers(99)]),
    "suffix": ([f"p{n}" for n in numbers(80)], [f"p{n}.png" for n in numbers(99)]),
    "extension": (
        [f"p{n}.{('jpg', 'PNG')[n % 2]}" for n in numbers(80)],
        [f"p{n}.webp" for n in numbers(99)],
    ),
    "padded": ([f"p_{n}" for n in numbers(80)], [f"p_{n:012}" for n in numbers(99)]),
    "padded-less": ([f"p_{n:09}" for n in numbers(80)], [f"p_{n:06}" for n in numbers(99)]),
    "not-padded": ([f"p_{n:09}.jpg" for n in numbers(80)], [f"p_{n}" for n in numbers(99)]),
    "padded-coco": ([f"{n}.jpg" for n in numbers(80)], [f"LA_IMG_{n:012}" for n in numbers(99)]),
    "case": ([f"la_img_{n}" for n in numbers(80)], [f"LA_IMG_{n}" for n in numbers(99)]),
    "quotes": ([f"it's {n}\\" for n in numbers(80)], [f"\\1 'it' {n}" for n in numbers(99)]),
}


@pytest.mark.parametrize("which", RELEASES)
def test_what_is_suggested_resolves_every_id(which: str, tmp_path: Path) -> None:
    ids, keys = RELEASES[which]
    assert not set(ids) & set(keys)
    found = suggest(tmp_path, ids, keys)
    assert found is not None
    assert (found.named, found.missing_before, found.missing_after) == (len(ids), len(ids), 0)
    rules = KeyRules(tuple(KeyRule(one.pattern, one.replace) for one in found.rules))
    assert {rules.apply(id) for id in ids} <= set(keys)
    # What is to be pasted does what was said.
    data = tmp_path / "data.yaml"
    loaded = yaml.safe_load(data.read_text())
    loaded["IMAGE_TEXT"]["SET"] |= yaml.safe_load(found.yaml)
    data.write_text(yaml.safe_dump(loaded))
    report = run_check(data, tmp_path / "c", suggest=True)
    assert report.datasets[0].usable == len(ids)
    assert report.suggestions == []


def test_ids_that_resolve_stay_as_they_are(tmp_path: Path) -> None:
    """Half have the prefix already; and a rule that would make good ids other good ids is none."""
    good = [f"X_{n}" for n in numbers(40)]
    found = suggest(
        tmp_path, [*good, *(f"{n}" for n in numbers(80)[40:])], [f"X_{n}" for n in numbers(99)]
    )
    assert found is not None
    assert (found.missing_before, found.missing_after) == (40, 0)
    rules = KeyRules(tuple(KeyRule(one.pattern, one.replace) for one in found.rules))
    assert [rules.apply(id) for id in good] == good


def test_several_makes_of_ids_take_several_rounds(tmp_path: Path) -> None:
    ids = [f"{n}.jpg" for n in numbers(50)] + [f"old/{n}" for n in numbers(80)[50:]]
    found = suggest(tmp_path, ids, [f"{n}" for n in numbers(99)])
    assert found is not None
    assert found.missing_after == 0
    assert len(found.rules) == 2


def test_some_of_the_missing_are_really_missing(tmp_path: Path) -> None:
    ids = [f"{n}.jpg" for n in numbers(80)]
    found = suggest(tmp_path, ids, [f"{n}" for n in numbers(60)])
    assert found is not None
    assert (found.missing_before, found.missing_after) == (80, 20)


def test_rules_come_behind_those_that_are_there(tmp_path: Path) -> None:
    data = write_pack(tmp_path, [f"{n}.jpg" for n in numbers(30)], [f"X_{n}" for n in numbers(30)])
    loaded = yaml.safe_load(data.read_text())
    loaded["IMAGE_TEXT"]["SET"]["key_rules"] = [{"pattern": r"\.jpg$", "replace": ""}]
    data.write_text(yaml.safe_dump(loaded))
    (found,) = run_check(data, tmp_path / "c", suggest=True).suggestions or []
    assert [one.pattern for one in found.rules] == ["^"]
    written = yaml.safe_load(found.yaml)["key_rules"]
    assert written == [
        {"pattern": r"\.jpg$", "replace": ""},
        {"pattern": "^", "replace": "X_"},
    ]


@pytest.mark.parametrize(
    ("ids", "keys"),
    [
        (["k1", "k2"], ["k1", "k2"]),
        (["apple", "pear"], ["x", "y"]),
        ([f"a{n}" for n in range(50)], [f"b{n + 1000}" for n in range(50)]),
        ([f"k{n}" for n in range(50)] + ["gone"], [f"k{n}" for n in range(50)]),
        (["", "x" * 2000, "é" * 700, "9" * 5000], ["k", "x" * 900]),
    ],
)
def test_nothing_is_suggested_where_nothing_helps(
    ids: list[str], keys: list[str], tmp_path: Path
) -> None:
    assert suggest(tmp_path, ids, keys) is None


names = st.text(st.sampled_from("ab01_./-") | st.characters(codec="utf-8"), max_size=20)


@given(names, names)
def test_candidates_make_the_id_the_key(image_id: str, key: str) -> None:
    for rules in derive_rules(image_id, key):
        assert KeyRules(rules).apply(image_id) == key


@given(st.lists(st.builds(KeyRule, st.text(min_size=1), st.text()), min_size=1, max_size=3))
def test_what_is_written_is_read_as_it_was(rules: list[KeyRule]) -> None:
    read = yaml.safe_load(write_yaml(rules))["key_rules"]
    assert [(one["pattern"], one["replace"]) for one in read] == [
        (rule.pattern, rule.replace) for rule in rules
    ]
