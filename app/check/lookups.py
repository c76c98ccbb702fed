"""How long a lookup takes: a key's place found, and its value read, once its bytes are warm."""

import time
from collections.abc import Iterator
from pathlib import Path
from random import Random
from statistics import median

import pyarrow as pa

from app.catalog.image_source import ImageSource

_LOOKUPS = 51
_MAX_SECONDS = 0.2  # of one file: a lookup by DuckDB takes 0.1 to 2.5 s, and then there is one
_MAX_FILES = 20  # of a source: one program wrote its files, so they are alike


def measure_lookups(source: ImageSource, units: list[Path]) -> dict[int, float]:
    """The median lookup of random keys, in microseconds, of some of the files, by their number.

    `units` are those of the files, in the order of the source's facts.
    """
    found = {}
    for number in range(0, len(units), -(-len(units) // _MAX_FILES)):
        keys = _random_keys(source, units[number], Random(number))
        if taken := [_time_lookup(source, key) for key in keys]:
            found[number] = round(median(taken) * 1e6, 1)
    return found


def _time_lookup(source: ImageSource, key: str) -> float:
    for _ in range(2):  # the first one warms it
        started = time.perf_counter()
        source.read(source.get_place(key), wait=True)
        taken = time.perf_counter() - started
    return taken


def _random_keys(source: ImageSource, unit: Path, random: Random) -> Iterator[str]:
    """Keys of a file whose values can be read, while there is time."""
    until = time.monotonic() + _MAX_SECONDS
    with pa.memory_map(str(unit / "rows.arrow")) as mapped, pa.ipc.open_file(mapped) as file:
        for _ in range(_LOOKUPS if file.num_record_batches else 0):
            keys = file.get_batch(random.randrange(file.num_record_batches)).column("key")
            key = keys[random.randrange(len(keys))].as_py() if len(keys) else None
            place = source.find_place(key) if key else None
            if key and place is not None and place.is_readable:
                yield key
            if time.monotonic() > until:
                return
