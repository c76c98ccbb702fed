"""The picture files in a tar: where each lies in it, from the headers alone."""

import tarfile
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa

from app.convert.listing import Listed, Notes, batch_listed
from app.convert.rejects import show_name
from app.convert.sources import is_picture, key_of
from app.errors import ConvertError, DamagedFileError
from app.tasks.job import Advance

_BLOCK_BYTES = 512


def list_tar(path: str, notes: Notes, advance: Advance) -> Iterator[pa.RecordBatch]:
    """The pictures in the order of the tar.

    Raises ConvertError if it is compressed, and DamagedFileError if it is not whole.
    """
    try:
        yield from batch_listed(_walk(path, notes, advance))
    except tarfile.TarError as error:
        raise DamagedFileError(f"{path} is not a tar that can be read: {error}") from error


def _walk(path: str, notes: Notes, advance: Advance) -> Iterator[Listed]:
    size_bytes = Path(path).stat().st_size
    done = row = 0
    try:
        tar = tarfile.open(path, "r:", encoding="utf-8", errors="surrogateescape")  # noqa: SIM115
    except tarfile.ReadError as error:
        raise ConvertError(
            f"{path} is not a plain tar: {error}. Of a compressed one nothing can be read in "
            "place: unpack it, and convert the folder"
        ) from error
    with tar:
        while (member := tar.next()) is not None:
            tar.members.clear()  # type: ignore[attr-defined]  # 2 KB each would be kept
            if not member.isdir():
                if member.isreg() and member.offset_data + member.size > size_bytes:
                    raise DamagedFileError(f"{path} ends within {show_name(member.name)}")
                if (key := _find_key(path, member, notes)) is not None:
                    yield row, key, None, member.offset_data, member.size, 0
                    row += 1
            advance(tar.offset - done)
            done = tar.offset
        _check_end(path, tar.offset)


def _find_key(path: str, member: tarfile.TarInfo, notes: Notes) -> str | None:
    """The member's key, if it is a picture that can be read."""
    name = member.name.removeprefix("./")
    if not is_picture(name):
        notes.pass_over(name)
    elif (shown := show_name(name)) != name:
        notes.rejects.add("foreign_name", path, None, name=shown, offset=member.offset)
    elif not member.isreg() or member.issparse():
        notes.rejects.add("no_plain_file", path, key_of(name), offset=member.offset)
    else:
        return key_of(name)
    return None


def _check_end(path: str, offset: int) -> None:
    """tarfile takes a header that it can not read for the end; tar ends with a block of zeros."""
    with open(path, "rb") as file:
        file.seek(offset)
        if any(file.read(_BLOCK_BYTES)):
            raise DamagedFileError(f"{path} is damaged at byte {offset:,}: that is no header")
