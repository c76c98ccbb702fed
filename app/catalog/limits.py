"""The bounds of building a catalog."""

from dataclasses import dataclass, field

from app.storage import ObjectLimits


@dataclass(frozen=True, slots=True)
class BuildLimits:
    """What building may take; sizes in bytes. `app.settings` says why each is what it is."""

    max_value_bytes: int
    max_page_bytes: int
    duckdb_memory_bytes: int
    processes: int
    objects: ObjectLimits = field(default_factory=ObjectLimits)
