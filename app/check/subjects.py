"""What problems are of: instructions files, image sources and datasets, each listed once, however
many datasets share it."""

import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple, TypeVar

from app.catalog.catalog import Catalog
from app.catalog.dataset import Dataset
from app.catalog.image_source import ImageSource
from app.catalog.instructions import InstructionTable

T = TypeVar("T")

_NAMED_DATASETS = 3


class Subject(NamedTuple):
    """A file or a folder of them, the unit that is made of it, and the datasets that have it.

    What several files have between them has no path.
    """

    path: str | None
    folder: Path
    datasets: list[str]

    @property
    def first(self) -> str | None:
        """One of the datasets, any of which has it; None if each has a part."""
        return None if self.path is None else self.datasets[0]

    @property
    def name(self) -> str:
        """The datasets, or the first of them."""
        more = len(self.datasets) - _NAMED_DATASETS
        first = ", ".join(self.datasets[:_NAMED_DATASETS])
        return f"{first} and {more} more" if more > 0 else first


def list_files(catalog: Catalog) -> Iterator[tuple[InstructionTable, Subject]]:
    """The instructions files; one with two sets of key rules is there twice."""
    for file, datasets in _share(catalog, lambda dataset: dataset.instructions):
        yield file, Subject(file.facts.path, file.folder, _names(datasets))


def list_sources(catalog: Catalog) -> Iterator[tuple[ImageSource, Subject, list[Dataset]]]:
    """The image sources, and their datasets."""
    for source, datasets in _share(catalog, lambda dataset: dataset.images):
        if source is not None:
            yield source, Subject(find_path(source), source.folder, _names(datasets)), datasets


def list_joined(catalog: Catalog) -> Iterator[tuple[Dataset, Subject]]:
    """The datasets; of those that differ in num_samples only, the first, with all their names."""
    for folder, datasets in _share(catalog, lambda dataset: dataset.folder):
        path = datasets[0].instructions.facts.path
        yield datasets[0], Subject(path, folder, _names(datasets))


def find_path(source: ImageSource) -> str:
    """The file that the source is, or the folder that its files are in."""
    paths = [file.path for file in source.facts.files]
    return paths[0] if len(paths) == 1 else os.path.commonpath(list(map(os.path.dirname, paths)))


def _share(catalog: Catalog, what: Callable[[Dataset], T]) -> Iterator[tuple[T, list[Dataset]]]:
    shared: dict[int | Path, tuple[T, list[Dataset]]] = {}
    for dataset in catalog.datasets.values():
        one = what(dataset)
        shared.setdefault(one if isinstance(one, Path) else id(one), (one, []))[1].append(dataset)
    return iter(shared.values())


def _names(datasets: Iterable[Dataset]) -> list[str]:
    return [dataset.name for dataset in datasets]
