"""What building takes: its bounds, and DuckDB twice, once to read as it does and once to sort."""

from pathlib import Path

from app.catalog.duck import Database, ParquetRows
from app.catalog.limits import BuildLimits
from app.storage import Objects


class BuildTools:
    """The tools of one process that builds; close them when done.

    What is sorted and joined gets half of DuckDB's memory, because the process holds rows on their
    way in and out as well: 6 million ids sort in 350 MB and the rest on disk.
    """

    def __init__(self, limits: BuildLimits, spill_folder: Path) -> None:
        self.limits = limits
        self.objects = Objects(limits.objects)
        self._reference = Database(limits.duckdb_memory_bytes, threads=1)
        self.reference = ParquetRows(self._reference)
        self.joins = Database(limits.duckdb_memory_bytes // 2, limits.processes, spill_folder)

    def close(self) -> None:
        """Close both databases."""
        self._reference.close()
        self.joins.close()

    def __enter__(self) -> "BuildTools":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
