"""The catalog, opened: datasets by name, and ids and keys across all of them."""

from collections.abc import Callable, Iterator
from copy import copy
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

from app.catalog.dataset import Dataset, open_contexts
from app.catalog.duck import Database, ParquetRows
from app.catalog.holds import Hold
from app.catalog.image_source import ImageSource
from app.catalog.instructions import Instruction, InstructionTable
from app.catalog.manifest import Manifest, get_manifest
from app.catalog.table import Table
from app.catalog.units import UnitStore
from app.errors import (
    AmbiguousKeyError,
    CatalogError,
    UnknownDatasetError,
    UnknownImageError,
    UnknownInstructionError,
)
from app.group import Group
from app.parquet.place import Place
from app.parquet.reader import CountRead, PageCache, ignore_read
from app.storage import LocalStorage, ObjectLimits, Objects, Storage, is_address
from app.storage.counts import StoreCounts
from app.storage.object_storage import ObjectStorage


class Catalog:
    """What a manifest names, mapped: opening it reads a few small files and copies nothing.

    Instructions, images and problems are derived from the sources; the sources themselves are read
    only by `ImageSource.read`. Without a `manifest` it is the one in `folder` now. Raises
    CatalogError if there is none, or if what it names was removed by later builds.
    """

    def __init__(
        self,
        folder: Path,
        manifest: Manifest | None = None,
        *,
        max_open_files: int,
        page_cache_bytes: int,
        duckdb_memory_bytes: int,
        objects: ObjectLimits | None = None,
        count_read: CountRead = ignore_read,
        store_counts: StoreCounts | None = None,
    ) -> None:
        manifest = manifest or get_manifest(folder)
        self.folder = folder
        self._count_read = count_read
        self._database = Database(duckdb_memory_bytes, threads=1)
        self._rows = ParquetRows(self._database)
        self._store = UnitStore(folder / "units")
        self._storage = LocalStorage(max_open_files)
        self._objects = ObjectStorage(Objects(objects or ObjectLimits(), store_counts))
        self._cache = PageCache(page_cache_bytes)
        # What is open, by unit, in this and in any catalog opened from it: LMDB opens a file once.
        self._opened: WeakValueDictionary[str, Any] = WeakValueDictionary()
        self._open(manifest)

    def _open(self, manifest: Manifest) -> None:
        self.manifest = manifest
        self.revision = manifest.revision
        self.built_seconds = manifest.built_seconds
        self._hold = Hold(self.folder, manifest)
        try:
            self.datasets = self._open_datasets(manifest)
        except FileNotFoundError as error:
            raise CatalogError(
                f"{error.filename} is gone: the catalog was built again since; restart the service"
            ) from error

    def reopen(self, manifest: Manifest) -> "Catalog":
        """The catalog of another manifest of the folder, open beside this one.

        They share the units that both have, open files, caches and DuckDB. One that nobody refers
        to any more is unmapped by that, and its units may be removed. Raises what opening does.
        """
        other = copy(self)
        other._open(manifest)
        self._storage.let_go()
        self._objects.let_go()
        return other

    def stop(self) -> None:
        """Let no read wait any longer for a store that fails."""
        self._objects.close()

    def close(self) -> None:
        """Unmap everything, also of the catalogs that were opened from this one."""
        for unit in list(self._opened.values()):
            unit.close()
        self._hold.close()
        self._database.close()

    def get_dataset(self, name: str) -> Dataset:
        """The dataset of that name; raises UnknownDatasetError."""
        try:
            return self.datasets[name]
        except KeyError:
            known = ", ".join(list(self.datasets)[:20])
            raise UnknownDatasetError(
                f"no dataset is called {name[:200]!r}; there are {known}"
            ) from None

    def get_instruction(self, id: str) -> tuple[Dataset, Instruction]:
        """The instruction of that id, wherever it is, and the first dataset of its source.

        Raises UnknownInstructionError, or AmbiguousKeyError if more than one file has it.
        """
        found = [
            (dataset, instruction)
            for dataset in self._first_datasets(lambda dataset: dataset.instructions)
            if (instruction := dataset.instructions.find(id)) is not None
        ]
        if not found:
            raise UnknownInstructionError(f"no instruction has the id {id[:200]!r}")
        if len(found) > 1:
            raise _ambiguous("instruction", id, [dataset for dataset, _ in found])
        return found[0]

    def get_image(self, key: str) -> tuple[ImageSource, Place]:
        """The place of the image of that key, in whatever source it is.

        Raises UnknownImageError, or AmbiguousKeyError if more than one source has it.
        """
        found = [
            (dataset, dataset.images, place)
            for dataset in self._first_datasets(lambda dataset: dataset.images)
            if dataset.images and (place := dataset.images.find_place(key)) is not None
        ]
        if not found:
            raise UnknownImageError(f"no image has the key {key[:200]!r}")
        if len(found) > 1:
            raise _ambiguous("image", key, [dataset for dataset, _, _ in found])
        return found[0][1:]

    def list_file_units(self, images: ImageSource) -> list[Path]:
        """The units of the source's files, in the order of its facts."""
        entry = next(one for one in self.manifest.datasets if one.images == images.folder.name)
        return [self._store.path(name) for name in entry.image_files]

    def _first_datasets(self, source: Callable[[Dataset], object]) -> Iterator[Dataset]:
        """The datasets, but of those that share a source only the first."""
        seen = set()
        for dataset in self.datasets.values():
            if id(source(dataset)) not in seen:
                seen.add(id(source(dataset)))
                yield dataset

    def _open_datasets(self, manifest: Manifest) -> dict[str, Dataset]:
        datasets = {}
        for entry in manifest.datasets:
            images = None if entry.images is None else self._open_images(entry.images)
            datasets[entry.name] = Dataset(
                self._store.path(entry.unit),
                entry.name,
                Group(entry.group),
                entry.num_samples,
                entry.task_description,
                self._open_instructions(entry.instructions),
                images,
                self._open_contexts(entry.unit),
            )
        return datasets

    def _open_contexts(self, unit: str) -> Table | None:
        # Datasets that differ in num_samples only are one unit.
        found: Table | None = self._opened.get(unit) or open_contexts(self._store.path(unit))
        if found is not None:
            self._opened[unit] = found
        return found

    def _open_instructions(self, unit: str) -> InstructionTable:
        found: InstructionTable | None = self._opened.get(unit)
        if found is None:
            found = InstructionTable(self._store.path(unit), self._database)
            self._opened[unit] = found
        return found

    def _open_images(self, unit: str) -> ImageSource:
        found: ImageSource | None = self._opened.get(unit)
        if found is None:
            found = ImageSource(
                self._store.path(unit),
                self._choose_storage,
                self._cache,
                self._rows,
                self._count_read,
            )
            self._opened[unit] = found
        return found

    def _choose_storage(self, path: str) -> Storage:
        return self._objects if is_address(path) else self._storage


def _ambiguous(noun: str, name: str, datasets: list[Dataset]) -> AmbiguousKeyError:
    names = [dataset.name for dataset in datasets]
    return AmbiguousKeyError(
        f"{len(names)} sources have an {noun} called {name[:200]!r}; ask one of the datasets "
        f"{', '.join(names[:20])}",
        names,
    )
