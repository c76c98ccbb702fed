"""catalog.json: the one file that says which units make up the catalog; replaced at once."""

from pathlib import Path

import msgspec
from xxhash import xxh3_128_hexdigest

from app.catalog.units import FORMAT_VERSION, replace_file
from app.errors import CatalogError

FILE_NAME = "catalog.json"


class DatasetEntry(msgspec.Struct, frozen=True):
    """A dataset as the data YAML defines it, and the names of its units."""

    name: str
    group: str
    num_samples: int | None
    task_description: str | None
    instructions: str
    image_files: list[str]
    images: str | None
    unit: str

    @property
    def units(self) -> list[str]:
        """Every unit it needs."""
        return [self.instructions, *self.image_files, self.unit, *filter(None, [self.images])]


class Manifest(msgspec.Struct, frozen=True):
    """The catalog: its format version, its revision, its datasets in the data YAML's order, and
    when it was built, in Unix time (0: by a version that did not say)."""

    format: int
    revision: str
    datasets: list[DatasetEntry]
    built_seconds: int = 0

    @property
    def units(self) -> set[str]:
        """Every unit that its datasets need."""
        return {name for entry in self.datasets for name in entry.units}


def load_manifest(folder: Path) -> Manifest | None:
    """The manifest of the catalog in `folder`; None if there is none of this format version."""
    try:
        data = (folder / FILE_NAME).read_bytes()
        manifest = msgspec.json.decode(data, type=Manifest)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.MsgspecError) as error:
        raise CatalogError(
            f"{folder / FILE_NAME} can not be read ({error}); delete the folder and index again"
        ) from error
    return manifest if manifest.format == FORMAT_VERSION else None


def get_manifest(folder: Path) -> Manifest:
    """The manifest of the catalog in `folder`; raises CatalogError if there is none."""
    manifest = load_manifest(folder)
    if manifest is None:
        raise CatalogError(f"there is no catalog in {folder}; run `mimicit index DATA.yaml`")
    return manifest


def save_manifest(folder: Path, manifest: Manifest) -> None:
    """Put the manifest in place of the one before."""
    replace_file(folder / FILE_NAME, msgspec.json.format(msgspec.json.encode(manifest)))


def compute_revision(meaning: object, digests: list[str]) -> str:
    """What the catalog holds, as 32 hexadecimal digits: no path and no time goes into it."""
    return xxh3_128_hexdigest(msgspec.json.encode([FORMAT_VERSION, meaning, digests]))
