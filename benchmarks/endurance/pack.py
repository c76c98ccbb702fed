"""A data set whose every picture and record is at hand, to compare answers with."""

import base64
import json
import random
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, Literal

import pandas as pd
from PIL import Image

TEXTS = "TEXTS"
_CODECS: dict[str, Literal["snappy", "zstd"]] = {
    "SNAPPY": "snappy",
    "ZSTD": "zstd",
}  # read in place, and a page at a time
_TEXTS = 200


@dataclass(frozen=True, slots=True)
class Pack:
    """A data YAML, and what it is of: pictures and records by dataset and key."""

    data_yaml: Path
    images: dict[str, dict[str, bytes]]
    records: dict[str, dict[str, dict[str, Any]]]

    def file(self, dataset: str) -> Path:
        """The Parquet file of the dataset's pictures."""
        return self.data_yaml.parent / f"{dataset}.parquet"


def write_pack(folder: Path, pictures: int, version: int = 0) -> Pack:
    """Two datasets of that many pictures and one of texts; all of them others in another version.

    Of another version it is the same names, so that either answers the same questions.
    """
    folder.mkdir(parents=True, exist_ok=True)
    choose = random.Random(version)
    images, records = {}, {}
    for name, codec in _CODECS.items():
        drawn = {f"{name}_{n:05}": _draw(choose) for n in range(pictures)}
        texts = [base64.b64encode(one).decode() for one in drawn.values()]
        frame = pd.DataFrame({"base64": texts}, index=list(drawn))
        frame.to_parquet(folder / f"{name}.parquet", compression=codec, row_group_size=500)
        images[name] = drawn
        records[name] = {
            f"{name}_INS_{n:05}": _record(f"what is {n}, version {version}?", key)
            for n, key in enumerate(drawn)
        }
    records[TEXTS] = {
        f"T{n}": _record(f"say {n}, version {version}" + "x" * n) for n in range(_TEXTS)
    }
    lines = ["IMAGE_TEXT:"]
    for name, some in records.items():
        (folder / f"{name}.json").write_text(json.dumps({"meta": {}, "data": some}))
    # Absolute, so that the text may be copied to be mounted elsewhere.
    lines += [f"  {name}: {_paths(folder, name, 'mimicit', 'images')}" for name in images]
    lines += ["TEXT_ONLY:", f"  {TEXTS}: {_paths(folder, TEXTS, 'mimicit')}"]
    (folder / "data.yaml").write_text("\n".join(lines) + "\n")
    return Pack(folder / "data.yaml", images, records)


def _paths(folder: Path, name: str, *kinds: str) -> str:
    suffixes = {"mimicit": "json", "images": "parquet"}
    return json.dumps({f"{k}_path": f"{folder.resolve()}/{name}.{suffixes[k]}" for k in kinds})


def _draw(choose: random.Random) -> bytes:
    """A picture that can be resized, with up to 60 KB behind it that do not compress."""
    out = BytesIO()
    colour = tuple(choose.randrange(256) for _ in range(3))
    Image.new("RGB", (64, 48), colour).save(out, "JPEG")
    return out.getvalue() + choose.randbytes(choose.randrange(60_000))


def _record(instruction: str, *image_ids: str) -> dict[str, Any]:
    return {
        "instruction": instruction,
        "answer": f"the answer to {instruction}",
        "image_ids": list(image_ids),
        "rel_ins_ids": [],
    }
