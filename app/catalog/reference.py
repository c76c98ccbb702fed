"""DuckDB while serving: opened when it is first needed, for slow rows and for searching."""

from contextlib import ExitStack
from threading import Lock
from typing import Any

from app.catalog import duck
from app.errors import DamagedFileError, SourceChangedError
from app.storage import FileStamp


class Reference:
    """One DuckDB database of a worker, within `memory_bytes`; close it when done."""

    def __init__(self, memory_bytes: int) -> None:
        self._memory_bytes = memory_bytes
        self._stack = ExitStack()
        self._lock = Lock()
        self._connection: Any = None

    def close(self) -> None:
        """Close the database, if it was opened."""
        self._stack.close()

    def connect(self) -> Any:
        """The database's connection; take a cursor of it for each thread."""
        with self._lock:
            if self._connection is None:
                self._connection = self._stack.enter_context(
                    duck.connected(memory_bytes=self._memory_bytes, threads=1)
                )
            return self._connection

    def read_row(self, stamp: FileStamp, column: str, row: int) -> bytes:
        """The stored bytes of a row of a Parquet file.

        Raises SourceChangedError if DuckDB no longer reads what it did when the file was indexed.
        """
        try:
            found = duck.ParquetRows(self.connect()).get(stamp.path, column, [row]).get(row)
        except (DamagedFileError, MemoryError) as error:
            raise SourceChangedError(str(error)) from error
        if found is None:
            raise SourceChangedError(f"{stamp.path} no longer has a value in row {row}")
        return found
