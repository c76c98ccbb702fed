"""Images that are read together: neighbours in one object, since each request is a round trip."""

from collections.abc import Iterable, Iterator, Mapping, Sequence

from app.catalog.image_source import ImageSource
from app.errors import MimicitError, SourceUnavailableError
from app.parquet.place import Place
from app.parquet.reader import Span, Stored, ValueReader
from app.storage import Storage, WouldBlockError

# What lies between two images is fetched with them if it takes less time than another request: 20
# ms at 50 MB/s.
_GAP_BYTES = 1 << 20
_RUN_BYTES = 8 << 20  # a thread holds one, so 32 of them take 256 MB

Image = tuple[ImageSource, Place]
Run = list[tuple[int, Image]]  # with the number that each image has
Found = list[Stored | MimicitError]


def where(image: Image) -> tuple[int, int, int]:
    """What to sort images by, so that neighbours are: a disk reads on, a page is decoded once."""
    source, place = image
    return id(source), place.page, place.offset


def split_runs(
    images: Sequence[Image] | Mapping[int, Image], numbers: Iterable[int]
) -> Iterator[Run]:
    """The images of those numbers, in the order of their places; of local files each by itself."""
    run: Run = []
    last: Span | None = None
    start = 0
    for number in sorted(numbers, key=lambda number: where(images[number])):
        source, place = images[number]
        span = source.reader.find_span(place) if source.reader.is_remote else None
        is_next = (
            span is not None
            and last is not None
            and run[-1][1][0] is source
            and span.stamp is last.stamp
            and span.start - last.start >= 0
            and span.start - last.end <= _GAP_BYTES
            and span.end - start <= _RUN_BYTES
        )
        if not is_next:
            if run:
                yield run
            run, start = [], span.start if span else 0
        run.append((number, images[number]))
        last = span
    if run:
        yield run


class RunReader:
    """Reads the runs of one request, on several threads; once a store does not answer, after all
    its retries, the runs that are left are not asked for."""

    def __init__(self) -> None:
        self._down: SourceUnavailableError | None = None

    def read(self, run: Run) -> tuple[Run, Found]:
        """The run, and the stored bytes of its images, or of each the error."""
        if self._down is not None:
            return run, [self._down] * len(run)
        found = _read_run(run)
        for one in found:
            if isinstance(one, SourceUnavailableError):
                self._down = one
        return run, found


def _read_run(run: Run) -> Found:
    """The stored bytes of the run's images, or of each the error; what is not kept on disk is
    fetched at once."""
    found: dict[int, Stored | MimicitError] = {}
    cold = []
    if len(run) > 1:  # so that what is kept on disk is read from there
        source, place = run[0][1]
        try:
            source.reader.check(place)
        except MimicitError as error:
            return [error] * len(run)
    for number, (source, place) in run:
        try:
            if len(run) == 1:
                raise WouldBlockError
            found[number] = source.reader.read(place, wait=False)
        except WouldBlockError:
            cold.append((number, source.reader, place))
        except MimicitError as error:
            found[number] = error
    storage = None
    try:
        if len(cold) > 1:
            storage = _fetch([(reader, place) for _, reader, place in cold])
    except MimicitError as error:
        return [found.get(number, error) for number, _ in run]
    for number, reader, place in cold:
        try:
            found[number] = reader.read(place, wait=True, storage=storage)
        except MimicitError as error:
            found[number] = error
    return [found[number] for number, _ in run]


def _fetch(values: Sequence[tuple[ValueReader, Place]]) -> Storage:
    spans = [span for reader, place in values if (span := reader.find_span(place))]
    end = max(span.end for span in spans)
    return values[0][0].fetch(spans[0].stamp, spans[0].start, end)
