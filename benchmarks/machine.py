"""What the figures were measured on, and with; nothing that names the machine or a path."""

import os
import platform
import re
import subprocess
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import psutil

_PACKAGES = (
    *("mimicit", "duckdb", "pyarrow", "pandas", "dask", "pylance"),
    *("uvicorn", "uvloop", "httptools", "lmdb", "pybase64", "numpy", "pillow"),
    *("mimicit-client", "httpx", "webdataset", "datasets"),
)
_PROGRAMS = (("nginx", "-v"), ("wrk", "-v"))


def describe() -> list[str]:
    """Date, machine and versions, a line each."""
    memory = psutil.virtual_memory().total / 2**30
    load = os.getloadavg()[0]
    versions = [f"Python {platform.python_version()}"]
    versions += [f"{name} {found}" for name in _PACKAGES if (found := _package(name))]
    versions += [f"{name} {found}" for name, flag in _PROGRAMS if (found := _program(name, flag))]
    return [
        f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        f"{os.cpu_count()} cores ({_cpu()}), {memory:.0f} GiB of memory, {platform.system()} "
        f"{platform.machine()}; load average at the start {load:.1f}",
        ", ".join(versions),
    ]


def _cpu() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    found = re.search(r"model name\s*: (.*)", cpuinfo.read_text()) if cpuinfo.exists() else None
    return found[1].strip() if found else platform.processor()


def _package(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _program(name: str, flag: str) -> str | None:
    try:
        done = subprocess.run([name, flag], capture_output=True, text=True, check=False, timeout=5)
    except OSError:
        return None
    found = re.search(r"\d+\.\d+\.\d+", done.stdout + done.stderr)
    return found[0] if found else None
