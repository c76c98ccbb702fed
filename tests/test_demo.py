"""The demo's files against pandas and Dask themselves, and its answers against its scenes."""

import base64
import io
import json
import re
from collections import Counter
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

import dask.dataframe as dd
import pandas as pd
import pyarrow.parquet as pq
import pytest
import yaml
from PIL import Image

from app.demo import write_demo
from app.demo.pictures import COLOURS, KINDS, Scene, draw_scene, encode_picture, get_scene
from app.demo.sources import write_pandas_file
from app.demo.texts import ask_about, ask_for_sum
from app.demo.write import Plan

Records = dict[str, dict[str, Any]]

SIZES = [1, 7, 120]

# Dask 2026.8 calls what pandas 3.1 deprecates.
pytestmark = pytest.mark.filterwarnings(
    "ignore:The inplace keyword in DataFrame:pandas.errors.Pandas4Warning"
)


@pytest.fixture(scope="module", params=SIZES)
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_demo(tmp_path_factory.mktemp("demo") / "it", images=request.param).parent


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_demo(tmp_path_factory.mktemp("demo") / "it", images=120).parent


def load_datasets(folder: Path) -> dict[str, dict[str, Any]]:
    groups = yaml.safe_load((folder / "data.yaml").read_text())
    return {name: fields for group in groups.values() for name, fields in group.items()}


def load_records(folder: Path, dataset: dict[str, Any]) -> Records:
    whole = json.loads((folder / dataset["mimicit_path"]).read_text())
    assert list(whole) == ["meta", "data"]
    records: Records = whole["data"]
    return records


def load_images(folder: Path, path: str) -> dict[str, str]:
    """What people who use pandas, Dask or json see."""
    source = folder / path
    if source.suffix == ".json":
        legacy: dict[str, str] = json.loads(source.read_text())
        return legacy
    frame = dd.read_parquet(source).compute() if source.is_dir() else pd.read_parquet(source)
    assert list(frame.columns) == ["base64"]
    assert frame.index.is_unique
    return {str(key): str(value) for key, value in frame["base64"].items()}


def test_every_form_of_source_is_named(folder: Path) -> None:
    groups = yaml.safe_load((folder / "data.yaml").read_text())
    assert {group: list(datasets) for group, datasets in groups.items()} == {
        "IMAGE_TEXT": ["SHAPES", "SCENES", "SHAPES_LEGACY"],
        "TEXT_ONLY": ["ARITHMETIC"],
        "IMAGE_TEXT_IN_CONTEXT": ["SCENES_IC", "COUNTING"],
    }


def test_nothing_dangles(folder: Path) -> None:
    for name, dataset in load_datasets(folder).items():
        records = load_records(folder, dataset)
        assert records
        images = load_images(folder, dataset["images_path"]) if name != "ARITHMETIC" else {}
        for record in records.values():
            assert list(record) == ["instruction", "answer", "image_ids", "rel_ins_ids"]
            assert set(record["image_ids"]) <= set(images)
            assert set(record["rel_ins_ids"]) <= set(records)
            assert bool(record["image_ids"]) == (name != "ARITHMETIC")
        if "train_config_path" in dataset:
            train = json.loads((folder / dataset["train_config_path"]).read_text())
            assert train
            assert len(train) < len(records)
            assert all({id, *context} <= set(records) for id, context in train.items())
            assert all(context and id not in context for id, context in train.items())


def test_ids_and_keys_are_unique_but_for_the_legacy_copy(folder: Path) -> None:
    datasets = load_datasets(folder)
    ids = [id for dataset in datasets.values() for id in load_records(folder, dataset)]
    assert len(set(ids)) == len(ids)
    shapes = load_images(folder, "images/SHAPES.parquet")
    assert load_images(folder, "images/SHAPES.json").items() <= shapes.items()
    assert not shapes.keys() & load_images(folder, "images/SCENES.parquet").keys()


def test_num_samples_is_below_all_and_above(folder: Path) -> None:
    datasets = load_datasets(folder)
    sizes = {name: len(load_records(folder, dataset)) for name, dataset in datasets.items()}
    assert datasets["SHAPES"]["num_samples"] == -1
    assert 0 < datasets["SCENES"]["num_samples"] < sizes["SCENES"]
    assert datasets["ARITHMETIC"]["num_samples"] > sizes["ARITHMETIC"]


