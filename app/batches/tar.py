"""Samples as a tar in WebDataset's naming: files of one sample share the name before the dot.

{id}.json, {id}.0.jpg, {id}.1.jpg, …, and of the context {id}.context0.0.jpg, …
"""

import re
from tarfile import BLOCKSIZE, GNU_FORMAT, NUL, TarInfo

import msgspec

from app.batches.encoder import Piece
from app.batches.read import Images
from app.batches.record import describe_samples
from app.batches.sample import Sample
from app.images.sniff import content_type

CONTENT_TYPE = "application/x-tar"

_EXTENSIONS = {
    "image/jpeg": "jpg",
    "image/png": "png",
    "image/gif": "gif",
    "image/webp": "webp",
    "image/bmp": "bmp",
    "image/tiff": "tif",
    "image/avif": "avif",
}
# A dot would end the name, a slash begin a folder, and ~ is what tells repeats apart.
_UNSAFE = re.compile(r"[%./~\\\x00-\x1f\x7f]")


class TarEncoder:
    """Writes the samples; their images come as picture files."""

    def __init__(self) -> None:
        self._times: dict[str, int] = {}

    def begin(self, samples: list[Sample]) -> None:
        """Nothing to make ready."""

    def keep(self, image: bytes) -> bytes:
        """The image as it is."""
        return image

    def write(self, samples: list[Sample], images: Images) -> list[Piece]:
        """The files of the samples."""
        pieces: list[Piece] = []
        for sample, described in zip(samples, describe_samples(samples), strict=True):
            name = self._name(described["id"])
            _add(pieces, f"{name}.json", msgspec.json.encode(described))
            for number, turn in enumerate(sample.turns()):
                prefix = name if number == 0 else f"{name}.context{number - 1}"
                for at, image in enumerate(turn.images):
                    data = images[image]
                    extension = _EXTENSIONS.get(content_type(data), "bin")
                    _add(pieces, f"{prefix}.{at}.{extension}", data)
        return pieces

    def end(self) -> list[Piece]:
        """The two empty blocks at a tar's end."""
        return [NUL * 2 * BLOCKSIZE]

    def _name(self, id: str) -> str:
        """The id, percent-encoded where it has to be; with its count behind it where the tar has
        that name already, since two samples of one name side by side would be read as one."""
        name = _UNSAFE.sub(lambda found: f"%{ord(found[0]):02X}", id)
        times = self._times[name] = self._times.get(name, 0) + 1
        return name if times == 1 else f"{name}~{times}"


def _add(pieces: list[Piece], name: str, data: bytes) -> None:
    info = TarInfo(name)
    info.size = len(data)
    pieces += (info.tobuf(GNU_FORMAT, "utf-8", "strict"), data, NUL * (-len(data) % BLOCKSIZE))
