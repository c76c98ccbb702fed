"""How images are to be converted."""

from dataclasses import dataclass

from app.catalog.limits import BuildLimits
from app.convert.sources import Kind

# The format's protocol asks for files under 2 GB.
MAX_PARTITION_BYTES = 2_000_000_000
MIN_PARTITION_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class ImageOptions:
    """What is read and how it is written; `limits` bound each process."""

    limits: BuildLimits
    kind: Kind | None = None  # of all inputs; None is told from each
    key_column: str | None = None
    value_column: str | None = None
    path_column: str | None = None  # of a CSV or JSONL
    is_sorted: bool = False  # by key, else the order of the inputs
    is_verified: bool = False  # the output is read again and compared with the sources
    max_partition_bytes: int = MAX_PARTITION_BYTES  # of a file
