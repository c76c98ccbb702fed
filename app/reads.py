"""Threads that images are read on: some wait for disks, and others for object stores."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import TypeVar

from app.catalog.image_runs import Image, Run, RunReader, split_runs
from app.catalog.image_source import ImageSource
from app.errors import MimicitError
from app.parquet.reader import Stored
from app.pool import Pool
from app.settings import Settings

T = TypeVar("T")


class Reads:
    """A worker's reads; `close` it when done. A store that hangs makes nobody wait for a disk."""

    def __init__(self, settings: Settings) -> None:
        self._local = Pool("reads", settings.read_threads, settings.max_waiting)
        # A round trip takes no core, and no disk that would have to seek.
        self._remote = Pool("fetches", settings.object_requests, settings.max_waiting)

    def close(self) -> None:
        """Finish what is being read and drop what waits."""
        self._local.close()
        self._remote.close()

    async def run(self, call: Callable[[], T], source: ImageSource | None = None) -> T:
        """What a call returns that reads from the source, or may wait for a disk; raises
        OverloadedError."""
        return await self._pool(source is not None and source.reader.is_remote).run(call)

    def read_runs(
        self, images: Sequence[Image] | Mapping[int, Image], numbers: Iterable[int]
    ) -> Iterator[tuple[int, Stored | MimicitError]]:
        """The stored bytes of the images of those numbers, or the error of each, in the order of
        their places: neighbours in one object are read together. For a thread of another pool."""
        reader = RunReader()
        for is_remote, runs in groupby(split_runs(images, numbers), _is_remote):
            for run, found in self._pool(is_remote).map(reader.read, runs):
                for (number, _), stored in zip(run, found, strict=True):
                    yield number, stored

    def _pool(self, is_remote: bool) -> Pool:
        return self._remote if is_remote else self._local


def _is_remote(run: Run) -> bool:
    source, _ = run[0][1]
    return source.reader.is_remote
