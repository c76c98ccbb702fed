"""A worker's open catalog, and the threads that read and resize for it; no HTTP."""

from collections.abc import Callable
from copy import copy
from functools import partial
from pathlib import Path
from typing import TypeVar

from app.batcher import Batcher
from app.catalog.catalog import Catalog
from app.catalog.dataset import Dataset
from app.catalog.image_source import ImageSource
from app.catalog.instructions import Instruction, InstructionPage, InstructionTable
from app.catalog.manifest import Manifest
from app.catalog.search import Search
from app.errors import MimicitError, TooLargeError, UnknownImageError
from app.images.resize import Resize, resize
from app.images.stored import decode
from app.metrics.meter import Meter
from app.parquet.place import Place
from app.parquet.reader import Stored
from app.pool import Pool
from app.reads import Reads
from app.settings import Settings, object_limits
from app.storage import WouldBlockError

T = TypeVar("T")

# Read and decoded in 0.2 ms. A larger picture takes longer than the thread it is then left to, and
# everybody else on the event loop would wait for it.
_WARM_BYTES = 1 << 20
_LOOKUP_THREADS = 4


class Service:
    """Answers for one worker; `close` it when done."""

    def __init__(
        self, folder: Path, settings: Settings, meter: Meter, manifest: Manifest | None = None
    ) -> None:
        self.settings = settings
        self.meter = meter
        self.catalog = Catalog(
            folder,
            manifest,
            max_open_files=settings.max_open_files,
            page_cache_bytes=settings.page_cache_bytes,
            duckdb_memory_bytes=settings.duckdb_memory_bytes,
            objects=object_limits(settings),
            count_read=meter.count_read,
            store_counts=meter,
        )
        self._reads = Reads(settings)
        # Each waits for the reads of one request.
        self._lookups = Pool("lookups", _LOOKUP_THREADS, settings.max_waiting)
        self._resizes = Pool("resizes", settings.resize_threads, settings.max_waiting)
        # One at a time: each scans a whole table, and DuckDB has the memory for one.
        self._searches = Pool("searches", 1, settings.max_waiting)
        self.batches = Batcher(self.catalog, settings, self._reads, self._resizes, meter)

    def reopen(self, manifest: Manifest) -> "Service":
        """The answers of another manifest's catalog, with the same threads and memory.

        Only one of them is to be closed. Raises CatalogError, and OSError.
        """
        other = copy(self)
        other.catalog = self.catalog.reopen(manifest)
        other.batches = self.batches.reopen(other.catalog)
        return other

    def close(self) -> None:
        """Finish what is in flight and unmap the catalog."""
        self.catalog.stop()
        self.batches.close()
        self._lookups.close()
        self._reads.close()
        self._resizes.close()
        self._searches.close()
        self.catalog.close()

    def read_warm(self, source: ImageSource, place: Place) -> bytes:
        """The bytes of an image, decoded, if an event loop may read them.

        Raises WouldBlockError if they are not in memory or are so many that others would wait;
        else what `read_image` does.
        """
        if place.length > _WARM_BYTES:
            raise WouldBlockError
        return _read(source, place, wait=False)

    async def read_image(self, source: ImageSource, place: Place) -> bytes:
        """The bytes of an image, decoded: at once if they are warm, else on a thread.

        Raises ImageUnreadableError, SourceChangedError and OverloadedError.
        """
        try:
            return self.read_warm(source, place)
        except WouldBlockError:
            return await self._reads.run(partial(_read, source, place, wait=True), source)

    async def resize_image(
        self, source: ImageSource, place: Place, how: Resize
    ) -> tuple[bytes, str]:
        """A resized image and its content type; raises what `read_image` does.

        It is read on the thread that resizes it, so that what waits for one holds no picture.
        """
        max_pixels = self.settings.max_image_pixels
        return await self._resizes.run(
            lambda: resize(_read(source, place, wait=True), how, max_pixels=max_pixels)
        )

    async def check_image(self, source: ImageSource, place: Place) -> None:
        """Raise SourceChangedError if the image's file is no longer what was indexed."""
        try:
            source.reader.check(place, wait=False)
        except WouldBlockError:
            await self._reads.run(partial(source.reader.check, place), source)

    async def read_images(
        self, source: ImageSource, places: list[Place | None]
    ) -> list[bytes | MimicitError]:
        """The bytes of many images, read on one thread, or side by side where each is a round trip;
        for each that has none, the error."""
        if not source.reader.is_remote:
            return await self._reads.run(partial(_read_many, source, places))
        return await self._lookups.run(partial(self._read_runs, source, places))

    def _read_runs(
        self, source: ImageSource, places: list[Place | None]
    ) -> list[bytes | MimicitError]:
        found: list[bytes | MimicitError] = [_no_image()] * len(places)
        there = {at: (source, place) for at, place in enumerate(places) if place}
        cold = [at for at, (_, place) in there.items() if place.is_readable]
        for at, stored in self._reads.read_runs(there, cold):
            place = there[at][1]
            found[at] = stored if isinstance(stored, MimicitError) else _decode(stored, place)
        for at in there.keys() - cold:
            found[at] = _decode(b"", there[at][1])
        return found

    async def list_context(
        self, dataset: Dataset, instruction: Instruction
    ) -> tuple[list[Instruction], list[str]]:
        """The instruction's context in order, and the ids of it that do not exist.

        Raises TooLargeError if there are more than a page has.
        """
        ids, limit = dataset.context_ids(instruction), self.settings.max_page_items
        if len(ids) > limit:
            raise TooLargeError(
                f"{len(ids):,} instructions go before this one, more than the {limit:,} of a page "
                "(setting max_page_items); ask for those you want by their ids"
            )
        return await self._reads.run(partial(dataset.list_context, ids))

    async def search(
        self, table: InstructionTable, first: int, limit: int, search: Search
    ) -> InstructionPage:
        """Instructions from row `first` on that `search` asks for."""
        max_bytes = self.settings.max_answer_bytes
        return await self.ask(partial(table.search, first, limit, max_bytes, search))

    async def ask(self, call: Callable[[], T]) -> T:
        """What a call returns that asks DuckDB, one at a time; raises OverloadedError."""
        return await self._searches.run(call)

    async def read(self, call: Callable[[], T]) -> T:
        """What a call returns that may wait for a disk; raises OverloadedError."""
        return await self._reads.run(call)


def _read(source: ImageSource, place: Place, *, wait: bool) -> bytes:
    stored = source.read(place, wait=wait) if place.is_readable else b""
    return decode(stored, place.form)


def _read_many(source: ImageSource, places: list[Place | None]) -> list[bytes | MimicitError]:
    found: list[bytes | MimicitError] = []
    for place in places:
        try:
            if place is None:
                raise _no_image()
            found.append(_read(source, place, wait=True))
        except MimicitError as error:
            found.append(error)
    return found


def _decode(stored: Stored, place: Place) -> bytes | MimicitError:
    try:
        return decode(stored, place.form)
    except MimicitError as error:
        return error


def _no_image() -> UnknownImageError:
    return UnknownImageError("no image has this key")
