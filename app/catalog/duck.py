"""DuckDB, the only place that knows it: set questions at index time, and the reference reader.

Settings as measured: without `disable_parquet_prefetching` a single row of a pandas file fetches
the whole column chunk (2.5 GB for a 2 GB file, and it fails under a memory limit).
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from app.errors import DamagedFileError


@contextmanager
def connected(
    *, memory_bytes: int, threads: int, spill_folder: Path | None = None
) -> Iterator[Any]:
    """An in-memory database that keeps within `memory_bytes` and spills into `spill_folder`."""
    config: dict[str, Any] = {
        "memory_limit": f"{memory_bytes}B",
        "threads": threads,
        "autoinstall_known_extensions": "false",
        "autoload_known_extensions": "false",
        "temp_directory": str(spill_folder / "spill") if spill_folder else "",
    }
    connection = duckdb.connect(":memory:", config=config)
    # GLOBAL, because a cursor is a connection of its own and does not take over what is set here.
    connection.execute("SET GLOBAL disable_parquet_prefetching=true")
    connection.execute("SET GLOBAL parquet_metadata_cache=true")
    connection.execute("SET GLOBAL enable_external_file_cache=false")
    try:
        yield connection
    finally:
        connection.close()


def quote(identifier: str) -> str:
    """A column's dotted path as SQL; column names come from the mounted files, never a client."""
    return ".".join(f'"{part.replace(chr(34), chr(34) * 2)}"' for part in identifier.split("."))


class ParquetRows:
    """Reads the stored bytes of a Parquet column as DuckDB reads them: right for every layout.

    Raises DamagedFileError where DuckDB can not read the file, and MemoryError where it can not
    within the connection's memory.
    """

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    def get(self, path: str, column: str, rows: Sequence[int]) -> dict[int, bytes | None]:
        """The values of those rows, by row number."""
        sql = (
            f"SELECT file_row_number, {quote(column)} FROM read_parquet(?, file_row_number = true, "
            f"hive_partitioning = false) WHERE file_row_number IN ({', '.join('?' * len(rows))})"
        )
        with _translated(path):
            found = self._connection.cursor().execute(sql, [[_literal(path)], *rows]).fetchall()
        return {row: _as_bytes(value) for row, value in found}

    def scan(self, path: str, column: str) -> Iterator[bytes | None]:
        """Every value, in row order, a few held at a time."""
        cursor = self._connection.cursor()
        with _translated(path):
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
        raise DamagedFileError(f"{path}: DuckDB can not read it: {error}") from error


def query_arrow(
    connection: Any, sql: str, tables: dict[str, Any], batch_rows: int
) -> Iterator[pa.RecordBatch]:
    """The answer to a query over Arrow tables or streams, some rows at a time."""
    for name, table in tables.items():
        connection.register(name, table)
    connection.execute("SET streaming_buffer_size = '1MB'")
    yield from connection.sql(sql).to_arrow_reader(batch_rows)


def query_rows(
    connection: Any, sql: str, tables: dict[str, Any], parameters: Sequence[object]
) -> list[tuple[Any, ...]]:
    """The whole answer to a query over Arrow tables; the SQL bounds how long it is."""
    cursor = connection.cursor()
    for name, table in tables.items():
        cursor.register(name, table)
    rows: list[tuple[Any, ...]] = cursor.execute(sql, list(parameters)).fetchall()
    return rows
