"""What a worker holds in memory while batches are pulled."""

import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import psutil

from app.settings import load_settings
from benchmarks.batches import batch_path
from benchmarks.catalogs import index
from benchmarks.copies import BATCH_SIZE
from benchmarks.data import Data
from benchmarks.processes import disk_bytes, memory_of, warm
from benchmarks.report import Goal, Result
from benchmarks.servers import Server, mimicit
from benchmarks.sockets import Connection, pull

_PICTURES = 4_000
_CLIENTS = 8
_SLOW_BYTES_PER_SECOND = 1_000_000
_SLOW_CHUNK_BYTES = 50_000
_LARGE_SAMPLES = 10_000
_SAMPLE_SECONDS = 0.01
_SETTLE_SECONDS = 3.0
_MB = 1e6


@dataclass(slots=True)
class Peak:
    """Memory of a worker, in bytes: own is anonymous memory, which mapped files are not of."""

    own_before: int = 0
    own: int = 0
    own_after: int = 0
    resident_before: int = 0
    resident: int = 0


def run(data: Data, quick: bool) -> Iterator[Result]:
    """Each kind of load on a new server, whose worker is watched meanwhile."""
    settings = load_settings()
    part_mb, all_mb = settings.batch_part_bytes / _MB, settings.batch_memory_bytes / _MB
    result = Result(
        "Memory of a worker that makes batches",
        "One worker, new for each row, after one batch of 256. `own` is anonymous memory (RssAnon, "
        f"sampled every {_SAMPLE_SECONDS * 1000:.0f} ms), resident the kernel's high-water mark, "
        f"which counts the mapped catalog. A batch counts as two of its parts (of at most "
        f"{part_mb:,.0f} MB), the one that is made and the one that is sent; all in flight count "
        f"at most {all_mb:,.0f} MB (setting batch_memory_bytes), others wait: that is the bound. "
        f"`after` is {_SETTLE_SECONDS:.0f} s after the last answer.",
        (
            *("load", "MB sent", "MB/s", "MB from disk", "own MB before", "peak", "after"),
            *("peak over before", "resident MB, peak over before", "bound MB"),
        ),
    )
    images = data.samples(_PICTURES)
    repeated = images.folder / "repeated.yaml"
    for data_yaml in (images.data_yaml, repeated):
        index(data_yaml, data.catalogs)
    seconds = 2 if quick else 10
    slow_seconds = 5 if quick else 15
    fast = f"{_CLIENTS} clients, batches of {BATCH_SIZE}, {seconds} s"
    shard = f"one client, a shard of {_LARGE_SAMPLES:,} samples"
    slow = f"{_CLIENTS} clients, batches of {BATCH_SIZE}, 1 MB/s each, gone after {slow_seconds} s"
    loads: dict[str, tuple[Path, Callable[[Server], int]]] = {
        fast: (images.data_yaml, partial(_pull_fast, seconds=seconds)),
        shard: (repeated, _pull_shard),
        slow: (images.data_yaml, partial(_pull_slowly, seconds=slow_seconds)),
    }
    for name, (data_yaml, pull_all) in loads.items():
        with mimicit(data_yaml, data.catalogs) as served:
            _pull_fast(served, seconds=0.1, clients=1)
            time.sleep(_SETTLE_SECONDS)
            warm(images.folder)
            start, read = time.perf_counter(), disk_bytes(served.process)
            with _watch(_find_worker(served)) as peak:
                sent = pull_all(served)
                taken = time.perf_counter() - start
                read = disk_bytes(served.process) - read
                time.sleep(_SETTLE_SECONDS)
        more = peak.own - peak.own_before
        result.rows.append(
            (
                name,
                f"{sent / _MB:,.0f}",
                f"{sent / _MB / taken:,.0f}",
                f"{read / _MB:,.0f}",
                f"{peak.own_before / _MB:,.0f}",
                f"{peak.own / _MB:,.0f}",
                f"{peak.own_after / _MB:,.0f}",
                f"{more / _MB:,.0f}",
                f"{(peak.resident - peak.resident_before) / _MB:,.0f}",
                f"{all_mb:,.0f}",
            )
        )
        what = f"memory of a worker, {name}: within {all_mb:,.0f} MB of what it was before"
        is_met = more <= settings.batch_memory_bytes
        result.goals.append(Goal(what, f"+{more / _MB:,.0f} MB", is_met))
    yield result


def _pull_fast(served: Server, *, seconds: float, clients: int = _CLIENTS) -> int:
    sizes: list[int] = []

    with Connection(served.port, 64 << 20) as connection:
        sizes.append(len(connection.get(batch_path(0, 1))))
    steps = _PICTURES // BATCH_SIZE
    pulled = pull(
        served.port,
        lambda number: batch_path(number, steps),
        in_flight=clients,
        seconds=seconds,
        samples=1,
    )
    return pulled.samples * sizes[0]


def _pull_shard(served: Server) -> int:
    path = f"/v1/groups/IMAGE_TEXT/shards/0.tar?samples={_LARGE_SAMPLES}"
    return _read_all(served, path, seconds=None, bytes_per_second=None)


def _pull_slowly(served: Server, *, seconds: float) -> int:
    sent: list[int] = []
    steps = _PICTURES // BATCH_SIZE

    def work(number: int) -> None:
        path = batch_path(number, steps)
        sent.append(
            _read_all(served, path, seconds=seconds, bytes_per_second=_SLOW_BYTES_PER_SECOND)
        )

    threads = [threading.Thread(target=work, args=(number,)) for number in range(_CLIENTS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(sent)


def _read_all(
    served: Server, path: str, *, seconds: float | None, bytes_per_second: float | None
) -> int:
    """Read an answer to its end, or for so long, and throw it away; how many bytes they were."""
    with socket.create_connection(("127.0.0.1", served.port), timeout=60) as connection:
        ask = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n"
        connection.sendall(ask.encode())
        buffer = bytearray(_SLOW_CHUNK_BYTES if bytes_per_second else 1 << 20)
        start = time.perf_counter()
        total = connection.recv_into(buffer)
        if not buffer.startswith(b"HTTP/1.1 200"):
            raise OSError(f"{path}: {bytes(buffer[:total]).decode(errors='replace')}")
        while received := connection.recv_into(buffer):
            total += received
            taken = time.perf_counter() - start
            if seconds is not None and taken >= seconds:
                break
            if bytes_per_second is not None:
                time.sleep(max(0.0, total / bytes_per_second - taken))
        return total


@contextmanager
def _watch(worker: int) -> Iterator[Peak]:
    """The peak of a worker's memory, from now to the end of the block."""
    now = memory_of(worker)
    peak = Peak(own_before=now["RssAnon"], resident_before=now["VmRSS"])
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(_SAMPLE_SECONDS):
            peak.own = max(peak.own, memory_of(worker).get("RssAnon", 0))

    watching = threading.Thread(target=watch)
    watching.start()
    try:
        yield peak
    finally:
        ended.set()
        watching.join()
        now = memory_of(worker)
        peak.own_after, peak.resident = now.get("RssAnon", 0), now.get("VmHWM", 0)


def _find_worker(served: Server) -> int:
    """The one worker's process: what the supervisor started that is not Python's own tracker."""
    for child in served.process.children():
        if re.search(r"spawn_main|--multiprocessing-fork", " ".join(child.cmdline())):
            return int(child.pid)
    raise psutil.NoSuchProcess(served.process.pid)
