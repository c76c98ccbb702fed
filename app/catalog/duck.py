"""DuckDB, the only place that knows it: set questions at index time, and the reference reader.

Settings as measured: without `disable_parquet_prefetching` a single row of a pandas file fetches
the whole column chunk (2.5 GB for a 2 GB file, and it fails under a memory limit).
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from typing import Any

import duckdb
import pyarrow as pa

from app.errors import CatalogError, DamagedFileError, OverloadedError


class Database:
    """An in-memory database, opened when it is first used, because that takes 25 ms.

    It keeps within `memory_bytes` and spills what is more into `spill_folder`.
    """

    def __init__(self, memory_bytes: int, threads: int, spill_folder: Path | None = None) -> None:
        self._config: dict[str, Any] = {
            "memory_limit": f"{memory_bytes}B",
            "threads": threads,
            "autoinstall_known_extensions": "false",
            "autoload_known_extensions": "false",
            "temp_directory": str(spill_folder or ""),
        }
        self._connection: Any = None
        self._lock = Lock()

    def cursor(self) -> Any:
        """A connection of its own: a thread needs one, and tables registered on it go with it."""
        with self._lock:
            if self._connection is None:
                self._connection = duckdb.connect(":memory:", config=self._config)
                # GLOBAL, because a cursor does not take over what is set on its connection.
                for setting in _SETTINGS:
                    self._connection.execute(f"SET GLOBAL {setting}")
            return self._connection.cursor()

    def close(self) -> None:
        """Close the database, if it was opened."""
        with self._lock:
            if self._connection is not None:
                self._connection.close()
                self._connection = None

    def __enter__(self) -> "Database":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def query_arrow(
        self, sql: str, tables: dict[str, Any], batch_rows: int
    ) -> Iterator[pa.RecordBatch]:
        """The answer to a query over Arrow tables or streams, some rows at a time."""
        with self.cursor() as cursor, _failing_as_catalog_error():
            for name, table in tables.items():
                cursor.register(name, table)
            cursor.execute("SET streaming_buffer_size = '1MB'")
            yield from cursor.sql(sql).to_arrow_reader(batch_rows)

    def query_rows(
        self,
        sql: str,
        tables: dict[str, Any],
        parameters: Sequence[object] | dict[str, object],
    ) -> list[tuple[Any, ...]]:
        """The whole answer to a query over Arrow tables; the SQL bounds how long it is."""
        with self.cursor() as cursor:
            for name, table in tables.items():
                cursor.register(name, table)
            try:
                rows: list[tuple[Any, ...]] = cursor.execute(sql, parameters).fetchall()
            except duckdb.OutOfMemoryException as error:
                raise OverloadedError(
                    "searching takes more memory than the setting duckdb_memory_bytes"
                ) from error
            return rows


_SETTINGS = (
    "disable_parquet_prefetching = true",
    "parquet_metadata_cache = true",
    "enable_external_file_cache = false",  # it would hold a second copy of what is cached already
)


@contextmanager
def _failing_as_catalog_error() -> Iterator[None]:
    try:
        yield
    except duckdb.Error as error:
        raise CatalogError(f"DuckDB can not sort or join what was indexed: {error}") from error


def quote(parts: Sequence[str]) -> str:
    """A column, by the names on the way to it, as SQL; they come from the file, never a client."""
    return ".".join(f'"{part.replace(chr(34), chr(34) * 2)}"' for part in parts)


class ParquetRows:
    """Reads the stored bytes of a Parquet column as DuckDB reads them: right for every layout.

    Raises DamagedFileError where DuckDB can not read the file, and MemoryError where it can not
    within the database's memory.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._lock = Lock()  # one read at a time: each takes 400 MB from a pandas file

    def get(self, path: str, column: Sequence[str], rows: Sequence[int]) -> dict[int, bytes | None]:
        """The values of those rows, by row number."""
        sql = (
            f"SELECT file_row_number, {quote(column)} FROM read_parquet(?, file_row_number = true, "
            f"hive_partitioning = false) WHERE file_row_number IN ({', '.join('?' * len(rows))})"
        )
        with _translated(path), self._database.cursor() as cursor:
            found = cursor.execute(sql, [[_literal(path)], *rows]).fetchall()
        return {row: _as_bytes(value) for row, value in found}

    def scan(self, path: str, column: Sequence[str]) -> Iterator[bytes | None]:
        """Every value, in row order, a few held at a time."""
        with _translated(path), self._database.cursor() as cursor:
            cursor.execute("SET streaming_buffer_size = '1MB'")
            relation = cursor.sql(
                f"SELECT {quote(column)} FROM read_parquet(?, hive_partitioning = false)",
                params=[[_literal(path)]],
            )
            for batch in relation.to_arrow_reader(64):
                for value in batch.column(0):
                    yield _as_bytes(value.as_py())


def _literal(path: str) -> str:
    """The path with its wildcards taken literally: read_parquet takes every name as a pattern."""
    return "".join(f"[{character}]" if character in "*?[" else character for character in path)


def _as_bytes(value: str | bytes | None) -> bytes | None:
    return value.encode() if isinstance(value, str) else value


@contextmanager
def _translated(path: str) -> Iterator[None]:
    try:
        yield
    except duckdb.OutOfMemoryException as error:
        raise MemoryError(f"{path}: DuckDB needs more memory than it may take") from error
    # Errors in the middle of a stream come through Arrow as an OSError, and one whose message
    # quotes damaged bytes comes as a UnicodeDecodeError.
    except (duckdb.Error, OSError, UnicodeDecodeError) as error:
        if "Out of Memory" in str(error):
            raise MemoryError(f"{path}: DuckDB needs more memory than it may take") from error
        raise DamagedFileError(f"{path}: DuckDB can not read it: {error}") from error
