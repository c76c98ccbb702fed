"""Everything that breaks between the service and an object store, under load."""

import os
import sys
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from unittest import mock

from benchmarks.endurance.pack import Pack, write_pack
from benchmarks.endurance.phases import COLUMNS, Fault, run_faults
from benchmarks.endurance.tally import Judge
from benchmarks.report import Result
from benchmarks.servers import mimicit

# The S3 server and the proxy that makes it fail are the tests' own.
sys.path.append(str(Path(__file__).parents[2] / "tests"))
from object_store import Folder, Proxy, open_proxy, start_store

_WORKERS = 2
_FOR_EVER = 1 << 60
_SETTINGS = {
    "MIMICIT_RANGE_CACHE_BYTES": "0",  # so that every picture is asked for
    "MIMICIT_OBJECT_TIMEOUT_SECONDS": "2",
}
_CHANGED = frozenset({"source_changed", "item source_changed", "substituted"})
_UNAVAILABLE = frozenset({"source_unavailable", "item source_unavailable", "overloaded"})


def run(seconds: float, connections: int, pictures: int) -> Iterator[Result]:
    """One fault after the other, each for so long."""
    result = Result(
        "An object store's faults under load",
        f"{connections} connections ask as in the mixed load, two workers, data in a SeaweedFS on "
        "the same machine behind a proxy that makes it fail, no ranges kept on disk; each for "
        f"{seconds:.0f} s. Failed requests are counted as above.",
        COLUMNS,
    )
    with (
        tempfile.TemporaryDirectory() as name,
        start_store(Path(tempfile.mkdtemp(dir=name))) as store,
        open_proxy(store.port) as proxy,
        mock.patch.dict(os.environ, store.environment(proxy.port) | _SETTINGS),
    ):
        pack = write_pack(Path(name) / "near", pictures)
        other = write_pack(Path(name) / "other", pictures, version=1)
        folder = store.make_folder()
        folder.put_folder(pack.data_yaml.parent)
        far = Path(name) / "far.yaml"
        near = str(pack.data_yaml.parent.resolve())
        far.write_text(pack.data_yaml.read_text().replace(near, folder.address))
        with mimicit(far, Path(name) / "catalogs", workers=_WORKERS) as server:
            faults = _list_faults(proxy, folder, pack, other)
            run_faults(result, faults, server.port, Judge([pack]), connections, seconds)
    yield result


def _list_faults(proxy: Proxy, folder: Folder, pack: Pack, other: Pack) -> Iterator[Fault]:
    faults = proxy.faults

    def have(name: str, value: object) -> None:
        setattr(faults, name, value)

    yield Fault(
        "each answer of the store comes 0.2 s late",
        lambda: have("slow_seconds", 0.2),
        lambda: have("slow_seconds", 0),
    )
    for name, what in (("cut_off", "cut off"), ("fail", "a 500")):
        yield Fault(
            f"ten answers of the store are {what}",
            partial(have, name, 10),
            partial(have, name, 0),
        )
    yield Fault(
        "three answers of the store stop in their middle",
        lambda: have("stall", 3),
        lambda: have("stall", 0),
    )
    yield Fault(
        "the store answers 500 only",
        lambda: have("fail", _FOR_EVER),
        lambda: have("fail", 0),
        _UNAVAILABLE,
    )
    yield Fault(
        "the store names another ETag",
        lambda: have("wrong_etag", True),
        lambda: have("wrong_etag", False),
        _CHANGED,
    )
    file = "SNAPPY.parquet"
    yield Fault(
        "an object is replaced",
        lambda: folder.put(file, other.file("SNAPPY")),
        lambda: folder.put(file, pack.file("SNAPPY")),
        _CHANGED,
    )
    yield Fault(
        "an object is deleted",
        lambda: folder.delete(file),
        lambda: folder.put(file, pack.file("SNAPPY")),
        _CHANGED,
    )
