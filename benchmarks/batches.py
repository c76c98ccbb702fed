"""Batches of training samples over HTTP, against nginx's files and readers of local copies."""

import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from hashlib import blake2b
from pathlib import Path
from shutil import which

import pyarrow as pa
from mimicit_client import MimicITDataset

from benchmarks.catalogs import index
from benchmarks.copies import BATCH_SIZE
from benchmarks.data import Data, ImageSet
from benchmarks.local_readers import Reader, open_readers
from benchmarks.report import Goal, Result
from benchmarks.servers import Server, mimicit, nginx
from benchmarks.sides import Side
from benchmarks.sockets import Connection, Pulled, pull
from benchmarks.writers import PICTURE_BYTES, key_of, records
from benchmarks.wrk import CONNECTIONS, load

# Few enough to stay in the page cache, which this machine drops when it is not used for seconds.
_PICTURES = 4_000
_GROUP = "IMAGE_TEXT"
_SHARE = 0.5
_MIMICIT, _CLIENT = "mimicit, bare socket, two in flight", "mimicit, MimicITDataset, prefetch=3"
_NGINX, _WRK = "nginx, files, bare socket, two in flight", f"nginx, files, wrk -c{CONNECTIONS}"


def batch_path(number: int, steps: int, *, batch_size: int = BATCH_SIZE, query: str = "") -> str:
    """The path of the batch of that number, counted through the epochs."""
    epoch, step = divmod(number, steps)
    return f"/v1/groups/{_GROUP}/batches/{step}?batch_size={batch_size}&epoch={epoch}{query}"


def run(data: Data, quick: bool) -> Iterator[Result]:
    """Rounds in which every side gives samples for some seconds."""
    result = Result(
        f"Batches of {BATCH_SIZE} samples",
        f"{_PICTURES:,} pictures of {PICTURE_BYTES // 1000} KB on the average, each with some 650 "
        "bytes of text, shuffled anew each epoch; nobody decodes pictures. The sides take turns, "
        "each with its files in the page cache; figures are medians over the rounds. MB are the "
        "pictures' own bytes. Servers have one worker and speak over loopback; what pulls, and the "
        "local readers, are this one Python process with no workers of its own. `of nginx` is to "
        "nginx with files and the same bare client with two in flight.",
        (
            *("side", "samples/s", "MB/s", "of nginx", "our dataset over it"),
            *("server CPU s / 1,000", "client CPU s / 1,000", "MB from disk"),
        ),
    )
    images = data.samples(_PICTURES)
    index(images.data_yaml, data.catalogs)
    readers, missing = open_readers(data, _PICTURES)
    result.notes += [f"Not run: {name} is not installed." for name in missing]
    with tempfile.TemporaryDirectory(dir=data.folder) as folder, ExitStack() as stack:
        served = stack.enter_context(mimicit(images.data_yaml, data.catalogs))
        sides = _mimicit_sides(served, images)
        if which("nginx") is None:
            result.notes.append("Not run: nginx is not installed.")
        else:
            sides += _nginx_sides(stack, Path(folder), data)
        sides += [_local_side(reader) for reader in readers]
        _check_same(images, served, readers)
        for _ in range(2 if quick else 7):
            for side in sides:
                side.take_turn(1 if quick else 4)
    _report(result, sides)
    yield result


def _mimicit_sides(served: Server, images: ImageSet) -> list[Side]:
    steps = images.count // BATCH_SIZE

    def bare(in_flight: int) -> Callable[[float], Pulled]:
        return lambda seconds: pull(
            served.port,
            lambda number: batch_path(number, steps),
            in_flight=in_flight,
            seconds=seconds,
            samples=BATCH_SIZE,
        )

    def with_dataset(seconds: float) -> Pulled:
        dataset = MimicITDataset(served.url, _GROUP, batch_size=BATCH_SIZE, prefetch=3)
        start = time.perf_counter()
        samples = 0
        while True:
            for batch in dataset:
                samples += sum(1 for _ in batch)  # made, as a training loop would have them
                if (taken := time.perf_counter() - start) >= seconds:
                    return Pulled(samples, taken)
            dataset.set_epoch(dataset.epoch + 1)

    return [
        Side("mimicit, bare socket, one in flight", images.folder, bare(1), served),
        Side(_MIMICIT, images.folder, bare(2), served),
        Side(_CLIENT, images.folder, with_dataset, served),
    ]


