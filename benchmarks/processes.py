"""Processes of their own: commands whose time and memory are measured, and servers."""

import os
import re
import resource
import signal
import socket
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

MIMICIT = (sys.executable, "-m", "app")
_SAMPLE_SECONDS = 0.02
_LONGEST_SECONDS = 1800.0
_START_SECONDS = 60.0
_STOP_SECONDS = 20.0


@dataclass(frozen=True, slots=True)
class Run:
    """How long a command took, and the peak memory of its process tree."""

    seconds: float
    cpu_seconds: float  # of all its processes
    largest_bytes: int  # of the one process that took most: the kernel's own high-water mark
    largest_own_bytes: int  # the same without mapped files, which the kernel can drop; sampled
    total_bytes: int  # of all of them at once, sampled; pages they share count for each


def run_measured(command: Sequence[str]) -> Run:
    """Run a command to its end; raises RuntimeError with what it wrote if it fails."""
    cpu_before = _cpu_seconds_of_ended()
    with tempfile.TemporaryFile() as output:
        start = time.perf_counter()
        process = psutil.Popen(list(command), stdout=output, stderr=output, start_new_session=True)
        peaks: dict[int, int] = {}
        own = total = 0
        try:
            while process.poll() is None and time.perf_counter() - start < _LONGEST_SECONDS:
                now = {pid: memory for pid in _tree(process) if (memory := memory_of(pid))}
                total = max(total, sum(memory["VmRSS"] for memory in now.values()))
                own = max(own, *(memory["RssAnon"] for memory in now.values()), 0)
                peaks |= {pid: memory["VmHWM"] for pid, memory in now.items()}
                time.sleep(_SAMPLE_SECONDS)
            seconds = time.perf_counter() - start
        finally:
            stop(process)
        if process.returncode:
            output.seek(0)
            raise RuntimeError(f"{command} failed:\n{output.read().decode()[-2000:]}")
    cpu_seconds = _cpu_seconds_of_ended() - cpu_before
    return Run(seconds, cpu_seconds, max(peaks.values(), default=0), own, total)


def _cpu_seconds_of_ended() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def _tree(process: psutil.Popen) -> list[int]:
    try:
        return [process.pid, *(child.pid for child in process.children(recursive=True))]
    except psutil.NoSuchProcess:
        return []


def memory_of(pid: int) -> dict[str, int]:
    """A process's resident memory in bytes, now and at most; empty if it has ended."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return {}
    found = re.findall(r"^(VmRSS|VmHWM|RssAnon):\s+(\d+) kB", status, re.MULTILINE)
    return {name: int(kib) << 10 for name, kib in found}


def stop(process: psutil.Popen) -> None:
    """End a process that was started here, and what it started: they are a group of their own."""
    if process.poll() is None:
        process.terminate()
    with suppress(psutil.TimeoutExpired):
        process.wait(_STOP_SECONDS)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


@contextmanager
def server(command: Sequence[str], url: str) -> Iterator[psutil.Popen]:
    """A server for as long as the block lasts; it begins when `url` answers."""
    with tempfile.TemporaryFile() as output:
        process = psutil.Popen(list(command), stdout=output, stderr=output, start_new_session=True)
        try:
            _wait_for(process, url)
            yield process
        except TimeoutError:
            output.seek(0)
            raise RuntimeError(
                f"{command} did not start:\n{output.read().decode()[-2000:]}"
            ) from None
        finally:
            stop(process)


def _wait_for(process: psutil.Popen, url: str) -> None:
    end = time.monotonic() + _START_SECONDS
    while time.monotonic() < end and process.poll() is None:
        try:
            get(url)
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise TimeoutError


def get(url: str) -> bytes:
    """The body of a URL of this machine; raises OSError, of which HTTPError is one."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(url, timeout=10) as answer:
        body: bytes = answer.read()
        return body


def cpu_seconds(process: psutil.Popen) -> float:
    """What a process and those it started have had of processors."""
    found = 0.0
    for pid in _tree(process):
        with suppress(psutil.NoSuchProcess):
            times = psutil.Process(pid).cpu_times()
            found += times.user + times.system
    return found


def disk_bytes(process: psutil.Popen) -> int:
    """What a process and those it started have had read from disks: what was not in memory."""
    return _disk_bytes(_tree(process))


def own_disk_bytes() -> int:
    """What this process has had read from disks."""
    return _disk_bytes([os.getpid()])


def _disk_bytes(pids: Sequence[int]) -> int:
    found = 0
    for pid in pids:
        with suppress(OSError):
            counters = Path(f"/proc/{pid}/io").read_text()
            found += int(re.findall(r"^read_bytes: (\d+)$", counters, re.MULTILINE)[0])
    return found


def free_port() -> int:
    """A port of the loopback address that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port: int = listening.getsockname()[1]
        return port


def warm(folder: Path) -> None:
    """Read every file below a folder, so that what is measured next finds them in memory."""
    buffer = bytearray(8 << 20)
    for path in [folder] if folder.is_file() else folder.rglob("*"):
        if path.is_file():
            with path.open("rb", buffering=0) as file:
                while file.readinto(buffer):
                    pass
