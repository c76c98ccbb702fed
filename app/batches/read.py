"""The pictures of samples, read together; a sample that can not be read gives way to another."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import chain
from typing import Any

from app.batches.options import Options
from app.batches.sample import Sample, Wanted, load_substitute
from app.errors import ImageUnreadableError, MimicitError, SourceChangedError

Images = dict[Wanted, Any]  # image → what leaves of it, as the encoder takes it
Keep = Callable[[Any], Any]  # an image as it was made → what the encoder wants to have of it
ReadImages = Callable[[list[Wanted], Keep], list[Any | MimicitError]]

_UNREADABLE = (ImageUnreadableError, SourceChangedError)


@dataclass(slots=True)
class Failures:
    """The unreadable samples of a batch: one in ten is a bad sample, more are a bad source.

    Of a batch of under twenty it is one. Once the answer `is_checked`, and its header sent, a file
    that changes under it ends it.
    """

    samples: int
    substitute: bool
    is_checked: bool = False
    count: int = 0

    def note(self, sample: Sample, error: MimicitError) -> None:
        """Count it; raises an error of the same kind once there are too many."""
        self.count += 1
        what = f"sample {sample.id[:200]!r} of {sample.dataset.name} can not be read: {error}"
        if self.is_checked and isinstance(error, SourceChangedError):
            raise error
        if not self.substitute:
            raise type(error)(f"{what} (with on_error=substitute another one takes its place)")
        if self.count > max(1, self.samples // 10):
            raise type(error)(
                f"{self.count} samples of a batch of {self.samples} can not be read, more than one "
                f"in ten; the last: {what}"
            )


def read_samples(
    samples: list[Sample],
    read: ReadImages,
    keep: Keep,
    failures: Failures,
    seed: int,
    options: Options,
) -> Images:
    """The images of the samples; in the list, substitutes take the place of unreadable ones.

    Every image is read once. Raises ImageUnreadableError and SourceChangedError if too many can not
    be, and OverloadedError.
    """
    images: Images = {}
    broken: dict[Wanted, MimicitError] = {}
    todo = list(range(len(samples)))
    while todo:
        wanted = [
            image
            for image in _list_images([samples[at] for at in todo])
            if image not in images and image not in broken
        ]
        for image, found in zip(wanted, read(wanted, keep), strict=True):
            if not isinstance(found, MimicitError):
                images[image] = found
            elif isinstance(found, _UNREADABLE):
                broken[image] = found
            else:
                raise found
        todo = []
        for at, sample in enumerate(samples if broken else ()):
            error = _find_error(sample, broken)
            if error is not None:
                failures.note(sample, error)
                samples[at] = load_substitute(sample, seed, options)
                todo.append(at)
    return images


def _list_images(samples: list[Sample]) -> Iterable[Wanted]:
    """Each image once, in the order in which columns have them."""
    own = (image for sample in samples for image in sample.turn.images)
    before = (image for one in samples for turn in one.context for image in turn.images)
    return dict.fromkeys(chain(own, before))


def _find_error(sample: Sample, broken: dict[Wanted, MimicitError]) -> MimicitError | None:
    if not broken:
        return None
    images = (image for turn in sample.turns() for image in turn.images)
    return next((broken[image] for image in images if image in broken), None)
