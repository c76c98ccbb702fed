"""Small MIMIC-IT packs for tests, written by the writers people use."""

import base64
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from PIL import Image

from app.demo import write_demo

SHARED_PACK = Path(__file__).parents[2] / "shared" / "data" / "mimicit" / "data.yaml"


def find_pack(which: str, folder: Path, images: int, seed: int) -> Path:
    """The data YAML of the real pack if it is "shared", and skips where that is not there; else of
    its generated twin."""
    if which == "shared":
        if not SHARED_PACK.exists():
            pytest.skip(f"{SHARED_PACK} is not there; the generated twin runs")
        return SHARED_PACK
    return write_demo(folder / "demo", images=images, seed=seed)


def draw_jpeg(number: int, width: int = 48, height: int = 32) -> bytes:
    """A small JPEG of a colour of its own."""
    picture = Image.new("RGB", (width, height), (number * 37 % 256, number * 91 % 256, 120))
    out = io.BytesIO()
    picture.save(out, "JPEG", quality=90)
    return out.getvalue()


def write_images(path: Path, images: Mapping[str, bytes | None]) -> None:
    """A pandas Parquet file (or legacy JSON) of base64 values by key."""
    texts = {
        key: None if value is None else base64.b64encode(value).decode()
        for key, value in images.items()
    }
    if path.suffix == ".json":
        path.write_text(json.dumps(texts))
    else:
        pd.DataFrame({"base64": list(texts.values())}, index=list(texts)).to_parquet(path)


def write_instructions(path: Path, records: Mapping[str, Any]) -> None:
    """An instructions JSON of those records."""
    path.write_text(json.dumps({"meta": {"version": "0.0.1"}, "data": records}))


def record(instruction: str, *image_ids: str, **more: Any) -> dict[str, Any]:
    """An instruction record."""
    return {
        "instruction": instruction,
        "answer": f"answer to {instruction}",
        "image_ids": list(image_ids),
        "rel_ins_ids": [],
    } | more
