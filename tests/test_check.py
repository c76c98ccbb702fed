"""mimicit check: every problem found, counted and named, by what plain Python finds as well."""

import json
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from check_packs import Dataset, Pack, Source, Values, counts_of, encode, find_in_pack, run_check
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from packs import SHARED_PACK, find_pack, record

from app.catalog.catalog import Catalog
from app.catalog.questions import Questions
from app.check.findings import list_searches
from app.check.kinds import ERRORS, KINDS, Severity, parse_fail_on
from app.check.report import Problem, Report
from app.histogram import choose_edges, make_histogram

pytestmark = pytest.mark.slow

PICTURE = encode(b"\xff\xd8\xff picture")
OTHER = encode(b"\xff\xd8\xff another")
URL_SAFE = encode(b"\xff\xd8\xff picture").replace("/", "_").replace("+", "-").rstrip("=")


def planted() -> Pack:
    """Every kind that needs no decoding, each in a number of its own where it can be."""
    images: Any = [(f"k{number}", encode(b"%d" % number)) for number in range(20)]
    images += [("null", None)] * 1 + [("empty", ""), ("empty2", "")]
    images += [(f"text{number}", "no base64!") for number in range(3)]
    images += [(f"large{number}", "A" * 200_004) for number in range(2)]
    images += [("k0", encode(b"0")), ("k1", encode(b"1")), ("k2", encode(b"2"))]  # the same
    images += [("k3", PICTURE), ("k4", PICTURE)]  # others
    images += [("x" * 1001, PICTURE)] + [("", PICTURE)] * 2 + [(None, PICTURE)]
    a = Source("A.parquet", images)
    b = Source(
        "B.json",
        [("k5", encode(b"5")), ("k6", PICTURE), ("k7", URL_SAFE), ("u", PICTURE), ("u", OTHER)],
    )
    c = Source("C.parquet", [("k7", PICTURE), ("same", PICTURE), ("c", OTHER)])
    b.values.append(("same", URL_SAFE))
    good = [(f"A{number}", record("q", f"k{number}")) for number in range(10)]
    in_a: Any = [
        *good,
        ("A0", record("again", "k0")),
        ("missing", record("q", "no", "neither", "k1")),
        ("unreadable", record("q", "null", "empty", "text0", "large0")),
        ("dangling", record("q", rel_ins_ids=["A1", "gone", "away"])),
        ("self", record("q", rel_ins_ids=["self", "A1", "self"])),
        ("blank", record("q", answer=" \n\t")),
        ("void", record("", answer="", image_ids=None)),
        ("no object", [1]),
        ("no answer", {"instruction": "q"}),
        ("no ids", record("q", image_ids=[1])),
        ("x" * 1001, record("q")),
    ]
    in_b: Any = [("A1", record("q", "k5")), ("B", record("q", "u", "k6", "k7", "same"))]
    train: Any = [("B", ["A1"]), ("nobody", []), ("odd", "text"), ("A1", []), ("A1", ["gone"])]
    return Pack(
        [
            Dataset("A", in_a, a),
            Dataset("B", in_b, b, train),
            Dataset("C", [("C", record("q", "c"))], c),
            Dataset("T", [("T", record("q")), ("B", record("q"))], None),
        ]
    )


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Report:
    folder = tmp_path_factory.mktemp("planted")
    return run_check(planted().write(folder), folder / "c", examples=3)


def problem(report: Report, kind: str) -> Problem:
    return next(one for one in report.problems if one.kind == kind)


def test_every_planted_problem_is_counted(report: Report) -> None:
    found, usable = find_in_pack(planted())
    assert counts_of(report) == found
    assert {one.name: one.usable for one in report.datasets} == usable
    assert KINDS.keys() - found.keys() == {"undecodable_picture", "large_picture"}


def test_the_numbers_that_were_planted(report: Report) -> None:
    """The oracle itself, by hand."""
    expected = {
        "missing_image": 2,
        "unreadable_image": 4,
        "null_image": 1,
        "empty_image": 2,
        "undecodable_image": 3,
        "large_image": 2,
        "conflicting_image": 3,
        "unnamed_image": 3,
        "long_key": 1,
        "invalid_record": 4,
        "duplicate_instruction": 1,
        "invalid_train_config": 1,
        "duplicate_train_id": 1,
        "unknown_train_id": 1,
        "dangling_context": 3,
        "self_context": 2,
        "empty_answer": 2,
        "empty_instruction": 1,
        "shared_instruction": 2,
        "ambiguous_image": 2,
        "shared_image": 2,
        "duplicate_image": 3,
        "unused_image": 16,
    }
    found = counts_of(report)
    assert found == expected
    assert list(found) == [kind for kind in KINDS if kind in found]  # the worst first


