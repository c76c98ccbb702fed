"""A worker's batches: threads that make them, and a bound on the memory they hold; no HTTP."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager
from copy import copy
from dataclasses import replace
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
from app.batches.read import Failures, Keep, ReadImages, read_samples
from app.batches.sample import Sample, Wanted
from app.budget import Budget
from app.catalog.catalog import Catalog
from app.catalog.image_source import ImageSource
from app.errors import MimicitError, TooLargeError
from app.group import Group
from app.metrics.meter import Meter
from app.parquet.reader import Stored
from app.pool import Pool
from app.reads import Reads
from app.settings import Settings
from app.storage import WouldBlockError

T = TypeVar("T")
Read = tuple[Stored | MimicitError, int]  # a stored value or the error, and the value's form


class GoneError(Exception):
    """Nobody waits for the batch any more."""


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

    def __init__(
        self,
        catalog: Catalog,
        settings: Settings,
        reads: Reads,
        resizes: Pool,
        meter: Meter,
    ) -> None:
        self.groups = Groups(catalog.datasets.values())
        self._settings = settings
        self._reads = reads
        self._resizes = resizes
        self._meter = meter
        self._threads = Pool("batches", settings.batch_threads, settings.max_waiting)
        # Held by the one thread that makes a batch of what is in memory; the others wait for disks
        # or resizing. Each value gives Python's lock up four times, and two threads at it take
        # half as much processor time again as one after the other.
        self._making = Lock()
        # One being filled and one being sent, for each thread; a power of two of memory.
        largest_bytes = 1 << settings.batch_part_bytes.bit_length()
        self._arenas = Arenas(2 * settings.batch_threads, largest_bytes)
        # Few wait for memory: they have found their samples, up to 26 MB of them.
        self._memory = Budget(
            settings.batch_memory_bytes,
            max(1, settings.max_waiting // 16),
            settings.batch_wait_seconds,
        )

    def reopen(self, catalog: Catalog) -> "Batcher":
        """The batches of another catalog, with the same threads and memory."""
        other = copy(self)
        other.groups = Groups(catalog.datasets.values())
        return other

    def close(self) -> None:
        """Finish what is being made."""
        self._threads.close()

    @asynccontextmanager
    async def open(
        self,
        epoch: Epoch,
        step: int,
        rank: int,
        options: Options,
        format: Format,
        is_gone: Callable[[], Awaitable[bool]],
    ) -> AsyncIterator[Batch]:
        """The rank's batch at the step; while it is open it holds memory for two parts, the one
        being made and the one being sent.

        `is_gone` is asked before each piece of work whether anybody still wants it: if not,
        GoneError is raised. Raises StepOutOfRangeError, TooLargeError and OverloadedError, and if
        too many samples can not be read ImageUnreadableError and SourceChangedError; with its later
        parts too.
        """

        async def run(call: Callable[[], T]) -> T:
            if await is_gone():
                raise GoneError
            return await self._run(call)

        group, answer = await run(partial(self._find, epoch, step, rank, options, format))
        async with self._memory.claim(format.held_parts * answer.part_bytes):
            if not answer.is_whole:
                await run(partial(answer.check, self._read_with(_drop, is_heavy=False)))
            parts = answer.make()
            first = await run(partial(next, parts))
            is_counted = answer.is_whole or options.size is None
            try:
                yield Batch(
                    group,
                    answer.count_substituted() if is_counted else None,
                    first,
                    None if answer.is_whole else self._go_on(parts),
                )
            finally:
                self._meter.count_substituted(answer.count_substituted())

    async def list_samples(self, epoch: Epoch, step: int, rank: int) -> tuple[Group, list[Sample]]:
        """The samples of the rank's batch at the step and their group, each read as it would be, so
        that what can not be read has given way; raises what `open` does."""
        return await self._run(partial(self._list_samples, epoch, step, rank))

    async def _go_on(self, parts: Iterator[list[Piece]]) -> AsyncIterator[list[Piece]]:
        while part := await self._run(partial(next, parts, [])):
            yield part

    async def _run(self, call: Callable[[], T]) -> T:
        def hold() -> T:
            with self._making:
                return call()

        return await self._threads.run(hold)

    @contextmanager
    def _waiting(self) -> Iterator[None]:
        """Let others make batches while this thread waits for a disk or for resizing."""
        self._making.release()
        try:
            yield
        finally:
            self._making.acquire()

    def _list_samples(self, epoch: Epoch, step: int, rank: int) -> tuple[Group, list[Sample]]:
        group, samples, options = self._find_samples(epoch, step, rank, Options())
        read = self._read_with(_drop, is_heavy=False)
        failures = Failures(len(samples), options.substitute)
        read_samples(samples, read, _keep_nothing, failures, epoch.seed, options)
        return group, samples

    def _find(
        self, epoch: Epoch, step: int, rank: int, options: Options, format: Format
    ) -> tuple[Group, Answer]:
        options = replace(options, as_base64=format is Format.NDJSON)
        group, samples, options = self._find_samples(epoch, step, rank, options)
        make = choose_image(options, max_pixels=self._settings.max_image_pixels)
        answer = Answer(
            samples,
            create_encoder(format, samples, options, self._arenas),
            self._read_with(make, is_heavy=options.size is not None),
            seed=epoch.seed,
            options=options,
            part_bytes=self._settings.batch_part_bytes,
        )
        return group, answer

    def _find_samples(
        self, epoch: Epoch, step: int, rank: int, options: Options
    ) -> tuple[Group, list[Sample], Options]:
        settings = self._settings
        if epoch.batch_size > settings.max_batch_samples:
            raise TooLargeError(
                f"{epoch.batch_size:,} samples are more than the {settings.max_batch_samples:,} of "
                "one batch (setting max_batch_samples)"
            )
        options = replace(options, max_context=settings.max_batch_samples)
        drawn = self.groups.draw(epoch, step, rank)
        samples, options = load_drawn(drawn, options, settings.max_batch_bytes)
        return drawn.group, samples, options

    def _read_with(self, make: MakeImage, *, is_heavy: bool) -> ReadImages:
        """Reads images on the thread it is called on, and what is not in memory on those for reads;
        what makes work for a processor is read there and made on those for resizing."""

        def read_heavy(wanted: list[Wanted], keep: Keep) -> list[Any]:
            found: list[Any] = [None] * len(wanted)
            with self._waiting():
                read = self._read_runs(wanted, range(len(wanted)))
                for at, one in self._resizes.map(lambda one: (one[0], _make(make, one[1])), read):
                    found[at] = _keep(keep, one)
            return found

        def read_warm_first(wanted: list[Wanted], keep: Keep) -> list[Any]:
            found: list[Any] = [None] * len(wanted)
            cold = []
            # A file is checked for the first image of each page: 20 times and not 256.
            checked: set[tuple[ImageSource, int]] = set()
            for at, image in enumerate(wanted):
                page = (image.source, image.place.page)
                try:
                    read = _read_stored(image, wait=False, is_checked=page in checked)
                except WouldBlockError:
                    cold.append(at)
                    continue
                found[at] = _keep(keep, _make(make, read))
                if not isinstance(read[0], MimicitError):
                    checked.add(page)
            if cold:
                with self._waiting():
                    for at, read in self._read_runs(wanted, cold):
                        found[at] = _keep(keep, _make(make, read))
            return found

        return read_heavy if is_heavy else read_warm_first

    def _read_runs(
        self, wanted: list[Wanted], numbers: Iterable[int]
    ) -> Iterator[tuple[int, Read]]:
        for at, stored in self._reads.read_runs(wanted, numbers):
            yield at, (stored, wanted[at].place.form)


def _read_stored(image: Wanted, *, wait: bool = True, is_checked: bool = False) -> Read:
    """The stored value or the error, and the value's form."""
    try:
        stored = image.source.read(image.place, wait=wait, is_checked=is_checked)
    except MimicitError as error:
        return error, image.place.form
    return stored, image.place.form


def _make(make: MakeImage, read: Read) -> Any:
    """The image out of what was read, or the error."""
    stored, form = read
    if isinstance(stored, MimicitError):
        return stored
    try:
        return make(stored, form)
    except MimicitError as error:
        return error


def _keep(keep: Keep, made: Any) -> Any:
    return made if isinstance(made, MimicitError) else keep(made)


def _drop(stored: Stored, form: int) -> None:
    """Nothing of a value that could be read."""


def _keep_nothing(image: object) -> None:
    """Nothing is kept of what is only looked at."""
