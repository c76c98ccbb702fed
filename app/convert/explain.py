"""What a source or a disk does to a conversion, as an error that says what is left of it."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from app.convert.work import WorkFolder
from app.errors import CatalogError, ConvertError, SourceChangedError

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@contextmanager
def explained(work: WorkFolder) -> Iterator[None]:
    """Raises ConvertError, which says what to do, for an OSError and a SourceChangedError."""
    try:
        yield
    except (OSError, CatalogError) as error:
        if "Out of Memory" in str(error):  # DuckDB, whose errors in mid-stream come through Arrow
            raise ConvertError(
                "there are more keys than can be sorted: raise the setting convert_memory_bytes, "
                "and run the same command again"
            ) from error
        if isinstance(error, CatalogError):
            raise
        if error.filename and not Path(os.fsdecode(error.filename)).is_relative_to(work.path):
            raise ConvertError(f"{error.filename}: {error.strerror}") from error
        first = "Make room" if error.errno in _FULL else "Mend that"
        raise ConvertError(
            f"{work.destination} can not be written: {error.strerror or error}. Nothing is there "
            f"under that name. {first}, and run the same command again: what is finished is kept "
            f"for it in {work.path}, which may be removed as well."
        ) from error
    except SourceChangedError as error:
        raise ConvertError(
            f"a source changed while it was converted ({error}). Nothing is there under the final "
            "name; run the same command again when the sources are still."
        ) from error