def test_in_context_instructions_have_several_images_and_a_context(folder: Path) -> None:
    records = load_records(folder, load_datasets(folder)["SCENES_IC"])
    assert all(len(record["image_ids"]) > 1 for record in records.values())
    asked = {id: r["rel_ins_ids"] for id, r in records.items() if r["rel_ins_ids"]}
    assert all(id not in context for id, context in asked.items())
    assert len(asked) * 3 == len(records)


def test_every_image_shows_its_scene(folder: Path) -> None:
    images = load_images(folder, "images/SHAPES.parquet")
    images |= load_images(folder, "images/SCENES.parquet")
    for key, value in images.items():
        scene = scene_of(key)
        picture = Image.open(io.BytesIO(base64.b64decode(value, validate=True)))
        picture.load()
        assert picture.format == scene.format
        assert picture.size == (scene.width_pixels, scene.height_pixels)
        assert 160 <= min(picture.size) <= max(picture.size) <= 480


@pytest.mark.parametrize(("asked", "written"), [(1, 4), (4, 4), (7, 7), (120, 120)])
def test_images_counts_pictures_of_all_sources(tmp_path: Path, asked: int, written: int) -> None:
    calls: list[tuple[int, int]] = []
    write_demo(tmp_path / "demo", images=asked, progress=lambda *call: calls.append(call))
    shapes = load_images(tmp_path / "demo", "images/SHAPES.parquet")
    scenes = load_images(tmp_path / "demo", "images/SCENES.parquet")
    assert len(shapes) + len(scenes) == written
    assert calls == [(done, written) for done in range(1, written + 1)]


def test_same_number_and_seed_give_the_same_bytes(tmp_path: Path) -> None:
    def read(name: str, seed: int) -> dict[str, bytes]:
        folder = write_demo(tmp_path / name, images=30, seed=seed).parent
        files = (path for path in folder.rglob("*") if path.is_file())
        return {str(path.relative_to(folder)): path.read_bytes() for path in files}

    first = read("first", 3)
    assert read("again", 3) == first
    other = read("other", 4)
    assert other.keys() == first.keys()
    assert all(other[name] != first[name] for name in first if name != "json/COUNTING_train.json")