def _nginx_sides(stack: ExitStack, folder: Path, data: Data) -> list[Side]:
    files, batches = data.copy("files", _PICTURES), data.copy("whole-batches", _PICTURES)
    single = stack.enter_context(nginx(folder / "nginx-files", files))
    whole = stack.enter_context(nginx(folder / "nginx-batches", batches))
    names = sorted(path.name for path in files.iterdir())

    def bare(in_flight: int) -> Callable[[float], Pulled]:
        return lambda seconds: pull(
            single.port,
            lambda number: f"/{names[number % len(names)]}",
            in_flight=in_flight,
            seconds=seconds,
            samples=1,
        )

    def with_whole_batches(seconds: float) -> Pulled:
        return pull(
            whole.port,
            lambda number: f"/{number % (_PICTURES // BATCH_SIZE)}",
            in_flight=2,
            seconds=seconds,
            samples=BATCH_SIZE,
        )

    sides = [
        Side("nginx, files, bare socket, one in flight", files, bare(1), single),
        Side(_NGINX, files, bare(2), single),
        Side("nginx, a file a batch, bare socket, two", batches, with_whole_batches, whole),
    ]
    if which("wrk"):
        paths = folder / "paths.txt"
        paths.write_text("".join(f"/{name}\n" for name in names))

        def with_wrk(seconds: float) -> Pulled:
            found = load(single.url, paths, seconds, seed=0)
            return Pulled(found.requests, found.seconds)

        sides.append(Side(_WRK, files, with_wrk, single, is_client_here=False))
    return sides


def _local_side(reader: Reader) -> Side:
    epochs = reader.epochs()

    def take(seconds: float) -> Pulled:
        start = time.perf_counter()
        samples = 0
        for _, count in epochs:
            samples += count
            if (taken := time.perf_counter() - start) >= seconds:
                return Pulled(samples, taken)
        raise AssertionError("the epochs ended")

    return Side(reader.name, reader.folder, take)


def _check_same(images: ImageSet, served: Server, readers: list[Reader]) -> None:
    """Raise ValueError if somebody does not give each picture with its text once an epoch."""
    keys = [key_of(number) for number in range(images.count)]
    texts = (one["instruction"] + one["answer"] for one in records(images.count, keys))
    expected = {
        _hash(picture, text) for picture, text in zip(images.pictures(), texts, strict=True)
    }
    found: dict[str, list[bytes]] = {}
    dataset = MimicITDataset(served.url, _GROUP, batch_size=BATCH_SIZE, drop_last=False)
    found[_CLIENT] = [
        _hash(sample.images[0], sample.instruction + sample.answer)
        for batch in dataset
        for sample in batch
    ]
    steps = -(-images.count // BATCH_SIZE)
    with Connection(served.port, 64 << 20) as connection:
        found[_MIMICIT] = [
            _hash(row["images"][0], row["instruction"] + row["answer"])
            for step in range(steps)
            for row in pa.ipc.open_stream(
                connection.get(batch_path(step, steps, query="&drop_last=false"))
            )
            .read_all()
            .to_pylist()
        ]
    for reader in readers:
        seen = found[reader.name] = []
        for handed, _ in reader.epochs():
            seen += [_hash(picture, text) for picture, text in reader.take_apart(handed)]
            if len(seen) >= images.count:
                break
    for name, hashes in found.items():
        if len(hashes) != len(expected) or set(hashes) != expected:
            raise ValueError(f"{name} does not give each sample once, as it was written")


def _hash(picture: bytes | memoryview, text: str) -> bytes:
    return blake2b(text.encode(), key=blake2b(picture, digest_size=32).digest()).digest()


def _report(result: Result, sides: list[Side]) -> None:
    by_name = {side.name: side for side in sides}
    nginx_side, ours = by_name.get(_NGINX), by_name[_CLIENT]
    for side in sides:
        rate = side.median_rate()
        cpu = ("-" if one is None else f"{one:.3f}" for one in side.cpu_per_thousand())
        result.rows.append(
            (
                side.name,
                f"{rate:,.0f}",
                f"{rate * PICTURE_BYTES / 1e6:,.0f}",
                f"{side.median_ratio(nginx_side):.2f}" if nginx_side else "-",
                f"{ours.median_ratio(side):.2f}",
                *cpu,
                f"{sum(turn.disk_bytes for turn in side.turns) / 1e6:,.0f}",
            )
        )
    for name in (_NGINX, _WRK):
        if name in by_name:
            what = f"batches of {BATCH_SIZE}, half of the bytes a second of {name}"
            result.goals.append(ratio_goal(what, by_name[_MIMICIT].ratios(by_name[name]), _SHARE))
    for side in sides:
        if side.server is None and "in order" not in side.name:
            what = f"batches through the client, more samples a second than {side.name}"
            result.goals.append(ratio_goal(what, ours.ratios(side), 1.0))


def ratio_goal(what: str, ratios: list[float], least: float) -> Goal:
    median = statistics.median(ratios)
    measured = f"{median:.2f} (rounds {min(ratios):.2f} to {max(ratios):.2f})"
    return Goal(what, measured, median >= least)