@pytest.mark.parametrize(
    ("kind", "dataset", "examples"),
    [
        ("missing_image", "A", [("missing", "no"), ("missing", "neither")]),
        ("null_image", "A", [("null", "its value is null")]),
        ("self_context", "A", [("self", "self"), ("self", "self")]),
        ("empty_answer", "A", [("blank", ""), ("void", "")]),
        ("empty_instruction", "A", [("void", "")]),
        ("unknown_train_id", "B", [("nobody", "")]),
        ("shared_instruction", None, [("A1", "A, B"), ("B", "B, T")]),
        ("ambiguous_image", None, [("k6", "A, B"), ("k7", "A, C and 1 more")]),
        ("shared_image", None, [("k5", "A, B"), ("same", "B, C")]),
        ("unused_image", "A", [("empty2", ""), ("k10", ""), ("k11", "")]),
    ],
)
def test_examples_name_what_it_is_of(
    report: Report, kind: str, dataset: str | None, examples: list[tuple[str, str]]
) -> None:
    found = problem(report, kind)
    assert [(one.name, one.detail) for one in found.examples] == examples
    assert {one.dataset for one in found.examples} == {dataset}


def test_problems_say_where_they_are(report: Report) -> None:
    where = problem(report, "unused_image").where
    assert [(share.datasets, Path(share.path or "").name, share.count) for share in where] == [
        (["A"], "A.parquet", 14),
        (["C"], "C.parquet", 2),
    ]
    assert problem(report, "shared_image").where[0].path is None
    assert all(sum(s.count for s in one.where) == one.count for one in report.problems)
    in_b = next(one for one in report.datasets if one.name == "B")
    assert in_b.problems == {
        "conflicting_image": 1,
        "invalid_train_config": 1,
        "duplicate_train_id": 1,
        "unknown_train_id": 1,
        "dangling_context": 1,
    }


def test_examples_are_bounded(tmp_path: Path) -> None:
    data = planted().write(tmp_path)
    for bound in (0, 2):
        report = run_check(data, tmp_path / "c", examples=bound)
        counts = find_in_pack(planted())[0]
        assert counts_of(report) == counts
        assert all(len(one.examples) == min(bound, one.count) for one in report.problems)


def test_every_question_has_pages(tmp_path: Path) -> None:
    """As the explorer asks: pages that follow each other are the whole answer, in its order."""
    run_check(planted().write(tmp_path), tmp_path / "c")
    catalog = Catalog(tmp_path / "c", max_open_files=1, page_cache_bytes=0, duckdb_memory_bytes=1)
    with closing(catalog), Questions(1 << 28, threads=2) as questions:
        seen = set()
        for search in list_searches(catalog):
            whole = questions.list_rows(search.question, 0, 1000)
            assert len(whole) == questions.count(search.question)
            assert search.known in (None, len(whole))
            for first in range(0, len(whole), 2):
                assert questions.list_rows(search.question, first, 2) == whole[first : first + 2]
            seen |= {search.kind} if whole else set()
    across = {"shared_image", "ambiguous_image"}
    assert seen | across == find_in_pack(planted())[0].keys()


def test_datasets_that_share_files_have_problems_once(tmp_path: Path) -> None:
    source = Source("I.parquet", [("k", PICTURE), ("n", None), ("unused", PICTURE)])
    records = [("I", record("", "k", "n", "gone"))]
    write = Pack([Dataset("A", records, source), Dataset("B", [("J", record("q", "k"))], source)])
    data = write.write(tmp_path)
    more = json.loads(data.read_text())
    more["IMAGE_TEXT"]["C"] = more["IMAGE_TEXT"]["A"] | {"num_samples": 7}
    more["IMAGE_TEXT"]["D"] = more["IMAGE_TEXT"]["A"] | {
        "key_rules": [{"pattern": "gone", "replace": "k"}]
    }
    data.write_text(json.dumps(more))
    report = run_check(data, tmp_path / "c")
    assert counts_of(report) == {
        "missing_image": 1,  # of A and C
        "unreadable_image": 2,  # of A and C, and of D
        "null_image": 1,
        "empty_instruction": 2,  # a file is read once for each set of rules
        "unused_image": 1,
    }
    assert problem(report, "missing_image").where[0].datasets == ["A", "C"]
    assert problem(report, "null_image").where[0].datasets == ["A", "B", "C", "D"]


@pytest.mark.parametrize("which", ["shared", "twin"])
def test_a_real_pack_is_clean_but_for_what_is_there(which: str, tmp_path: Path) -> None:
    data = find_pack(which, tmp_path, images=30, seed=3)
    report = run_check(data, tmp_path / "c", decode=True, suggest=True)
    folder = data.parent / "images"
    if which == "shared":
        frame = pd.read_parquet(folder / "WH.parquet")
        legacy = json.loads((folder / "WH.json").read_text())
    else:
        frame = pd.read_parquet(folder / "SHAPES.parquet")
        legacy = json.loads((folder / "SHAPES.json").read_text())
    same = sum(legacy[key] == value for key, value in frame["base64"].items() if key in legacy)
    assert same == len(legacy) > 0
    assert counts_of(report) == {"shared_image": same}
    assert report.decoded == sum(one.images for one in report.sources)
    assert report.suggestions == []
    for one in report.sources:
        assert set(one.readers) == {"in_place"}
        assert all(0 < (file.lookup_us or 0) < 100_000 for file in one.files)


