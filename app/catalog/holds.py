"""Who uses which catalog: a shared lock on a file for each manifest, which dies with its holder.

The file `holds/FINGERPRINT` names the manifest's units. A process that has them open holds it
shared; who removes units first has the file for itself, so what is used is never removed.
"""

import fcntl
import os
from pathlib import Path

import msgspec

from app.catalog.manifest import Manifest
from app.catalog.units import UnitStore, fingerprint, replace_file


class Hold:
    """Keeps the units of a manifest from being removed, for as long as it is there.

    Where the file is not there and can not be made, as in a folder that is read-only, nothing is
    held: whoever may remove units made it when building.
    """

    def __init__(self, folder: Path, manifest: Manifest) -> None:
        self._descriptor: int | None = None
        path = folder / "holds" / _name(manifest)
        while self._descriptor is None:
            try:
                if not path.exists():
                    add_hold(folder, manifest)
                descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            except FileNotFoundError:
                continue  # it was removed this moment
            except OSError:
                return
            try:
                fcntl.flock(descriptor, fcntl.LOCK_SH)  # waits for who is removing
            except OSError:  # a file system without locks
                os.close(descriptor)
                return
            if is_at(descriptor, path):
                self._descriptor = descriptor
            else:
                os.close(descriptor)

    def close(self) -> None:
        """Let go."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def __del__(self) -> None:
        self.close()


def add_hold(folder: Path, manifest: Manifest) -> None:
    """Make the file by which that manifest's units can be held."""
    holds = folder / "holds"
    holds.mkdir(parents=True, exist_ok=True)
    replace_file(holds / _name(manifest), msgspec.json.encode(sorted(manifest.units)))


def remove_unheld(folder: Path, manifest: Manifest) -> bool:
    """Remove the units that neither `manifest` has nor anybody holds; whether any is left.

    For the one builder only.
    """
    mine: list[tuple[int, Path]] = []
    kept: set[str] = set()
    try:
        for path in list((folder / "holds").iterdir()):
            if path.name == _name(manifest):
                continue
            if (descriptor := _take(path)) is None:
                kept |= _read_units(path)
            else:
                mine.append((descriptor, path))
        UnitStore(folder / "units").remove_all_but(manifest.units | kept)
        for _, path in mine:
            path.unlink(missing_ok=True)
    finally:
        for descriptor, _ in mine:
            os.close(descriptor)
    return not kept <= manifest.units


def _name(manifest: Manifest) -> str:
    return fingerprint(sorted(manifest.units))


def _take(path: Path) -> int | None:
    """A descriptor that has the file for itself, or None if somebody holds it."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        return None
    return descriptor


def _read_units(path: Path) -> set[str]:
    try:
        return msgspec.json.decode(path.read_bytes(), type=set[str])
    except (FileNotFoundError, msgspec.MsgspecError):  # what crashed builders left
        return set()


def is_at(descriptor: int, path: Path) -> bool:
    """Whether the descriptor is of the file that is at the path now."""
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path))
    except FileNotFoundError:
        return False
