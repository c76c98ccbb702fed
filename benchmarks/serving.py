"""Random images over HTTP, against nginx with the same pictures as files."""

import statistics
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from shutil import which

import msgspec
import psutil

from benchmarks.catalogs import index
from benchmarks.data import Data
from benchmarks.processes import MIMICIT, disk_bytes, free_port, get, server, warm
from benchmarks.report import Goal, Result
from benchmarks.writers import DATASET

_SHARE = 0.25
_CONNECTIONS = 16
# So few that none has time to leave the page cache: this machine drops what is not asked for in
# some seconds, and nginx's one thread then waits for the disk, for seconds, with all its clients.
_PICTURES = 2_000
_WORKERS = (1, 2)
_NGINX = """
worker_processes {workers}; daemon off; pid {folder}/nginx.pid; error_log {folder}/error.log;
{user}
events {{ worker_connections 512; }}
http {{
  access_log off; sendfile on; keepalive_requests 1000000000;
  open_file_cache max=100000 inactive=600s; default_type image/jpeg;
  client_body_temp_path {folder}; proxy_temp_path {folder}; fastcgi_temp_path {folder};
  uwsgi_temp_path {folder}; scgi_temp_path {folder};
  server {{ listen 127.0.0.1:{port}; root {root}; }}
}}
"""


class Load(msgspec.Struct):
    """What wrk says of one round."""

    requests: int
    seconds: float
    bytes: int
    errors: int
    p50_us: float
    p99_us: float

    @property
    def rate(self) -> float:
        """Requests a second."""
        return self.requests / self.seconds


@dataclass(slots=True)
class _Target:
    name: str
    workers: int
    url: str
    prefix: str
    paths: Path
    served: Path
    process: psutil.Popen
    disk_bytes: int = 0
    loads: list[Load] = field(default_factory=list)


def run(data: Data, quick: bool) -> Iterator[Result]:
    """Rounds in which wrk asks each server in turn."""
    result = Result(
        "Images over HTTP",
        f"`wrk -t1 -c{_CONNECTIONS}` asks at random for {_PICTURES:,} images of pandas' file, all "
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
                _start_nginx(stack, Path(folder), files, workers),
                _start_mimicit(stack, Path(folder), data, images.data_yaml, workers),
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
                before = disk_bytes(target.process)
                target.loads.append(_load(target, seconds, seed=number))
                target.disk_bytes += disk_bytes(target.process) - before
    _report(result, targets)
    yield result


def _start_nginx(stack: ExitStack, folder: Path, root: Path, workers: int) -> _Target:
    port = free_port()
    own = folder / f"nginx-{workers}"
    own.mkdir()
    # As root it would read the files as another user, who may not enter a temporary folder.
    user = "user root;" if Path("/proc/self").owner() == "root" else ""
    config = own / "nginx.conf"
    text = _NGINX.format(workers=workers, folder=own, port=port, root=root, user=user)
    config.write_text(text)
    url = f"http://127.0.0.1:{port}"
    command = ["nginx", "-p", str(own), "-c", str(config)]
    process = stack.enter_context(server(command, f"{url}/{next(root.iterdir()).name}"))
    return _Target("nginx", workers, url, "/", own / "paths.txt", root, process)


def _start_mimicit(
    stack: ExitStack, folder: Path, data: Data, data_yaml: Path, workers: int
) -> _Target:
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    options = ["--port", str(port), "--workers", str(workers), "--catalog-dir", str(data.catalogs)]
    command = [*MIMICIT, "serve", str(data_yaml), *options]
    process = stack.enter_context(server(command, f"{url}/readyz"))
    prefix = f"/v1/datasets/{DATASET}/images/"
    paths = folder / f"mimicit-{workers}.txt"
    return _Target("mimicit", workers, url, prefix, paths, data_yaml.parent, process)


def _check_same(targets: list[_Target], keys: list[str]) -> None:
    for key in keys:
        if len({get(f"{target.url}{target.prefix}{key}") for target in targets}) > 1:
            raise ValueError(f"the servers answer other bytes for {key}")


def _load(target: _Target, seconds: int, *, seed: int) -> Load:
    script = Path(__file__).with_name("random_paths.lua")
    command = ["wrk", "-t1", f"-c{_CONNECTIONS}", f"-d{seconds}s", "-s", str(script)]
    # Not wrk's 2 s: on busy cores a connection to nginx waits longer for its turn now and then.
    command += ["--timeout", "10s", target.url, "--", str(target.paths), str(seed)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=seconds + 60)
    return msgspec.json.decode(done.stdout.splitlines()[-1], type=Load)


def _report(result: Result, targets: list[_Target]) -> None:
    for nginx, mimicit in zip(targets[::2], targets[1::2], strict=True):
        shares = [
            ours.rate / theirs.rate for ours, theirs in zip(mimicit.loads, nginx.loads, strict=True)
        ]
        share = statistics.median(shares)
        for target, of_nginx in ((nginx, "1"), (mimicit, f"{share:.2f}")):
            rate = statistics.median(load.rate for load in target.loads)
            mb = statistics.median(load.bytes / load.seconds for load in target.loads) / 1e6
            p50, p99 = (
                f"{statistics.median(getattr(load, name) for load in target.loads) / 1e3:.2f}"
                for name in ("p50_us", "p99_us")
            )
            name = f"{target.name}, {target.workers} worker{'s' * (target.workers > 1)}"
            failed = f"{sum(load.errors for load in target.loads):,}"
            disk = f"{target.disk_bytes / 1e6:,.0f}"
            figures = (f"{rate:,.0f}", f"{mb:,.0f}", p50, p99, failed, disk, of_nginx)
            result.rows.append((name, *figures))
        workers = f"{mimicit.workers} worker{'s' * (mimicit.workers > 1)} each"
        what = f"images over HTTP, a quarter of nginx's rate, {workers}"
        measured = f"{share:.2f} (rounds {min(shares):.2f} to {max(shares):.2f})"
        result.goals.append(Goal(what, measured, share >= _SHARE))
