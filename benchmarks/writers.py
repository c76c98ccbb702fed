"""Writes the data sets, as pandas, Dask and pyarrow write them."""

import json
from collections.abc import Iterator
from hashlib import blake2b
from io import BytesIO
from pathlib import Path
from typing import Any

import dask.dataframe as dd
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pybase64
from PIL import Image

Record = dict[str, Any]

DATASET = "set"
PICTURE_BYTES = 75_000  # on the average: 50,000 to 100,000
RECORD_BYTES = 650  # of an instruction
PHOTOGRAPH_SIZE = (640, 480)
REPEATED_SAMPLES = 20_000
_DASK_PARTS = 10
_BLOCK_BYTES = 24  # 32 characters of base64
_WORDS = ("picture", "shows", "two", "people", "near", "red", "car", "under", "blue", "sky", "dog")


def key_of(number: int) -> str:
    """The key of the picture of that number; keys do not come in the order of numbers."""
    return f"IMG_{blake2b(str(number).encode(), digest_size=8).hexdigest()}"


def small_key_of(number: int) -> str:
    """The key of a tiny image of `write_many_keys`."""
    return f"IMG_{number:010}"


def pictures(count: int, is_compressible: bool) -> Iterator[bytes]:
    """Random bytes, as incompressible as JPEG, or such as Snappy makes half as long."""
    random = np.random.default_rng(1)
    for _ in range(count):
        length = int(random.integers(PICTURE_BYTES * 2 // 3, PICTURE_BYTES * 4 // 3))
        if not is_compressible:
            yield random.bytes(length)
            continue
        rows = length // _BLOCK_BYTES
        blocks = np.frombuffer(random.bytes(rows * _BLOCK_BYTES), np.uint8).reshape(rows, -1)
        # Three in four are one of 64 blocks that come again and again.
        is_repeated = random.random(rows) < 0.75
        chosen = np.where(is_repeated, random.integers(0, 64, rows), np.arange(rows))
        yield blocks[chosen].tobytes()


def write_images(folder: Path, kind: str, count: int, is_compressible: bool) -> None:
    """A data set of pictures: `kind` is json, dask, one-page, zstd, or else as pandas writes it."""
    name = {"json": "images.json", "dask": "images"}.get(kind, "images.parquet")
    path = str(folder / name)
    if kind == "json":
        _write_json(path, pictures(count, is_compressible))
    elif kind == "dask":
        frame = _frame(count, is_compressible)
        parts = dd.from_pandas(frame, npartitions=_DASK_PARTS)  # type: ignore[no-untyped-call]
        parts.to_parquet(path)
    elif kind == "one-page":
        table = pa.Table.from_pandas(_frame(count, is_compressible))
        rows: dict[str, Any] = {"write_batch_size": count, "max_rows_per_page": count}
        pq.write_table(table, path, use_dictionary=False, data_page_size=(1 << 31) - 1, **rows)
    else:
        codec: Any = "zstd" if kind == "zstd" else "snappy"
        _frame(count, is_compressible).to_parquet(path, compression=codec)
    _write_records(folder, 1)
    _write_yaml(folder, name)


def write_samples(folder: Path, count: int, photographs: bool) -> None:
    """A data set as pandas writes it, of random bytes or photographs, each with an instruction.

    `repeated.yaml` draws each of them several times an epoch.
    """
    found = _photographs(count) if photographs else pictures(count, False)
    _frame_of(found).to_parquet(folder / "images.parquet")
    _write_records(folder, count, keys=[key_of(number) for number in range(count)])
    _write_yaml(folder, "images.parquet")
    _write_yaml(folder, "images.parquet", name="repeated.yaml", num_samples=REPEATED_SAMPLES)


def write_many_keys(folder: Path, count: int) -> None:
    """A data set of that many images of six bytes, and as many instructions, up to a million."""
    texts = [pybase64.b64encode(b"%06x" % number).decode() for number in range(count)]
    keys = pd.Index([small_key_of(number) for number in range(count)])
    pd.DataFrame({"base64": texts}, index=keys).to_parquet(folder / "images.parquet")
    _write_records(folder, min(count, 1_000_000), answer_sentences=0)
    _write_yaml(folder, "images.parquet")


def write_text_only(folder: Path, count: int) -> None:
    """A data set of that many instructions and no images."""
    _write_records(folder, count)
    _write_yaml(folder, None)


def write_files(folder: Path, count: int) -> None:
    """The pictures as files of their own, for nginx."""
    for number, data in enumerate(pictures(count, False)):
        (folder / key_of(number)).write_bytes(data)


def _frame(count: int, is_compressible: bool) -> pd.DataFrame:
    return _frame_of(pictures(count, is_compressible))


def _frame_of(found: Iterator[bytes]) -> pd.DataFrame:
    values = [pybase64.b64encode(data).decode() for data in found]
    return pd.DataFrame({"base64": values}, index=[key_of(n) for n in range(len(values))])


def _photographs(count: int) -> Iterator[bytes]:
    """JPEGs as cameras make them: large shapes, a gradient, and detail at every scale."""
    random = np.random.default_rng(3)
    size = PHOTOGRAPH_SIZE
    for _ in range(count):
        made = np.zeros((size[1], size[0], 3), np.float32)
        made += np.linspace(60, 190, size[0], dtype=np.float32)[:, np.newaxis]
        for cells, weight in ((4, 90.0), (16, 45.0), (64, 25.0), (320, 18.0)):
            noise = random.integers(0, 256, (cells * 3 // 4, cells, 3), np.uint8)
            drawn = Image.fromarray(noise).resize(size, Image.Resampling.BICUBIC)
            made += (np.asarray(drawn, np.float32) / 255 - 0.5) * weight
        encoded = BytesIO()
        Image.fromarray(made.clip(0, 255).astype(np.uint8)).save(encoded, "jpeg", quality=93)
        yield encoded.getvalue()


def _write_json(path: str, found: Iterator[bytes]) -> None:
    with open(path, "wb") as file:
        for number, data in enumerate(found):
            start = b",\n" if number else b"{"
            file.write(b'%s"%s": "%s"' % (start, key_of(number).encode(), pybase64.b64encode(data)))
        file.write(b"}")


def records(count: int, keys: list[str] | None, answer_sentences: int = 4) -> Iterator[Record]:
    """An instruction for each number; of the keys given, or of those of tiny images."""
    random = np.random.default_rng(2)
    sentences = [" ".join(random.choice(_WORDS, 24)) for _ in range(1000)]
    chosen = random.integers(0, len(sentences), (count, 1 + answer_sentences)).tolist()
    for number, some in enumerate(chosen):
        first, *rest = [sentences[one] for one in some]
        yield {
            "instruction": f"{first}?",
            "answer": ". ".join(rest),
            "image_ids": [keys[number] if keys else small_key_of(number)],
            "rel_ins_ids": [f"INS_{number ^ 1:08}"],
        }


def _write_records(
    folder: Path, count: int, answer_sentences: int = 4, keys: list[str] | None = None
) -> None:
    with (folder / "instructions.json").open("w") as file:
        file.write('{"meta": {"version": "0.0.1"}, "data": {')
        for number, record in enumerate(records(count, keys, answer_sentences)):
            comma = ",\n" if number else ""
            file.write(f'{comma}"INS_{number:08}": {json.dumps(record)}')
        file.write("}}")


def _write_yaml(folder: Path, images: str | None, name: str = "data.yaml", **more: object) -> None:
    group = "IMAGE_TEXT" if images else "TEXT_ONLY"
    fields = {"mimicit_path": "instructions.json"} | ({"images_path": images} if images else {})
    text = json.dumps({group: {DATASET: fields | more}})  # JSON is YAML
    (folder / name).write_text(text)
