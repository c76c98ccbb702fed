"""The files that an images_path names."""

import glob
import os
from pathlib import Path

from app.storage.address import is_skipped, part_order


def list_image_files(images_path: str) -> list[Path]:
    """The files that `images_path` names, part.2 before part.10; none where nothing is.

    A file is itself. A folder is the `*.parquet` files directly in it, none of its sub folders.
    Anything else is a glob (`**` goes down); a folder it matches is its `*.parquet` files. Names
    that start with `.` or `_` or end in `.crc`, which writers leave beside parts, are skipped.
    """
    if os.path.isfile(images_path):
        return [Path(images_path)]
    found: set[str] = set()
    is_folder = os.path.isdir(images_path)
    for match in [images_path] if is_folder else glob.iglob(images_path, recursive=True):
        inside = os.path.join(glob.escape(match), "*.parquet")
        found.update(glob.iglob(inside) if os.path.isdir(match) else [match])
    found = {f for f in found if os.path.lexists(f) and not os.path.isdir(f)}  # `no/**` gives no/
    parts = sorted(f for f in set(map(Path, found)) if not is_skipped(f.name))
    return sorted(parts, key=lambda f: part_order(str(f)))
