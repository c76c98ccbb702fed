"""A worker's batches: threads that make them, and a bound on the memory they hold; no HTTP."""

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from functools import partial
from threading import Lock
from typing import Any, NamedTuple, TypeVar

from app.batches.answer import Answer
from app.batches.arena import Arenas
from app.batches.encoder import Piece
from app.batches.formats import Format, create_encoder
from app.batches.groups import Epoch, Groups, load_drawn
from app.batches.images import MakeImage, choose_image
from app.batches.options import Options
from app.batches.read import Keep, ReadImages
from app.batches.sample import Wanted
from app.budget import Budget
from app.catalog.catalog import Catalog
from app.catalog.image_source import ImageSource
from app.errors import MimicitError, TooLargeError
from app.group import Group
from app.parquet.reader import Stored
from app.pool import Pool
from app.settings import Settings
from app.storage import WouldBlockError

T = TypeVar("T")


class Batch(NamedTuple):
    """A batch whose first part is made.

    `substituted` is how many of its samples take the place of one that can not be read, or None if
    the later parts may add to it. `rest` makes those parts; without any the batch is whole.
    """

    group: Group
    substituted: int | None
    first: list[Piece]
    rest: AsyncIterator[list[Piece]] | None


class Batcher:
    """Makes batches of a catalog; `close` it when done."""

    def __init__(self, catalog: Catalog, settings: Settings, reads: Pool, resizes: Pool) -> None:
        self.groups = Groups(catalog.datasets.values())
        self._settings = settings
        self._reads = reads
        self._resizes = resizes
        self._threads = Pool("batches", settings.batch_threads, settings.max_waiting)
        # Held by the one thread that makes a batch of what is in memory; the others wait for disks
        # or resizing. Each value gives Python's lock up four times, and two threads at it take
        # half as much processor time again as one after the other.
        self._making = Lock()
        # One being filled and one being sent, for each thread.
        self._arenas = Arenas(2 * settings.batch_threads)
        self._memory = Budget(
            settings.batch_memory_bytes, settings.max_waiting, settings.batch_wait_seconds
        )

    def close(self) -> None:
        """Finish what is being made."""
        self._threads.close()

    @asynccontextmanager
    async def open(
        self, epoch: Epoch, step: int, rank: int, options: Options, format: Format
    ) -> AsyncIterator[Batch]:
        """The rank's batch at the step; while it is open it holds memory for two parts, the one
        being made and the one being sent.

        Raises StepOutOfRangeError, TooLargeError and OverloadedError, and if too many samples can
        not be read ImageUnreadableError and SourceChangedError; with its later parts too.
        """
        group, answer = await self._run(partial(self._find, epoch, step, rank, options, format))
        async with self._memory.claim(2 * answer.part_bytes):
            if not answer.is_whole:
                await self._run(partial(answer.check, self._read_with(_drop, is_heavy=False)))
            parts = answer.make()
            first = await self._run(partial(next, parts))
            is_counted = answer.is_whole or options.size is None
            yield Batch(
                group,
                answer.count_substituted() if is_counted else None,
                first,
                None if answer.is_whole else self._go_on(parts),
            )

    async def _go_on(self, parts: Iterator[list[Piece]]) -> AsyncIterator[list[Piece]]:
        while part := await self._run(partial(next, parts, [])):
            yield part

    async def _run(self, call: Callable[[], T]) -> T:
        def hold() -> T:
            with self._making:
                return call()

        return await self._threads.run(hold)

    def _wait_for(self, pool: Pool, call: Callable[[Wanted], Any], images: list[Wanted]) -> Any:
        """What `call` returns for each image, on the pool's threads; others make batches
        meanwhile."""
        if not images:
            return []
        self._making.release()
        try:
            return pool.map(call, images)
        finally:
            self._making.acquire()

    def _find(
        self, epoch: Epoch, step: int, rank: int, options: Options, format: Format
    ) -> tuple[Group, Answer]:
        settings = self._settings
        if epoch.batch_size > settings.max_batch_samples:
            raise TooLargeError(
                f"{epoch.batch_size:,} samples are more than the {settings.max_batch_samples:,} of "
                "one batch (setting max_batch_samples)"
            )
        drawn = self.groups.draw(epoch, step, rank)
        samples, options = load_drawn(drawn, options, settings.max_batch_bytes)
        make = choose_image(
            options,
            as_base64=format is Format.NDJSON,
            max_pixels=settings.max_image_pixels,
        )
        answer = Answer(
            samples,
            create_encoder(format, samples, options, self._arenas),
            self._read_with(make, is_heavy=options.size is not None),
            seed=epoch.seed,
            options=options,
            part_bytes=settings.batch_part_bytes,
        )
        return drawn.group, answer

    def _read_with(self, make: MakeImage, *, is_heavy: bool) -> ReadImages:
        """Reads images on the thread it is called on, and what is not in memory on those for reads;
        what makes work for a processor, on those for resizing."""

        def read(image: Wanted) -> Any:
            return _try(make, image, wait=True, is_checked=False)

        def read_heavy(wanted: list[Wanted], keep: Keep) -> list[Any]:
            return [_keep(keep, one) for one in self._wait_for(self._resizes, read, wanted)]

        def read_warm_first(wanted: list[Wanted], keep: Keep) -> list[Any]:
            found: list[Any] = [None] * len(wanted)
            cold = []
            # A file is checked for the first image of each page: 20 times and not 256.
            checked: set[tuple[ImageSource, int]] = set()
            for at, image in enumerate(wanted):
                page = (image.source, image.place.page)
                try:
                    made = _try(make, image, wait=False, is_checked=page in checked)
                except WouldBlockError:
                    cold.append(at)
                    continue
                found[at] = _keep(keep, made)
                if not isinstance(made, MimicitError):
                    checked.add(page)
            # By file and page and along each file: a disk reads on, and a page is decoded once.
            cold.sort(key=lambda at: _where(wanted[at]))
            late = self._wait_for(self._reads, read, [wanted[at] for at in cold])
            for at, one in zip(cold, late, strict=True):
                found[at] = _keep(keep, one)
            return found

        return read_heavy if is_heavy else read_warm_first


def _where(image: Wanted) -> tuple[int, int, int]:
    return id(image.source), image.place.page, image.place.offset


def _try(make: MakeImage, image: Wanted, *, wait: bool, is_checked: bool) -> Any:
    """The image as it is made, or the error."""
    try:
        stored = image.source.read(image.place, wait=wait, is_checked=is_checked)
        return make(stored, image.place.form)
    except MimicitError as error:
        return error


def _keep(keep: Keep, made: Any) -> Any:
    return made if isinstance(made, MimicitError) else keep(made)


def _drop(stored: Stored, form: int) -> None:
    """Nothing of a value that could be read."""
