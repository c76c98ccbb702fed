"""What is to be converted: the files and folders that the inputs name, and what each of them is."""

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from app.data_yaml import list_image_files
from app.errors import ConvertError


class Kind(StrEnum):
    """What an input is."""

    JSON = "json"  # one object of key: base64
    PARQUET = "parquet"
    FOLDER = "folder"  # of picture files
    TAR = "tar"
    CSV = "csv"  # of keys and paths, as the next two
    TSV = "tsv"
    JSONL = "jsonl"

    @property
    def is_indexed(self) -> bool:
        """Whether the service itself reads it, so that its values are indexed, not listed."""
        return self in (Kind.JSON, Kind.PARQUET)

    @property
    def is_one_file(self) -> bool:
        """Whether the values are in the file itself, so that its own state tells all of them."""
        return self.is_indexed or self == Kind.TAR


KIND_OF_SUFFIX = {
    ".json": Kind.JSON,
    ".parquet": Kind.PARQUET,
    ".parq": Kind.PARQUET,
    ".tar": Kind.TAR,
    ".csv": Kind.CSV,
    ".tsv": Kind.TSV,
    ".jsonl": Kind.JSONL,
    ".ndjson": Kind.JSONL,
}
PICTURE_SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".gif", ".webp", ".bmp", ".tif", ".tiff", ".avif"}
)
_COMPRESSED = re.compile(r"\.(tgz|tbz2?|txz|gz|bz2|xz|zst|zip|7z)$", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Source:
    """A file, or a folder of picture files; `path` is absolute."""

    path: str
    kind: Kind
    size_bytes: int  # 0 of a folder


def list_sources(inputs: Sequence[str], kind: Kind | None) -> list[Source]:
    """The sources that the inputs name, in their order; `kind` is what they are said to be.

    Raises ConvertError for an input that is not there, or of which it is not plain what it is.
    """
    try:
        return [source for given in inputs for source in _sources_of(given, kind)]
    except OSError as error:
        raise ConvertError(f"{error.filename} can not be read: {error.strerror}") from error


def is_picture(name: str) -> bool:
    """Whether a file of that name is a picture, by its suffix; hidden files are none."""
    base = name[name.rfind("/") + 1 :]
    return not base.startswith(".") and os.path.splitext(base)[1].lower() in PICTURE_SUFFIXES


def key_of(name: str) -> str:
    """The key of a picture file: its name, folders and all, without the last suffix."""
    return os.path.splitext(name)[0]


def _sources_of(given: str, kind: Kind | None) -> list[Source]:
    path = os.path.abspath(given)
    try:
        path.encode()
    except UnicodeEncodeError as error:
        raise ConvertError(f"{path!r}: its name is not UTF-8; rename it") from error
    kind = kind or _kind_of(path)
    if kind == Kind.PARQUET:
        files = [os.path.abspath(file) for file in list_image_files(path)]
        if not files:
            raise ConvertError(f"{path} has no Parquet files: there is nothing to convert")
        return [Source(file, kind, os.path.getsize(file)) for file in files]
    if kind == Kind.FOLDER:
        if not os.path.isdir(path):
            raise ConvertError(f"{path} is no folder")
        return [Source(path, kind, 0)]
    if not os.path.isfile(path):
        raise ConvertError(f"{path} is {'a folder' if os.path.isdir(path) else 'not there'}")
    if kind == Kind.JSON and not path.endswith(".json"):
        raise ConvertError(f"{path}: the name of a JSON of key: base64 has to end in .json")
    return [Source(path, kind, os.path.getsize(path))]


def _kind_of(path: str) -> Kind:
    if os.path.isdir(path):
        return _kind_of_folder(path)
    if not os.path.lexists(path):
        if any(character in path for character in "*?["):
            return Kind.PARQUET
        raise ConvertError(f"{path} is not there")
    if compressed := _COMPRESSED.search(path):
        raise ConvertError(
            f"{path} is compressed ({compressed[0]}): its pictures can not be read in place. "
            "Unpack it first, and convert what was in it."
        )
    found = KIND_OF_SUFFIX.get(os.path.splitext(path)[1].lower())
    if found is None:
        raise ConvertError(
            f"{path}: its name does not tell what it is; say so with --from ({', '.join(Kind)})"
        )
    return found


def _kind_of_folder(path: str) -> Kind:
    has_parts = has_others = False
    with os.scandir(path) as entries:
        for entry in entries:
            if not entry.name.startswith((".", "_")):
                is_part = entry.name.endswith(".parquet")
                has_parts |= is_part
                has_others |= is_picture(entry.name) or (not is_part and entry.is_dir())
    if has_parts and has_others:
        raise ConvertError(
            f"{path} holds Parquet files and pictures or folders: say which are meant, "
            "--from parquet or --from folder"
        )
    return Kind.PARQUET if has_parts else Kind.FOLDER
