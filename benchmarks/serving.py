"""Random images over HTTP, against nginx with the same pictures as files."""

import statistics
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from shutil import which

from benchmarks.catalogs import index
from benchmarks.data import Data
from benchmarks.processes import disk_bytes, get, warm
from benchmarks.report import Goal, Result
from benchmarks.servers import Server, mimicit, nginx
from benchmarks.writers import DATASET
from benchmarks.wrk import CONNECTIONS, Load, load

_SHARE = 0.25
# So few that none has time to leave the page cache: this machine drops what is not asked for in
# some seconds, and nginx's one thread then waits for the disk, for seconds, with all its clients.
_PICTURES = 2_000
_WORKERS = (1, 2)


@dataclass(slots=True)
class _Target:
    name: str
    workers: int
    server: Server
    prefix: str
    paths: Path
    served: Path
    disk_bytes: int = 0
    loads: list[Load] = field(default_factory=list)


def run(data: Data, quick: bool) -> Iterator[Result]:
    """Rounds in which wrk asks each server in turn."""
    result = Result(
        "Images over HTTP",
        f"`wrk -t1 -c{CONNECTIONS}` asks at random for {_PICTURES:,} images of pandas' file, all "
        "in the page cache, and nginx for the same bytes as files (sendfile, open_file_cache, no "
        "log). The servers take turns; figures are medians over the rounds, and so is the ratio to "
        "nginx with as many workers. wrk shares the cores with the servers.",
        ("server", "requests/s", "MB/s", "p50 ms", "p99 ms", "failed", "MB from disk", "of nginx"),
    )
    missing = [name for name in ("wrk", "nginx") if which(name) is None]
    if missing:
        result.notes.append(f"Not run: {' and '.join(missing)} not installed.")
        yield result
        return
    images, files = data.image_set("pandas"), data.picture_files()
    index(images.data_yaml, data.catalogs)
    with tempfile.TemporaryDirectory(dir=data.folder) as folder, ExitStack() as stack:
        targets = [
            target
            for workers in _WORKERS
            for target in (
                _nginx(stack, Path(folder), files, workers),
                _mimicit(stack, Path(folder), data, images.data_yaml, workers),
            )
        ]
        keys = Random(0).sample(images.keys(), min(_PICTURES, len(images.keys())))
        for target in targets:
            target.paths.write_text("".join(f"{target.prefix}{key}\n" for key in keys))
        _check_same(targets, Random(1).sample(keys, 20))
        seconds = 1 if quick else 5
        for target in targets:
            _load(target, 1, seed=0)  # opens every file once
        for number in range(2 if quick else 5):
            for target in targets:
                warm(target.served)
                before = disk_bytes(target.server.process)
                target.loads.append(_load(target, seconds, seed=number))
                target.disk_bytes += disk_bytes(target.server.process) - before
    _report(result, targets)
    yield result


def _nginx(stack: ExitStack, folder: Path, root: Path, workers: int) -> _Target:
    own = folder / f"nginx-{workers}"
    started = stack.enter_context(nginx(own, root, workers))
    return _Target("nginx", workers, started, "/", own / "paths.txt", root)


def _mimicit(stack: ExitStack, folder: Path, data: Data, data_yaml: Path, workers: int) -> _Target:
    started = stack.enter_context(mimicit(data_yaml, data.catalogs, workers=workers))
    prefix = f"/v1/datasets/{DATASET}/images/"
    paths = folder / f"mimicit-{workers}.txt"
    return _Target("mimicit", workers, started, prefix, paths, data_yaml.parent)


def _check_same(targets: list[_Target], keys: list[str]) -> None:
    for key in keys:
        if len({get(f"{target.server.url}{target.prefix}{key}") for target in targets}) > 1:
            raise ValueError(f"the servers answer other bytes for {key}")


def _load(target: _Target, seconds: int, *, seed: int) -> Load:
    return load(target.server.url, target.paths, seconds, seed=seed)


def _report(result: Result, targets: list[_Target]) -> None:
    for peer, service in zip(targets[::2], targets[1::2], strict=True):
        shares = [
            ours.rate / theirs.rate for ours, theirs in zip(service.loads, peer.loads, strict=True)
        ]
        share = statistics.median(shares)
        for target, of_nginx in ((peer, "1"), (service, f"{share:.2f}")):
            rate = statistics.median(one.rate for one in target.loads)
            mb = statistics.median(one.bytes / one.seconds for one in target.loads) / 1e6
            p50, p99 = (
                f"{statistics.median(getattr(one, name) for one in target.loads) / 1e3:.2f}"
                for name in ("p50_us", "p99_us")
            )
            name = f"{target.name}, {target.workers} worker{'s' * (target.workers > 1)}"
            failed = f"{sum(one.errors for one in target.loads):,}"
            disk = f"{target.disk_bytes / 1e6:,.0f}"
            figures = (f"{rate:,.0f}", f"{mb:,.0f}", p50, p99, failed, disk, of_nginx)
            result.rows.append((name, *figures))
        workers = f"{service.workers} worker{'s' * (service.workers > 1)} each"
        what = f"images over HTTP, a quarter of nginx's rate, {workers}"
        measured = f"{share:.2f} (rounds {min(shares):.2f} to {max(shares):.2f})"
        result.goals.append(Goal(what, measured, share >= _SHARE))
