"""Which column holds the keys and which the pictures, from a Parquet file's own footer."""

import json
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.parquet as pq

from app.errors import DamagedFileError, SourceError
from app.storage.sources import Source

# What pandas, Dask and reset_index() call an index that has no name.
_KEY_NAMES = ("__index_level_0__", "__null_dask_index__", "index")
_VALUE_NAMES = ("base64", "image.bytes", "bytes", "image")


@dataclass(frozen=True, slots=True)
class Leaf:
    """A column that holds values.

    `path` is dotted where it lies inside a struct, and `parts` are the names on the way to it: a
    column's own name may have dots as well.
    """

    path: str
    parts: tuple[str, ...]
    number: int
    is_text: bool
    is_repeated: bool
    max_definition: int


@dataclass(frozen=True, slots=True)
class Columns:
    """The key and value columns of a file."""

    key: Leaf
    value: Leaf


def read_footer(source: Source) -> pq.FileMetaData:
    """The file's footer; raises DamagedFileError if it has none that can be read."""
    path = source.stamp.path
    try:
        with pq.ParquetFile(source.open(), pre_buffer=False) as file:
            return file.metadata
    except (OSError, ValueError, pa.ArrowException) as error:
        raise DamagedFileError(f"{path} is not a Parquet file that can be read: {error}") from error


def choose_columns(
    path: str, footer: pq.FileMetaData, key_column: str | None, value_column: str | None
) -> Columns:
    """The columns named, or else those that pandas' metadata, the known names or their types tell.

    Raises SourceError with the columns found where that does not settle it.
    """
    leaves = _list_leaves(footer)
    value = _named(path, leaves, value_column, "value_column") or _find_value(path, leaves)
    key = _named(path, leaves, key_column, "key_column") or _find_key(path, footer, leaves, value)
    if key == value:
        raise _refuse(path, leaves, f"{key.path} can not be both key and value")
    paths = [footer.schema.column(number).path for number in range(footer.num_columns)]
    same = [found for found in paths if found.lower() == value.path.lower()]
    if len(same) > 1:  # DuckDB does not tell them apart, and its reading is the truth
        raise _refuse(path, leaves, f"{' and '.join(same)} differ in letter case only")
    if not key.is_text:
        raise _refuse(path, leaves, f"the key column {key.path} is not a column of text")
    return Columns(key, value)


def _list_leaves(footer: pq.FileMetaData) -> list[Leaf]:
    leaves = []
    top_level = set(footer.schema.to_arrow_schema().names)
    for number in range(footer.num_columns):
        column = footer.schema.column(number)
        if column.physical_type == "BYTE_ARRAY":
            is_text = column.logical_type.type == "STRING"
            leaves.append(
                Leaf(
                    column.path,
                    (column.path,) if column.path in top_level else tuple(column.path.split(".")),
                    number,
                    is_text,
                    column.max_repetition_level > 0,
                    column.max_definition_level,
                )
            )
    return leaves


def _named(path: str, leaves: list[Leaf], name: str | None, field: str) -> Leaf | None:
    if name is None:
        return None
    for leaf in leaves:
        if leaf.path in (name, f"{name}.bytes") and not leaf.is_repeated:
            return leaf
    raise _refuse(path, leaves, f"{field} says {name!r}, which is no text or binary column of it")


def _find_value(path: str, leaves: list[Leaf]) -> Leaf:
    by_path = {leaf.path: leaf for leaf in leaves if not leaf.is_repeated}
    for name in _VALUE_NAMES:
        if name in by_path:
            return by_path[name]
    binary = [leaf for leaf in by_path.values() if not leaf.is_text]
    structs = [leaf for leaf in binary if leaf.path.endswith(".bytes")]
    for candidates in (structs, binary):
        if len(candidates) == 1:
            return candidates[0]
    raise _refuse(path, leaves, "no column is plainly the pictures'; name it with value_column")


def _find_key(path: str, footer: pq.FileMetaData, leaves: list[Leaf], value: Leaf) -> Leaf:
    texts = {
        leaf.path: leaf
        for leaf in leaves
        if leaf.is_text and leaf != value and not leaf.is_repeated and len(leaf.parts) == 1
    }
    for name in (*_index_names(footer), *_KEY_NAMES):
        if name in texts:
            return texts[name]
    if len(texts) == 1:
        return next(iter(texts.values()))
    raise _refuse(path, leaves, "no column is plainly the keys'; name it with key_column")


def _index_names(footer: pq.FileMetaData) -> list[str]:
    try:
        pandas = json.loads((footer.metadata or {}).get(b"pandas", b"{}"))
        return [name for name in pandas.get("index_columns", []) if isinstance(name, str)]
    except (ValueError, AttributeError, TypeError):
        return []  # metadata that another writer left unreadable says nothing


def _refuse(path: str, leaves: list[Leaf], why: str) -> SourceError:
    found = ", ".join(f"{leaf.path} ({'text' if leaf.is_text else 'binary'})" for leaf in leaves)
    return SourceError(
        f"{path}: {why}. Text and binary columns found: {found or 'none'}. Name them by "
        "key_column and value_column in the data YAML, or --key-column and --value-column."
    )
