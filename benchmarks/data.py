"""The data sets: written once into a folder, each by a process that gives its memory back."""

import multiprocessing
import os
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from benchmarks import copies, writers

_STORED_BYTES = writers.PICTURE_BYTES // 3 * 4
_MAX_ONE_PAGE_MB = 2_100  # a page's length is a signed number of 32 bits


@dataclass(frozen=True, slots=True)
class ImageSet:
    """A data YAML with one dataset, and its images."""

    folder: Path
    count: int
    is_compressible: bool

    @property
    def data_yaml(self) -> Path:
        """The data YAML."""
        return self.folder / "data.yaml"

    @property
    def files(self) -> list[Path]:
        """The files that the images are in."""
        return sorted(path for path in self.folder.rglob("*") if path.suffix == ".parquet") or [
            self.folder / "images.json"
        ]

    def keys(self) -> list[str]:
        """The keys, in the order in which the pictures are made."""
        return [writers.key_of(number) for number in range(self.count)]

    def pictures(self) -> Iterator[bytes]:
        """The pictures, in the order of the keys."""
        return writers.pictures(self.count, self.is_compressible)


class Data:
    """The data sets in a folder, which are made when they are first asked for."""

    def __init__(self, folder: Path, size_mb: int, tell: Callable[[str], None]) -> None:
        self.folder = folder
        self.size_mb = size_mb
        self.catalogs = folder / "catalogs"
        self._tell = tell

    def image_set(self, kind: str) -> ImageSet:
        """Pictures as `writers.write_images` writes that kind."""
        is_compressible = kind == "compressible"
        size_mb = max(100, self.size_mb // 4) if is_compressible else self.size_mb
        if kind == "one-page":
            size_mb = min(size_mb, _MAX_ONE_PAGE_MB)
        count = size_mb * 1_000_000 // _STORED_BYTES
        folder = self._make(
            f"{kind}-{size_mb}mb", writers.write_images, kind, count, is_compressible
        )
        return ImageSet(folder, count, is_compressible)

    def samples(self, count: int, *, photographs: bool = False) -> ImageSet:
        """As many pictures in pandas' file, each with an instruction."""
        name = f"{'photographs' if photographs else 'samples'}-{count}"
        return ImageSet(self._make(name, writers.write_samples, count, photographs), count, False)

    def copy(self, kind: str, count: int) -> Path:
        """The same random pictures and instructions as another reader or nginx wants them."""
        return self._make(f"{kind}-{count}", copies.WRITERS[kind], count)

    def picture_files(self) -> Path:
        """A folder of the same pictures as files, each called by its key."""
        count = self.size_mb * 1_000_000 // _STORED_BYTES
        return self._make(f"files-{self.size_mb}mb", writers.write_files, count)

    def instructions(self, size_mb: int) -> Path:
        """The data YAML of a TEXT_ONLY dataset whose instructions take about that much."""
        count = size_mb * 1_000_000 // writers.RECORD_BYTES
        return self._make(f"text-{size_mb}mb", writers.write_text_only, count) / "data.yaml"

    def many_keys(self, count: int) -> Path:
        """The data YAML of that many tiny images."""
        return self._make(f"keys-{count}", writers.write_many_keys, count) / "data.yaml"

    def _make(self, name: str, write: Callable[..., None], *arguments: object) -> Path:
        folder = self.folder / name
        if not folder.exists():
            self._tell(f"writing {name}")
            unfinished = folder.with_name(f"{name}.unfinished")
            shutil.rmtree(unfinished, ignore_errors=True)
            unfinished.mkdir(parents=True)
            context = multiprocessing.get_context("spawn")
            with ProcessPoolExecutor(1, context) as pool:
                pool.submit(write, unfinished, *arguments).result()
            os.sync()  # or what is measured next shares the disk with this
            unfinished.rename(folder)
        return folder
