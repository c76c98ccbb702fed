"""Everything that breaks on one machine, under load."""

import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from benchmarks.endurance.pack import Pack, write_pack
from benchmarks.endurance.phases import COLUMNS, Fault, run_faults
from benchmarks.endurance.tally import CUT_OFF, NOT_TAKEN, UNANSWERED, Judge
from benchmarks.endurance.watch import list_workers
from benchmarks.processes import free_port, get
from benchmarks.report import Result
from benchmarks.servers import Server, mimicit

T = TypeVar("T")

_WORKERS = 2
_DISK = "64m"
_WAIT_SECONDS = 60.0
_CHANGED = frozenset({"source_changed", "item source_changed", "substituted"})


@dataclass(slots=True)
class _Site:
    """A running service, whose data YAML and files can be changed."""

    folder: Path
    packs: list[Pack]
    port: int = field(default_factory=free_port)
    stack: ExitStack = field(default_factory=ExitStack)
    server: Server | None = None

    @property
    def catalogs(self) -> Path:
        return self.folder / "catalogs"

    def start(self) -> None:
        started = mimicit(
            self.folder / "data.yaml", self.catalogs, port=self.port, workers=_WORKERS
        )
        self.server = self.stack.enter_context(started)

    def stop(self) -> None:
        """As an operator does: it finishes what is in flight, and its exit status is 0."""
        assert self.server is not None
        self.server.process.send_signal(signal.SIGTERM)
        if status := self.server.process.wait(_WAIT_SECONDS):
            raise RuntimeError(f"the service ended with status {status}")
        self.stack.pop_all().close()

    def kill_worker(self) -> None:
        assert self.server is not None
        process = self.server.process
        victim = list_workers(process)[0]
        victim.kill()
        _wait(lambda: victim not in (now := list_workers(process)) and len(now) == _WORKERS)

    def mount(self, text: str, outcome: str) -> str:
        """Put another data YAML in place, have it loaded, and wait for what comes of it: what the
        service says of it."""
        assert self.server is not None
        new = self.folder / "data.new"
        new.write_text(text)
        new.replace(self.folder / "data.yaml")
        number = self.read_reload()["number"]
        self.server.process.send_signal(signal.SIGHUP)

        def find_end() -> dict[str, Any] | None:
            reload = self.read_reload()
            return reload if reload["number"] > number and reload["outcome"] != "running" else None

        reload = _wait(find_end)
        if reload["outcome"] != outcome:
            raise RuntimeError(f"not {outcome}: {reload}")
        return str(reload["message"])

    def read_reload(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(get(f"http://127.0.0.1:{self.port}/readyz"))["reload"]
        return found


def _wait(find: Callable[[], T | None]) -> T:
    """What is found, as soon as it is."""
    deadline = time.monotonic() + _WAIT_SECONDS
    while not (found := find()):
        if time.monotonic() > deadline:
            raise TimeoutError("it did not come to that")
        time.sleep(0.1)
    return found


def run(seconds: float, connections: int, pictures: int) -> Iterator[Result]:
    """One fault after the other, each for so long."""
    result = Result(
        "Faults under load",
        f"{connections} connections ask as in the mixed load, two workers; what is broken stays so "
        f"for {seconds:.0f} s. Failed requests are counted by reason: `not taken` is a connection "
        "that was refused, `unanswered` one that ended before the answer began, `cut off` one that "
        "ended in its middle, `item` an item of a lookup, `substituted` a batch with another "
        "sample in place of one; the others are the codes of errors.",
        COLUMNS,
    )
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        packs = [write_pack(folder / f"version{n}", pictures, n) for n in range(2)]
        site = _Site(folder, packs)
        (folder / "data.yaml").write_text(packs[0].data_yaml.read_text())
        with _small_disk(site.catalogs) as is_small:
            site.start()
            faults = list(_list_faults(site, connections))
            if is_small:
                faults.append(_full_disk(site))
            else:
                result.notes.append("Not run: a full disk; this user may not mount one.")
            try:
                run_faults(result, faults, site.port, Judge(packs), connections, seconds)
            finally:
                site.stack.close()
    yield result


def _list_faults(site: _Site, connections: int) -> Iterator[Fault]:
    ended = frozenset({UNANSWERED, CUT_OFF})
    yield Fault("a worker is killed", site.kill_worker, _nothing, ended, connections)
    pictures = site.packs[0].file("SNAPPY")
    away = pictures.with_suffix(".away")
    other = site.packs[1].file("SNAPPY")
    yield Fault(
        "pictures are replaced in place",
        lambda: (pictures.rename(away), shutil.copy(other, pictures)),
        lambda: away.rename(pictures),
        _CHANGED,
    )
    yield Fault(
        "pictures are deleted",
        lambda: pictures.rename(away),
        lambda: away.rename(pictures),
        _CHANGED,
    )

    def cut_off() -> None:
        shutil.copy2(pictures, away)
        os.truncate(pictures, 100_000)

    yield Fault("pictures are cut off", cut_off, lambda: away.replace(pictures), _CHANGED)
    texts = site.packs[0].data_yaml.with_name("SNAPPY.json")
    hidden = texts.with_suffix(".away")
    yield Fault(
        "the instructions JSON is deleted",
        lambda: texts.rename(hidden),
        lambda: hidden.rename(texts),
    )
    first, second = (pack.data_yaml.read_text() for pack in site.packs)
    yield Fault(
        "other data are loaded, and the first again",
        partial(site.mount, second, "swapped"),
        partial(site.mount, first, "swapped"),
    )
    yield Fault(
        "a bad data YAML is loaded",
        partial(site.mount, "IMAGE_TEXT: [", "failed"),
        partial(site.mount, first, "unchanged"),
    )
    yield Fault(
        "the service is stopped and started",
        site.stop,
        site.start,
        frozenset({NOT_TAKEN, UNANSWERED}),
    )


def _full_disk(site: _Site) -> Fault:
    filler = site.catalogs / "filler"

    def fill() -> None:
        with open(filler, "wb", buffering=0) as file:
            try:
                while True:
                    file.write(bytes(4096))
            except OSError:
                pass
        message = site.mount(site.packs[1].data_yaml.read_text(), "failed")
        if "No space left on device" not in message:
            raise RuntimeError(f"it says {message}")

    def make_room() -> None:
        filler.unlink()
        site.mount(site.packs[0].data_yaml.read_text(), "unchanged")

    return Fault("the catalogs' disk is full while other data are indexed", fill, make_room)


@contextmanager
def _small_disk(folder: Path) -> Iterator[bool]:
    """A file system of 64 MB at the folder, if this user may mount one; whether that is so."""
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={_DISK}", "tmpfs", str(folder)]
    is_mounted = not os.getuid() and not subprocess.run(mount, capture_output=True).returncode
    try:
        yield is_mounted
    finally:
        if is_mounted:
            subprocess.run(["umount", "-l", str(folder)], check=True)


def _nothing() -> None:
    pass
