"""Batches of resized pictures, against loops that do the same with Pillow."""

import base64
import math
import time
from collections.abc import Callable, Iterator
from io import BytesIO
from itertools import cycle
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pybase64
from numpy.typing import NDArray
from PIL import Image

from benchmarks.batches import batch_path, ratio_goal
from benchmarks.catalogs import index
from benchmarks.data import Data, ImageSet
from benchmarks.report import Goal, Result
from benchmarks.servers import Server, mimicit
from benchmarks.sides import Side
from benchmarks.sockets import Connection, Pulled, pull
from benchmarks.writers import PHOTOGRAPH_SIZE

_PICTURES = 512
_BATCH_SIZE = 64
_SIDE = 224
_REDUCING_GAP = 2.0
_PIXELS = f"&size={_SIDE}&pixels=true"
_OURS, _SAME, _NAIVE = (
    "mimicit, pixels, two in flight",
    "Pillow in a loop: the same draft, crop and filter",
    "Pillow in a loop: open, convert, resize",
)

Pixels = NDArray[np.uint8]


def run(data: Data, quick: bool) -> Iterator[Result]:
    """Rounds in which the server and the loops make pictures for some seconds."""
    images = data.samples(_PICTURES, photographs=True)
    index(images.data_yaml, data.catalogs)
    stored: list[str] = pd.read_parquet(images.files[0])["base64"].tolist()
    kilobytes = sum(map(len, stored)) * 3 / 4 / len(stored) / 1000
    width, height = PHOTOGRAPH_SIZE
    result = Result(
        f"Batches of pictures of {_SIDE} x {_SIDE}",
        f"{_PICTURES} JPEGs of {width} x {height}, {kilobytes:.0f} KB on the average, brought to "
        f"uint8 {_SIDE} x {_SIDE} x 3 with Lanczos after a crop to the square, in batches of "
        f"{_BATCH_SIZE}; one worker, resize_threads=1, and a bare socket client. The loops, on one "
        "thread, have the stored base64 in memory, and put each picture's array into one of the "
        f"batch; {_NAIVE.split(': ')[1]} is bicubic, squeezed, with Python's own base64. The "
        "pixels of the server and of the same loop are equal. Pictures of this size are decoded "
        "whole; of twice the size, all but the naive loop decode a quarter of the pixels. All of "
        "them share the cores: samples per CPU second are of all threads of the server, or of the "
        "loop, the client not counted.",
        (
            *("side", "samples/s", "samples per CPU s", "over the same loop, wall", "CPU"),
            "client CPU s / 1,000",
        ),
    )
    with mimicit(images.data_yaml, data.catalogs) as served:
        _check_same(served, images, stored)
        sides = [
            _served("mimicit, pixels, one in flight", images, served, 1, _PIXELS),
            _served(_OURS, images, served, 2, _PIXELS),
            _served("mimicit, JPEG, two in flight", images, served, 2, f"&size={_SIDE}"),
            Side(_SAME, images.folder, _loop(stored, resize_as_served)),
            Side(_NAIVE, images.folder, _loop(stored, _resize_naively)),
        ]
        for _ in range(2 if quick else 7):
            for side in sides:
                side.take_turn(1 if quick else 4)
    _report(result, sides)
    yield result


def resize_as_served(stored: str) -> Pixels:
    """A stored picture as the service makes it, written straight down."""
    with Image.open(BytesIO(pybase64.b64decode(stored, validate=True))) as image:
        width, height = image.size
        square = min(width, height)
        enough = [math.ceil(_REDUCING_GAP * _SIDE * side / square) for side in image.size]
        image.draft(None, (enough[0], enough[1]))
        shrunk = width / image.width
        left, top = (width - square) / 2 / shrunk, (height - square) / 2 / shrunk
        box = (left, top, image.width - left, image.height - top)
        made = image.convert("RGB").resize(
            (_SIDE, _SIDE), Image.Resampling.LANCZOS, box, _REDUCING_GAP
        )
    return np.asarray(made)


def _resize_naively(stored: str) -> Pixels:
    image = Image.open(BytesIO(base64.b64decode(stored)))
    return np.asarray(image.convert("RGB").resize((_SIDE, _SIDE)))


def _loop(stored: list[str], resize: Callable[[str], Pixels]) -> Callable[[float], Pulled]:
    values = cycle(stored)

    def take(seconds: float) -> Pulled:
        start = time.perf_counter()
        samples = 0
        while time.perf_counter() - start < seconds:
            batch = np.empty((_BATCH_SIZE, _SIDE, _SIDE, 3), np.uint8)
            for at in range(_BATCH_SIZE):
                batch[at] = resize(next(values))
            samples += _BATCH_SIZE
        return Pulled(samples, time.perf_counter() - start)

    return take


def _served(name: str, images: ImageSet, served: Server, in_flight: int, query: str) -> Side:
    steps = images.count // _BATCH_SIZE

    def take(seconds: float) -> Pulled:
        return pull(
            served.port,
            lambda number: batch_path(number, steps, batch_size=_BATCH_SIZE, query=query),
            in_flight=in_flight,
            seconds=seconds,
            samples=_BATCH_SIZE,
        )

    return Side(name, images.folder, take, served)


def _check_same(served: Server, images: ImageSet, stored: list[str]) -> None:
    """Raise ValueError if the server's pixels of a batch are not those of the loop."""
    by_key = dict(zip(images.keys(), stored, strict=True))
    with Connection(served.port, 64 << 20) as connection:
        body = connection.get(batch_path(0, 1, batch_size=_BATCH_SIZE, query=_PIXELS))
        table: Any = pa.ipc.open_stream(body).read_all()
        pixels = table["images"].combine_chunks().values.to_numpy_ndarray()
        keys = [ids[0] for ids in table["image_ids"].to_pylist()]
        for key, made in zip(keys, pixels, strict=True):
            if not np.array_equal(made, resize_as_served(by_key[key])):
                raise ValueError(f"the server's pixels of {key} are not those of the loop")


def _report(result: Result, sides: list[Side]) -> None:
    by_name = {side.name: side for side in sides}
    same = by_name[_SAME]
    for side in sides:
        cpu = _per_cpu_second(side) / _per_cpu_second(same)
        client = side.cpu_per_thousand()[1] if side.server else None
        result.rows.append(
            (
                side.name,
                f"{side.median_rate():,.0f}",
                f"{_per_cpu_second(side):,.0f}",
                f"{side.median_ratio(same):.2f}",
                f"{cpu:.2f}",
                "-" if client is None else f"{client:.3f}",
            )
        )
    ratio = _per_cpu_second(by_name[_OURS]) / _per_cpu_second(same)
    goal = "resized batches, no slower per core than Pillow doing the same (samples per CPU second)"
    result.goals.append(Goal(goal, f"{ratio:.2f}", ratio >= 1))
    wall = by_name[_OURS].ratios(same)
    goal = "resized batches, no slower than Pillow doing the same on one thread (samples a second)"
    result.goals.append(ratio_goal(goal, wall, 1.0))


def _per_cpu_second(side: Side) -> float:
    server, client = side.cpu_per_thousand()
    return 1000 / (server if server is not None else client or math.nan)
