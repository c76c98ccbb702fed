"""Image and instruction files, laid out as the programs that people use write them.

pandas: one file of one row group, index last, rows in the order they came. Dask: a folder of such
files, rows in key order over all of them. Legacy: one JSON object of keys and base64.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

# Whose layout this is. Readers of the pandas metadata want a version, and pandas is not there.
PANDAS_VERSION = "3.1.1"


def write_pandas_file(path: Path, images: Mapping[str, str]) -> None:
    """The file that `to_parquet` of pandas makes of a frame with the keys as unnamed index."""
    _write_parquet(path, images, index="__index_level_0__", index_name=None, numpy_type="str")


def write_dask_folder(folder: Path, images: Iterable[tuple[str, str]], *, part_rows: int) -> None:
    """The folder that `to_parquet` of Dask makes of images in key order, a part at a time."""
    folder.mkdir()
    index = "__null_dask_index__"
    stream = iter(images)
    number = 0
    while part := dict(islice(stream, part_rows)):
        path = folder / f"part.{number}.parquet"
        _write_parquet(path, part, index=index, index_name=index, numpy_type="string")
        number += 1


def write_json_object(path: Path, items: Iterable[tuple[str, object]]) -> None:
    """One JSON object, streamed, an item a line."""
    with path.open("w", encoding="utf-8", newline="\n") as file:
        file.write("{\n")
        file.writelines(_list_lines(items))
        file.write("\n}\n")


def write_instructions(
    path: Path, meta: Mapping[str, object], records: Iterable[tuple[str, object]]
) -> None:
    """An instructions file, streamed, a record a line."""
    with path.open("w", encoding="utf-8", newline="\n") as file:
        file.write(f'{{"meta": {json.dumps(meta)}, "data": {{\n')
        file.writelines(_list_lines(records))
        file.write("\n}}\n")


def _list_lines(items: Iterable[tuple[str, object]]) -> Iterator[str]:
    separator = ""
    for key, value in items:
        yield f"{separator}{json.dumps(key)}: {json.dumps(value)}"
        separator = ",\n"


def _write_parquet(
    path: Path, images: Mapping[str, str], *, index: str, index_name: str | None, numpy_type: str
) -> None:
    """Keys and base64 as one row group, with what pandas needs to make the keys the index again."""
    kind = {"pandas_type": "object", "numpy_type": numpy_type, "metadata": None}
    header = {"pandas_type": "unicode", "numpy_type": "str", "metadata": {"encoding": "UTF-8"}}
    metadata = {
        "index_columns": [index],
        "column_indexes": [{"name": None, "field_name": None, **header}],
        "columns": [
            {"name": "base64", "field_name": "base64", **kind},
            {"name": index_name, "field_name": index, **kind},
        ],
        "attributes": {},
        "creator": {"library": "pyarrow", "version": pa.__version__},
        "pandas_version": PANDAS_VERSION,
    }
    table = pa.table(
        {
            "base64": pa.array(images.values(), pa.large_string()),
            index: pa.array(images, pa.large_string()),
        },
        metadata={"pandas": json.dumps(metadata)},
    )
    pq.write_table(table, path, compression="snappy")
