"""Pictures as pages show them: small ones with a link, or a word on why there is none."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from app.catalog.dataset import Dataset
from app.errors import ImageUnreadableError, MimicitError
from app.explorer import links
from app.images.picture import read_size
from app.images.stored import Form
from app.parquet.place import Place
from app.service import Service

# What pages read to see whether it is a picture, at the most: 24 cards of a few photographs.
_MAX_READ_BYTES = 16 << 20
_WHY_NOT = {
    Form.NULL: "its value is null",
    Form.EMPTY: "its value is empty",
    Form.UNDECODABLE: "its value is not base64",
    Form.TOO_LARGE: "its value is larger than max_value_bytes",
}


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture of a page; without a `thumb` there is nothing to show, and `problem` says why.

    `width` and `height` are its own, or 0 if they are not known.
    """

    key: str
    page: str
    thumb: str | None
    problem: str | None
    width: int = 0
    height: int = 0


async def load_pictures(
    service: Service, dataset: Dataset, keys: Sequence[str]
) -> dict[str, Picture]:
    """The pictures of those keys of the dataset; each that can be read is read once."""
    source = dataset.images
    if source is None:
        return {}
    places = {key: source.find_place(key) for key in keys}
    found = {key: _find_problem(dataset.name, key, place) for key, place in places.items()}
    wanted: dict[str, Place] = {}
    taken = 0
    for key, place in places.items():
        if place is not None and found[key].problem is None:
            taken += place.length
            if taken <= _MAX_READ_BYTES:
                wanted[key] = place
    if wanted:
        read = await service.read_images(source, list(wanted.values()))
        max_pixels = service.settings.max_image_pixels
        sizes = await service.read(partial(_measure, read, max_pixels))
        for key, size in zip(wanted, sizes, strict=True):
            found[key] = _with_size(found[key], size)
    return found


def _find_problem(dataset: str, key: str, place: Place | None) -> Picture:
    page, address = links.image_page(dataset, key), links.thumb(dataset, key)
    if place is None:
        return Picture(key, page, None, "missing: the dataset has no image of this key")
    if not place.is_readable:
        return Picture(key, page, None, f"unreadable: {_WHY_NOT[Form(place.form)]}")
    if address is None:
        return Picture(key, page, None, "a browser can not ask for this key")
    return Picture(key, page, address, None)


def _measure(read: list[bytes | MimicitError], max_pixels: int) -> list[tuple[int, int] | str]:
    """The size of each picture, or what is wrong with it."""
    found: list[tuple[int, int] | str] = []
    for one in read:
        if isinstance(one, MimicitError):
            found.append(f"unreadable: {one}")
            continue
        try:
            found.append(read_size(one, max_pixels=max_pixels))
        except ImageUnreadableError as error:
            found.append(f"unreadable: {error}")
    return found


def _with_size(picture: Picture, size: tuple[int, int] | str) -> Picture:
    if isinstance(size, str):
        return Picture(picture.key, picture.page, None, size)
    return Picture(picture.key, picture.page, picture.thumb, None, *size)
