"""A built catalog in an object store: put there once, fetched by every replica that serves it.

ADDRESS/catalog.json              the manifest, put last: what it names is all there
ADDRESS/units/NAME/FILE           the files of a unit
ADDRESS/units/NAME/files.json     their sizes and hashes, put last: a unit that has it is whole
"""

import re
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import msgspec
from xxhash import xxh3_128

from app.catalog.holds import add_hold, remove_unheld
from app.catalog.lock import build_lock
from app.catalog.manifest import FILE_NAME, Manifest, get_manifest, save_manifest
from app.catalog.units import FORMAT_VERSION, UnitStore
from app.errors import CatalogError, DamagedFileError, SourceError
from app.progress import Progress, Report
from app.storage import FileStamp, Objects
from app.storage.sources import open_source

_T = TypeVar("_T")

_FILES = "files.json"
_READ_BYTES = 1 << 20
# What comes out of a store is no path until it is seen to be none.
_UNIT_NAME = re.compile(r"[a-z]+-[0-9a-f]{32}")
_FILE_NAME = re.compile(r"[a-z]+\.[a-z]+")


class _File(msgspec.Struct, frozen=True):
    size_bytes: int
    hash: str  # xxh3, 128 bits


def publish_catalog(
    folder: Path, address: str, objects: Objects, report: Report, *, wait_seconds: float
) -> Manifest:
    """Put the catalog in `folder` behind the address, but for units that are there.

    Raises CatalogError if there is none, or if it can not be put there.
    """
    address = address.rstrip("/")
    store = UnitStore(folder / "units")
    try:
        with build_lock(folder, lambda who: report(Progress(f"waiting for {who}")), wait_seconds):
            manifest = get_manifest(folder)
            for name in sorted(manifest.units):
                if objects.get_small(f"{address}/units/{name}/{_FILES}") is None:
                    report(Progress(f"publishing {name}"))
                    _put_unit(store.path(name), f"{address}/units/{name}", objects)
            objects.put(f"{address}/{FILE_NAME}", (folder / FILE_NAME).read_bytes())
            return manifest
    except SourceError as error:
        raise CatalogError(f"the catalog can not be published: {error}") from error


def stamp_published(address: str, objects: Objects) -> FileStamp:
    """What the manifest behind the address is now; raises SourceError, and CatalogError if there is
    none."""
    address = address.rstrip("/")
    try:
        return objects.get_stamp(f"{address}/{FILE_NAME}")
    except DamagedFileError as error:
        raise _no_catalog(address) from error


def fetch_catalog(
    address: str, folder: Path, objects: Objects, report: Report, *, wait_seconds: float
) -> Manifest:
    """Make the catalog in `folder` the one behind the address, fetching units that are not there.

    Raises CatalogError if there is none of this format, or if it is not whole.
    """
    address = address.rstrip("/")
    store = UnitStore(folder / "units")
    try:
        with build_lock(folder, lambda who: report(Progress(f"waiting for {who}")), wait_seconds):
            manifest = _get_manifest(address, objects)
            for name in sorted(manifest.units):
                if not store.has(name):
                    _fetch_unit(store, name, f"{address}/units/{name}", objects, report)
            add_hold(folder, manifest)
            save_manifest(folder, manifest)
            remove_unheld(folder, manifest)
            return manifest
    except SourceError as error:
        raise CatalogError(f"the catalog can not be fetched: {error}") from error
    except OSError as error:
        raise CatalogError(f"{folder} can not be written: {error.strerror or error}") from error


def _put_unit(folder: Path, address: str, objects: Objects) -> None:
    files = {}
    for path in sorted(folder.iterdir()):
        hashed = xxh3_128()
        with open(path, "rb") as file:
            while data := file.read(_READ_BYTES):
                hashed.update(data)
        files[path.name] = _File(path.stat().st_size, hashed.hexdigest())
        objects.put(f"{address}/{path.name}", path)
    objects.put(f"{address}/{_FILES}", msgspec.json.encode(files))


def _no_catalog(address: str) -> CatalogError:
    return CatalogError(
        f"there is no catalog at {address}; run `mimicit index DATA.yaml --publish {address}`"
    )


def _get_manifest(address: str, objects: Objects) -> Manifest:
    data = objects.get_small(f"{address}/{FILE_NAME}")
    if data is None:
        raise _no_catalog(address)
    try:
        manifest = _decode(data, Manifest, f"{address}/{FILE_NAME}")
    except CatalogError as error:
        raise CatalogError(f"{error}; publish the catalog again") from error
    if manifest.format != FORMAT_VERSION:
        raise CatalogError(
            f"the catalog at {address} is of format {manifest.format}, and this version reads "
            f"{FORMAT_VERSION}; publish it again with this version"
        )
    if bad := [name for name in manifest.units if not _UNIT_NAME.fullmatch(name)]:
        raise CatalogError(f"{address}/{FILE_NAME} names no unit: {bad[0][:100]!r}")
    return manifest


def _fetch_unit(
    store: UnitStore, name: str, address: str, objects: Objects, report: Report
) -> None:
    data = objects.get_small(f"{address}/{_FILES}")
    if data is None:
        raise CatalogError(f"{address} is not whole; publish the catalog again")
    try:
        _fetch_files(store, name, address, data, objects, report)
    except (CatalogError, DamagedFileError) as error:  # while that is there no file is put again
        raise CatalogError(
            f"{error}; delete {address}/{_FILES} and publish the catalog again"
        ) from error


def _fetch_files(
    store: UnitStore, name: str, address: str, listed: bytes, objects: Objects, report: Report
) -> None:
    files = _decode(listed, dict[str, _File], f"{address}/{_FILES}")
    if not all(map(_FILE_NAME.fullmatch, files)):
        raise CatalogError(f"{address}/{_FILES} names what is no file of a unit")
    total_bytes = sum(file.size_bytes for file in files.values())
    done_bytes = 0

    def advance(count: int) -> None:
        nonlocal done_bytes
        done_bytes += count
        report(Progress(f"fetching {name}", done_bytes, total_bytes))

    with store.create(name) as folder:
        for file_name, file in files.items():
            _fetch_file(f"{address}/{file_name}", folder / file_name, file, objects, advance)


def _fetch_file(
    address: str, path: Path, file: _File, objects: Objects, advance: Callable[[int], None]
) -> None:
    hashed = xxh3_128()
    with open_source(address, objects, advance) as source, open(path, "wb") as target:
        size_bytes = source.stamp.size_bytes
        for offset in range(0, size_bytes, _READ_BYTES):
            data = source.read(offset, min(_READ_BYTES, size_bytes - offset))
            hashed.update(data)
            target.write(data)
    if file != _File(size_bytes, hashed.hexdigest()):
        raise CatalogError(f"{address} holds other bytes than were published")


def _decode(data: bytes, kind: type[_T], what: str) -> _T:
    try:
        return msgspec.json.decode(data, type=kind)
    except msgspec.MsgspecError as error:
        raise CatalogError(f"{what} can not be read: {error}") from error
