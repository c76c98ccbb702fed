"""Folders for what a process needs while it works, of which nothing is left."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def scratch_folder(inside: Path) -> Iterator[Path]:
    """A folder with a name of its own, removed at the end; that of a killed process is not."""
    inside.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(dir=inside))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
