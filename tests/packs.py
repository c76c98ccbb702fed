"""Small MIMIC-IT packs for tests, written by the writers people use."""

import base64
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
from PIL import Image


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