@pytest.mark.parametrize("images", [1, 120, 20_000, 30_000_000])
def test_memory_is_bounded_for_any_number(images: int) -> None:
    plan = Plan.of(images, seed=0)
    assert 2 <= plan.shapes <= 2_000
    assert 1 <= plan.legacy <= min(plan.shapes, 500)
    assert 1 <= plan.part_images <= 1_000
    assert plan.shapes + plan.scenes == max(images, 4)
    last = 2 * plan.scenes - 1
    assert plan.name("K", 0) < plan.name("K", last // 2) < plan.name("K", last)


# Layout


def write_with_pandas(images: dict[str, str], path: Path) -> None:
    pd.DataFrame({"base64": images.values()}, index=list(images)).to_parquet(path)


def describe(path: Path) -> dict[str, Any]:
    """Everything a footer says, but for the version of pandas, which is not there to be asked."""
    file = pq.ParquetFile(path)
    whole = file.metadata.to_dict()
    del whole["serialized_size"]
    metadata = dict(file.metadata.metadata)
    pandas = json.loads(metadata.pop(b"pandas"))
    del pandas["pandas_version"]
    metadata.pop(b"ARROW:schema")
    return {
        "footer": whole,
        "schema": file.schema_arrow.remove_metadata(),
        "pandas": pandas,
        "pandas order": list(pandas),
        "metadata": metadata,
    }


def read_pages(path: Path) -> bytes:
    """The bytes of the file before its footer."""
    whole = path.read_bytes()
    return whole[: -8 - int.from_bytes(whole[-8:-4], "little")]


def assert_same_layout(ours: Path, theirs: Path) -> None:
    assert describe(ours) == describe(theirs)
    assert read_pages(ours) == read_pages(theirs)


def test_the_pandas_file_is_what_pandas_writes(folder: Path, tmp_path: Path) -> None:
    ours = folder / "images/SHAPES.parquet"
    write_with_pandas(load_images(folder, "images/SHAPES.parquet"), tmp_path / "theirs.parquet")
    assert_same_layout(ours, tmp_path / "theirs.parquet")
    chunk = pq.ParquetFile(ours).metadata.row_group(0).column(0)
    assert (chunk.path_in_schema, chunk.compression) == ("base64", "SNAPPY")
    assert chunk.has_dictionary_page
    assert pq.ParquetFile(ours).num_row_groups == 1


def test_a_pandas_file_of_more_than_a_dictionary_page_is_what_pandas_writes(tmp_path: Path) -> None:
    """From row 1,025 on the values lie in PLAIN pages; a demo has that from 2,561 images on."""
    chance = Random(0)
    images = {f"K{n}": base64.b64encode(chance.randbytes(1200)).decode() for n in range(1500)}
    write_pandas_file(tmp_path / "ours.parquet", images)
    write_with_pandas(images, tmp_path / "theirs.parquet")
    assert_same_layout(tmp_path / "ours.parquet", tmp_path / "theirs.parquet")


def test_the_dask_folder_is_what_dask_writes(folder: Path, tmp_path: Path) -> None:
    ours = folder / "images/SCENES.parquet"
    images = load_images(folder, "images/SCENES.parquet")
    frame = pd.DataFrame({"base64": images.values()}, index=list(images))
    first_part = pq.ParquetFile(ours / "part.0.parquet").metadata.num_rows
    written = dd.from_pandas(frame, chunksize=first_part)  # type: ignore[no-untyped-call]
    written.to_parquet(tmp_path / "theirs")
    parts = sorted(path.name for path in ours.iterdir())
    assert parts == sorted(path.name for path in (tmp_path / "theirs").iterdir())
    for part in parts:
        assert_same_layout(ours / part, tmp_path / "theirs" / part)


def test_order_is_of_insertion_in_the_pandas_file_and_of_keys_in_the_dask_folder(
    full: Path,
) -> None:
    inserted = list(load_images(full, "images/SHAPES.parquet"))
    assert inserted != sorted(inserted)
    parts = full / "images/SCENES.parquet"
    assert (parts / "part.10.parquet").exists()
    keys = [
        key
        for number in range(len(list(parts.iterdir())))
        for key in pd.read_parquet(parts / f"part.{number}.parquet").index
    ]
    assert keys == sorted(keys)


# Truth

COLOUR = f"({'|'.join(COLOURS)})"
KIND = f"({'|'.join(KINDS)}|shape)(?:es|s)?"
PLACE = r"((?:in|at) the (?:top|bottom|centre)\b[a-z ]*)"


@cache
def scene_of(key: str) -> Scene:
    source, number = key.split("_IMG_")
    return get_scene(0, source, int(number))


def cell_of(place: str) -> tuple[int, int]:
    row = 0 if "top" in place else 2 if "bottom" in place else 1
    return row, 0 if "left" in place else 2 if "right" in place else 1


def count_named(words: str) -> Counter[tuple[str, str]]:
    """What a list such as "a red circle and 2 blue stars" names."""
    found = re.findall(rf"(an?|\d) {COLOUR} {KIND}", words.lower())
    return Counter({(colour, kind): int(n) if n.isdigit() else 1 for n, colour, kind in found})


def check_claim(question: str, answer: str, scenes: list[Scene]) -> str | None:
    """The kind of claim an answer makes if it is true of the scenes and to the question."""
    shapes = [shape for scene in scenes for shape in scene.shapes]
    asked = {*re.findall(COLOUR, question), *re.findall(rf"\b{KIND}\b", question)}

    def on_a_side(side: str, row: int, column: int, own_row: int, own_column: int) -> bool:
        steps = {"left of": (0, -1), "right of": (0, 1), "above": (-1, 0), "below": (1, 0)}
        down, right = steps[side]
        return (row - own_row) * down + (column - own_column) * right > 0

    if found := re.fullmatch(rf"There (is|are) (no|\d+) (?:{COLOUR} )?{KIND}\.", answer):
        verb, number, colour, kind = found.groups()
        count = sum(s.colour == (colour or s.colour) for s in shapes if kind in ("shape", s.kind))
        true = count == (0 if number == "no" else int(number)) and (verb == "is") == (count == 1)
        return "count" if true and asked == {kind, *filter(None, [colour])} else None
    if found := re.fullmatch(rf"(Nothing|An? {COLOUR} {KIND}) is {PLACE}\.", answer):
        here = [s for s in shapes if (s.row, s.column) == cell_of(found[4])]
        true = count_named(found[1]) == Counter((s.colour, s.kind) for s in here)
        return "what" if true and found[4] in question else None
    if found := re.fullmatch(rf"The {COLOUR} {KIND} (?:is|are) ((?:in|at) the .+)\.", answer):
        colour, kind = found[1], found[2]
        cells = {(s.row, s.column) for s in shapes if (s.colour, s.kind) == (colour, kind)}
        places = re.split(r", | and ", found[3])
        true = sorted(map(cell_of, places)) == sorted(cells)
        return "where" if true and asked == {colour, kind} else None
    if found := re.fullmatch(rf"The {KIND} (?:is|are) ((?:{COLOUR}|, | and )+)\.", answer):
        true = set(re.findall(COLOUR, found[2])) == {s.colour for s in shapes if s.kind == found[1]}
        return "colour" if true and asked == {found[1]} else None
    if found := re.fullmatch(
        rf"(.+) (?:is|are) (left of|right of|above|below) the {COLOUR} {KIND}\.", answer
    ):
        own = [s for s in shapes if (s.colour, s.kind) == (found[3], found[4])]
        beside = Counter(
            (s.colour, s.kind)
            for s in shapes
            if own and on_a_side(found[2], s.row, s.column, own[0].row, own[0].column)
        )
        true = len(own) == 1 and count_named(found[1]) == beside
        return "beside" if true and f"{found[2]} the {found[3]} {found[4]}" in question else None
    if found := re.fullmatch(rf"(Yes|No), there is (?:an?|no) {COLOUR} {KIND}\.", answer):
        is_there = any((s.colour, s.kind) == (found[2], found[3]) for s in shapes)
        true = is_there == (found[1] == "Yes")
        return "whether" if true and f"{found[2]} {found[3]}" in question else None
    if found := re.fullmatch(r"On an? ([a-z ]+) background: (.+)\.", answer):
        things = re.findall(rf"an? {COLOUR} {KIND} (.+?)(?=, an? | and an? |$)", found[2])
        shown = [(s.colour, s.kind, (s.row, s.column)) for s in shapes]
        told = [(colour, kind, cell_of(place)) for colour, kind, place in things]
        return "describe" if told == shown and scenes[0].background == found[1] else None
    if found := re.fullmatch(
        rf"There (?:is|are) (\d+) {KIND} in the (\d) pictures together\.", answer
    ):
        count = sum(s.kind == found[2] for s in shapes)
        true = (count, len(scenes)) == (int(found[1]), int(found[3]))
        return "count over all" if true and asked == {found[2]} else None
    if found := re.fullmatch(r"The (.+) pictures? (?:has|have) the most shapes, (\d)\D*", answer):
        counts = [len(scene.shapes) for scene in scenes]
        words = ["first", "second", "third"]
        named = [words.index(word) for word in re.split(r", | and ", found[1])]
        true = named == [n for n, count in enumerate(counts) if count == max(counts)]
        return "fullest" if true and max(counts) == int(found[2]) else None
    if found := re.fullmatch(r"(.+) (?:is|are) in every picture\.", answer):
        everywhere = set.intersection(*({s.colour for s in scene.shapes} for scene in scenes))
        true = set(re.findall(COLOUR, found[1].lower())) == everywhere
        return "shared" if true else None
    return None


def test_every_answer_in_the_files_is_true(folder: Path) -> None:
    for name, dataset in load_datasets(folder).items():
        if name == "ARITHMETIC":
            continue
        for id, record in load_records(folder, dataset).items():
            scenes = [scene_of(key) for key in record["image_ids"]]
            claim = check_claim(record["instruction"], record["answer"], scenes)
            assert claim, (id, record, scenes)


def test_questions_are_of_every_kind_and_varied(full: Path) -> None:
    claims: Counter[str | None] = Counter()
    wordings = set()
    for name, dataset in load_datasets(full).items():
        if name != "ARITHMETIC":
            for record in load_records(full, dataset).values():
                scenes = [scene_of(key) for key in record["image_ids"]]
                claims[check_claim(record["instruction"], record["answer"], scenes)] += 1
                wordings.add(record["instruction"])
    single = {"count", "what", "where", "colour", "beside", "whether", "describe"}
    assert claims.keys() == single | {"count over all", "fullest", "shared"}
    assert len(wordings) > claims.total() / 2


def test_the_check_of_answers_finds_what_is_not_true() -> None:
    texts = [ask_about(get_scene(0, "SHAPES", n), Random(n)) for n in range(200)]
    elsewhere = [get_scene(1, "SHAPES", n) for n in range(200)]
    wrong = [
        check_claim(text.instruction, text.answer, [scene]) is None
        for text, scene in zip(texts, elsewhere, strict=True)
    ]
    assert sum(wrong) > 140


def test_sums_are_true() -> None:
    signs = {"plus": "+", "minus": "-", "times": "x"}
    seen = set()
    for seed in range(300):
        text = ask_for_sum(Random(seed))
        words = [signs.get(word, word) for word in re.findall(r"\d+|[+x-]|[a-z]+", text.answer)]
        first, sign, second, result = int(words[0]), words[1], int(words[2]), int(words[-1])
        assert result == {"+": first + second, "-": first - second, "x": first * second}[sign]
        assert result >= 0
        assert f"{first} " in text.instruction
        assert f" {second}" in text.instruction
        seen.add(sign)
    assert seen == {"+", "-", "x"}


@pytest.mark.parametrize("number", range(12))
def test_a_picture_shows_each_shape_in_its_cell_and_nothing_elsewhere(number: int) -> None:
    scene = get_scene(0, "SCENES", number)
    picture = draw_scene(scene)
    colours = {(shape.row, shape.column): COLOURS[shape.colour] for shape in scene.shapes}
    for row in range(3):
        for column in range(3):
            x = round((column + 0.5) * scene.width_pixels / 3)
            y = round((row + 0.5) * scene.height_pixels / 3)
            pixel = picture.getpixel((x, y))
            assert isinstance(pixel, tuple)
            if (row, column) in colours:
                distances = {
                    name: sum(abs(a - b) for a, b in zip(pixel, colour, strict=True))
                    for name, colour in COLOURS.items()
                }
                nearest = min(distances, key=lambda name: distances[name])
                assert COLOURS[nearest] == colours[row, column]
            else:
                assert min(pixel) > 190


def test_pictures_are_mostly_jpeg() -> None:
    scenes = [get_scene(0, "SCENES", number) for number in range(300)]
    formats = Counter(scene.format for scene in scenes)
    assert formats["JPEG"] > 200
    assert formats["PNG"] > 10
    assert formats["WEBP"] > 10
    starts = {"JPEG": b"\xff\xd8\xff", "PNG": b"\x89PNG", "WEBP": b"RIFF"}
    for format, start in starts.items():
        assert encode_picture(draw_scene(scenes[0]), format).startswith(start)


# What is there already


def test_an_empty_folder_is_taken(tmp_path: Path) -> None:
    (tmp_path / "demo").mkdir()
    assert write_demo(tmp_path / "demo", images=1) == tmp_path / "demo" / "data.yaml"


@pytest.mark.parametrize("kind", ["folder", "file"])
def test_what_exists_is_refused_and_left_alone(tmp_path: Path, kind: str) -> None:
    target = tmp_path / "demo"
    kept = target / "kept.txt" if kind == "folder" else target
    kept.parent.mkdir(exist_ok=True)
    kept.write_text("mine")
    with pytest.raises(FileExistsError, match="name another folder"):
        write_demo(target, images=1)
    assert kept.read_text() == "mine"
    assert list(tmp_path.iterdir()) == [target]


def test_a_run_that_fails_leaves_nothing(tmp_path: Path) -> None:
    def stop(done: int, total: int) -> None:
        if done == total:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_demo(tmp_path / "demo", images=5, progress=stop)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("images", [0, -3])
def test_less_than_one_image_is_refused(tmp_path: Path, images: int) -> None:
    with pytest.raises(ValueError, match="1 or more"):
        write_demo(tmp_path / "demo", images=images)
    assert list(tmp_path.iterdir()) == []