def test_the_histograms_of_the_shared_pack(tmp_path: Path) -> None:
    report = run_check(find_pack("shared", tmp_path, 1, 1), tmp_path / "c")
    of_file = {}
    for one in report.datasets:
        records = json.loads(Path(one.path).read_text())["data"].values()
        of_file[one.name] = len(records)
        assert_histogram(one.answer_chars, [len(record["answer"]) for record in records])
        images = [len(record["image_ids"]) for record in records]
        assert_histogram(one.images_per_sample, images)
    assert of_file == {one.name: one.instructions for one in report.datasets}
    anth = next(one for one in report.sources if "ANTH" in one.datasets)
    parts = (SHARED_PACK.parent / "images" / "ANTH.parquet").glob("*.parquet")
    lengths = [len(value) for part in parts for value in pd.read_parquet(part)["base64"]]
    assert_histogram(anth.image_bytes, lengths)
    assert anth.stored_bytes == sum(lengths)


def assert_histogram(found: Any, values: list[int]) -> None:
    assert (found.total, found.least, found.greatest) == (len(values), min(values), max(values))
    assert found.median == sorted(values)[(len(values) - 1) // 2]
    assert found.mean == pytest.approx(sum(values) / len(values), abs=1e-3)
    counts, _ = np.histogram(values, found.edges)
    assert found.counts == counts.tolist()
    assert sum(found.counts) == len(values)


@given(st.lists(st.integers(0, 10**9) | st.integers(0, 50), min_size=1, max_size=50))
def test_histograms_hold_every_value(values: list[int]) -> None:
    distinct, counts = np.unique(np.array(values, np.int64), return_counts=True)
    found = make_histogram(distinct, counts.astype(np.int64))
    assert found.edges == sorted(set(found.edges))
    assert len(found.edges) == len(found.counts) + 1 <= 45
    assert sum(found.counts) == found.total == len(values)
    assert found.edges[0] <= min(values)
    assert max(values) < found.edges[-1]
    for low, high, count in zip(found.edges, found.edges[1:], found.counts, strict=False):
        assert count == sum(low <= value < high for value in values)


def test_skewed_values_have_bins_by_ratio() -> None:
    assert choose_edges(0, 3) == [0, 1, 2, 3, 4]
    assert choose_edges(50_000, 100_000) == list(range(50_000, 110_000, 5_000))
    assert choose_edges(1, 10**6)[:6] == [1, 2, 5, 10, 20, 50]


keys = st.sampled_from(["a", "b", "c", "d"])
image_keys: st.SearchStrategy[str | None] = st.sampled_from(["a", "b", "c", "d"])
stored = st.sampled_from([PICTURE, OTHER, URL_SAFE, "", None, "no!", "QUI=", "QUI"])
texts = st.sampled_from(["", " ", "text"])
records = st.one_of(
    st.just(5),
    st.fixed_dictionaries(
        {"instruction": texts, "answer": texts},
        optional={
            "image_ids": st.none() | st.lists(keys, max_size=3),
            "rel_ins_ids": st.lists(keys, max_size=3) | st.just("a"),
        },
    ),
)


@st.composite
def packs(draw: st.DrawFn) -> Pack:
    # A column of nothing but nulls is no text.
    first: Values = [("x", OTHER)]
    pairs = st.lists(st.tuples(image_keys, stored), max_size=6).map(lambda some: first + list(some))
    sources = [
        Source("A.parquet", draw(pairs)),
        Source("B.json", draw(pairs)),
        Source("C.parquet", draw(pairs)),
    ]
    trains = st.none() | st.dictionaries(keys, st.lists(keys, max_size=2) | st.just(3)).map(
        lambda train: list(train.items())
    )
    return Pack(
        [
            Dataset(
                f"D{number}",
                draw(st.lists(st.tuples(keys, records), min_size=1, max_size=5)),
                draw(st.sampled_from([*sources, None])),
                draw(trains),
            )
            for number in range(draw(st.integers(1, 3)))
        ]
    )


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(packs())
def test_random_packs_have_what_plain_python_finds(
    tmp_path_factory: pytest.TempPathFactory, pack: Pack
) -> None:
    folder = tmp_path_factory.mktemp("random")
    report = run_check(pack.write(folder), folder / "c")
    found, usable = find_in_pack(pack)
    assert counts_of(report) == found
    assert {one.name: one.usable for one in report.datasets} == usable


def test_which_kinds_fail_on() -> None:
    assert parse_fail_on(["errors"]) == ERRORS
    assert parse_fail_on(["any"]) == KINDS.keys()
    assert parse_fail_on(["none"]) == frozenset()
    assert parse_fail_on(["null_image, long_key", "unused_image"]) == {
        "null_image",
        "long_key",
        "unused_image",
    }
    assert {kind.severity for kind in KINDS.values()} == set(Severity)
    with pytest.raises(ValueError, match="'nul_image' is no kind") as caught:
        parse_fail_on(["nul_image"])
    assert all(kind in str(caught.value) for kind in KINDS)
