"""A demo folder: every kind of source a data YAML can name, drawn and written from a seed."""

import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from secrets import token_hex

from pybase64 import b64encode_as_string

from app.demo.pictures import Scene, draw_scene, encode_picture, get_scene
from app.demo.sources import (
    write_dask_folder,
    write_instructions,
    write_json_object,
    write_pandas_file,
)
from app.demo.texts import Text, ask_about, ask_about_all, ask_for_count, ask_for_sum

# What is held in memory at once is bounded by these, whatever the number of pictures: the one row
# group of a pandas file is encoded in one go, a part of a Dask folder likewise.
MAX_PANDAS_IMAGES = 2_000
MAX_PART_IMAGES = 1_000
MAX_LEGACY_IMAGES = 500

# Two in each image source, so that every dataset has something to draw and something left out.
MIN_IMAGES = 4

Record = dict[str, object]
Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Plan:
    """How many pictures go where, and what everything is called."""

    seed: int
    shapes: int
    scenes: int

    @classmethod
    def of(cls, images: int, seed: int) -> "Plan":
        """Two pictures of five go to SHAPES, up to its limit, and the others to SCENES."""
        images = max(images, MIN_IMAGES)
        shapes = min(-(-images * 2 // 5), MAX_PANDAS_IMAGES)
        return cls(seed=seed, shapes=shapes, scenes=images - shapes)

    @property
    def legacy(self) -> int:
        """How many pictures of SHAPES are in SHAPES.json, too."""
        return min((self.shapes + 3) // 4, MAX_LEGACY_IMAGES)

    @property
    def sums(self) -> int:
        """How many instructions ARITHMETIC has."""
        return max((self.shapes + self.scenes) // 4, 8)

    @property
    def part_images(self) -> int:
        """Pictures of a Dask part: few enough for a part.10, which sorts before part.2 as text."""
        return min(max(self.scenes // 12, 5), MAX_PART_IMAGES)

    def name(self, prefix: str, number: int) -> str:
        """An id or key that sorts as its number does, however many pictures there are."""
        return f"{prefix}_{number:0{max(6, len(str(2 * self.scenes)))}d}"

    def get_scene(self, source: str, number: int) -> Scene:
        return get_scene(self.seed, source, number)

    def get_chance(self, id: str) -> Random:
        return Random(f"{self.seed}/{id}")


def write_demo(
    folder: Path, *, images: int = 120, seed: int = 0, progress: Progress | None = None
) -> Path:
    """Write a demo of `images` pictures (at least 4) to a new folder; the path of its data.yaml.

    The same number and seed give the same bytes. `progress` is called with pictures drawn and
    pictures in all. The folder is there when it is complete, or not at all. Raises ValueError for
    less than one image, FileExistsError if there is something at `folder`, an empty folder apart.
    """
    if images < 1:
        raise ValueError(f"a demo of {images} images: write 1 or more")
    folder = folder.resolve()
    _refuse_existing(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = folder.with_name(f".{folder.name}.{token_hex(4)}.partial")
    partial.mkdir()
    try:
        _write_sources(partial, Plan.of(images, seed), progress)
        _refuse_existing(folder)
        partial.replace(folder)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    return folder / "data.yaml"


def _refuse_existing(folder: Path) -> None:
    if folder.exists() and not (folder.is_dir() and next(folder.iterdir(), None) is None):
        raise FileExistsError(
            f"{folder} exists already: use it as it is, remove it, or name another folder"
        )


def _write_sources(folder: Path, plan: Plan, progress: Progress | None) -> None:
    """Everything in the folder, data.yaml last."""
    images, texts = folder / "images", folder / "json"
    images.mkdir()
    texts.mkdir()

    # Not in key order, because nothing makes pandas sort.
    drawn = dict(_draw_source(plan, "SHAPES", range(plan.shapes), 0, progress))
    order = plan.get_chance("SHAPES order").sample(list(drawn), len(drawn))
    write_pandas_file(images / "SHAPES.parquet", {key: drawn[key] for key in order})
    write_json_object(images / "SHAPES.json", list(drawn.items())[: plan.legacy])
    del drawn
    write_dask_folder(
        images / "SCENES.parquet",
        _draw_source(plan, "SCENES", range(plan.scenes), plan.shapes, progress),
        part_rows=plan.part_images,
    )

    meta = {
        "version": "1",
        "author": "mimicit demo",
        "seed": plan.seed,
        "images": plan.shapes + plan.scenes,
    }
    for dataset, records in (
        ("SHAPES", _ask_each(plan, "SHAPES", "SHAPES", plan.shapes)),
        ("SHAPES_LEGACY", _ask_each(plan, "SHAPES_LEGACY", "SHAPES", plan.legacy)),
        ("SCENES", _ask_each(plan, "SCENES", "SCENES", plan.scenes)),
        ("SCENES_IC", _ask_in_context(plan)),
        ("COUNTING", _ask_for_counts(plan)),
        ("ARITHMETIC", _ask_for_sums(plan)),
    ):
        write_instructions(texts / f"{dataset}_instructions.json", meta, records)
    write_json_object(texts / "COUNTING_train.json", _list_train_contexts(plan))
    (folder / "data.yaml").write_text(_get_data_yaml(plan), encoding="utf-8", newline="\n")


def _draw_source(
    plan: Plan, source: str, numbers: Sequence[int], before: int, progress: Progress | None
) -> Iterator[tuple[str, str]]:
    """Keys and base64 of pictures of a source, `before` others having been drawn before them."""
    for done, number in enumerate(numbers, before + 1):
        scene = plan.get_scene(source, number)
        encoded = encode_picture(draw_scene(scene), scene.format)
        yield plan.name(f"{source}_IMG", number), b64encode_as_string(encoded)
        if progress:
            progress(done, plan.shapes + plan.scenes)


def _ask_each(plan: Plan, dataset: str, source: str, images: int) -> Iterator[tuple[str, Record]]:
    """Two different questions about each of the first pictures of a source."""
    for number in range(images):
        scene, key = plan.get_scene(source, number), plan.name(f"{source}_IMG", number)
        chance = plan.get_chance(f"{dataset}/{number}")
        texts: dict[str, Text] = {}
        while len(texts) < 2:
            text = ask_about(scene, chance)
            texts[text.instruction] = text
        for offset, text in enumerate(texts.values()):
            yield plan.name(f"{dataset}_INS", 2 * number + offset), _record(text, [key])


def _ask_in_context(plan: Plan) -> Iterator[tuple[str, Record]]:
    """For every three pictures of SCENES one question about them and two of its kind before it."""
    together = min(3, plan.scenes)
    for task in range(max(1, plan.scenes // 3)):
        main = plan.name("SCENES_IC_INS", task)
        context = [plan.name("SCENES_IC_CTX", 2 * task + offset) for offset in range(2)]
        for turn, id in enumerate((main, *context)):
            # The context shows the pictures that come after, so that it does not tell the answer.
            numbers = [(3 * (task + turn) + k) % plan.scenes for k in range(together)]
            scenes = [plan.get_scene("SCENES", number) for number in numbers]
            text = ask_about_all(scenes, task, plan.get_chance(id))
            keys = [plan.name("SCENES_IMG", number) for number in numbers]
            yield id, _record(text, keys, context if id == main else [])


def _ask_for_counts(plan: Plan) -> Iterator[tuple[str, Record]]:
    """One question for each picture of SHAPES; which are context is for the train config to say."""
    for number in range(plan.shapes):
        id = plan.name("COUNTING_INS", number)
        text = ask_for_count(plan.get_scene("SHAPES", number), plan.get_chance(id))
        yield id, _record(text, [plan.name("SHAPES_IMG", number)])


def _list_train_contexts(plan: Plan) -> Iterator[tuple[str, list[str]]]:
    """Two counts of every three are trained on, after the third one and that of the three before.

    The third ones are never drawn themselves.
    """
    for number in range(plan.shapes):
        third = number - number % 3
        if number != third:
            context = [plan.name("COUNTING_INS", k) for k in (third - 3, third) if k >= 0]
            yield plan.name("COUNTING_INS", number), context


def _ask_for_sums(plan: Plan) -> Iterator[tuple[str, Record]]:
    for number in range(plan.sums):
        id = plan.name("ARITHMETIC_INS", number)
        yield id, _record(ask_for_sum(plan.get_chance(id)), [])


def _record(text: Text, image_ids: list[str], rel_ins_ids: Sequence[str] = ()) -> Record:
    return {
        "instruction": text.instruction,
        "answer": text.answer,
        "image_ids": image_ids,
        "rel_ins_ids": list(rel_ins_ids),
    }


def _get_data_yaml(plan: Plan) -> str:
    return f"""\
# A demo of mimicit: drawn pictures and true answers, in every form the service reads.
# {plan.shapes + plan.scenes} pictures, seed {plan.seed}. Paths are relative to this file.

IMAGE_TEXT: # questions about one picture
  SHAPES:
    mimicit_path: json/SHAPES_instructions.json
    images_path: images/SHAPES.parquet # one file, as pandas writes it
    num_samples: -1 # all of them; the same as leaving it out
  SCENES:
    mimicit_path: json/SCENES_instructions.json
    images_path: images/SCENES.parquet # a folder of parts, as Dask writes it
    num_samples: {plan.scenes * 4 // 3} # of {plan.scenes * 2}: the same part of it in every epoch
  SHAPES_LEGACY:
    mimicit_path: json/SHAPES_LEGACY_instructions.json
    images_path: images/SHAPES.json # the older form: keys and base64 as one JSON object

TEXT_ONLY: # no pictures
  ARITHMETIC:
    mimicit_path: json/ARITHMETIC_instructions.json
    num_samples: {plan.sums * 3 // 2} # of {plan.sums}: some come twice in every epoch

IMAGE_TEXT_IN_CONTEXT: # related instructions go before the one that is asked
  SCENES_IC:
    mimicit_path: json/SCENES_IC_instructions.json # its rel_ins_ids name the context
    images_path: images/SCENES.parquet # sources can be shared
  COUNTING:
    mimicit_path: json/COUNTING_instructions.json
    images_path: images/SHAPES.parquet
    train_config_path: json/COUNTING_train.json # its ids only are drawn, with the context it names
    task_description: Count the coloured shapes in the picture.
"""
