"""The catalog, opened: datasets by name, and ids and keys across all of them."""

from collections.abc import Callable, Iterator
from pathlib import Path

from app.catalog.dataset import Dataset, open_contexts
from app.catalog.duck import Database, ParquetRows
from app.catalog.image_source import ImageSource
from app.catalog.instructions import Instruction, InstructionTable
from app.catalog.manifest import Manifest, load_manifest
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
from app.parquet.reader import PageCache
from app.storage import LocalStorage, ObjectLimits, Objects, Storage, is_address
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
    ) -> None:
        manifest = manifest or load_manifest(folder)
        if manifest is None:
            raise CatalogError(f"there is no catalog in {folder}; run `mimicit index DATA.yaml`")
        self.revision = manifest.revision
        self._database = Database(duckdb_memory_bytes, threads=1)
        self._rows = ParquetRows(self._database)
        self._store = UnitStore(folder / "units")
        self._storage = LocalStorage(max_open_files)
        self._objects = ObjectStorage(Objects(objects or ObjectLimits()))
        self._cache = PageCache(page_cache_bytes)
        self._instructions: dict[str, InstructionTable] = {}
        self._images: dict[str, ImageSource] = {}
        self._contexts: dict[str, Table | None] = {}
        try:
            self.datasets = self._open_datasets(manifest)
        except FileNotFoundError as error:
            raise CatalogError(
                f"{error.filename} is gone: the catalog was built again since; restart the service"
            ) from error

    def close(self) -> None:
        """Unmap everything."""
        for contexts in self._contexts.values():
            if contexts is not None:
                contexts.close()
        for instructions in self._instructions.values():
            instructions.close()
        for images in self._images.values():
            images.close()
        self._database.close()

    @property
    def is_remote(self) -> bool:
        """Whether images lie in an object store, so that reading one is a round trip."""
        return any(images.reader.is_remote for images in self._images.values())

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
        # Datasets that differ in num_samples only are one unit, and LMDB opens a file once.
        if unit not in self._contexts:
            self._contexts[unit] = open_contexts(self._store.path(unit))
        return self._contexts[unit]

    def _open_instructions(self, unit: str) -> InstructionTable:
        if unit not in self._instructions:
            self._instructions[unit] = InstructionTable(self._store.path(unit), self._database)
        return self._instructions[unit]

    def _open_images(self, unit: str) -> ImageSource:
        if unit not in self._images:
            self._images[unit] = ImageSource(
                self._store.path(unit), self._choose_storage, self._cache, self._rows
            )
        return self._images[unit]

    def _choose_storage(self, path: str) -> Storage:
        return self._objects if is_address(path) else self._storage


def _ambiguous(noun: str, name: str, datasets: list[Dataset]) -> AmbiguousKeyError:
    names = [dataset.name for dataset in datasets]
    return AmbiguousKeyError(
        f"{len(names)} sources have an {noun} called {name[:200]!r}; ask one of the datasets "
        f"{', '.join(names[:20])}",
        names,
    )
