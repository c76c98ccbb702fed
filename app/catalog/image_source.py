"""A dataset's images, whatever files they lie in: built from the files' units, opened by workers.

keys.lmdb       key → place, in key order
keys.arrow      key, length, form, hash: the same in a table, for DuckDB's joins
pages.bin       the files' pages, one after the other
seeks.bin       their seek points
problems.arrow  null, empty and undecodable values, and keys that are there twice
unit.json       ImageFacts
"""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import msgspec
import numpy as np
import pyarrow as pa

from app.catalog.duck import Database, ParquetRows
from app.catalog.image_file import FileFacts
from app.catalog.image_merge import KEYS, PLACE, ImageMerge
from app.catalog.image_rows import ROWS
from app.catalog.keyed import KeyedFile, sort_key, write_keyed
from app.catalog.problems import ProblemWriter
from app.catalog.table import map_file, stream_rows
from app.errors import DamagedFileError, OverloadedError, SourceChangedError, UnknownImageError
from app.parquet.pages import pack_page, unpack_page
from app.parquet.place import Place
from app.parquet.reader import CountRead, PageCache, Stored, ValueReader, ignore_read
from app.storage import FileStamp, Storage

_SORTED_ROWS = 65_536


class ImageFacts(msgspec.Struct, frozen=True):
    """What is known of a dataset's images; `digest` is of their keys, lengths and bytes."""

    digest: str
    images: int
    readable: int
    stored_bytes: int
    problems: dict[str, int]
    files: list[FileFacts]


def build_images(units: list[Path], database: Database, folder: Path) -> None:
    """Write the unit for the files of `units`, in their order, into `folder`.

    Of a key that is there twice the first is served, but from a JSON file the last, as json reads
    it.
    """
    files = [
        msgspec.json.decode((unit / "unit.json").read_bytes(), type=FileFacts) for unit in units
    ]
    _join_pages(units, files, folder)
    merge = ImageMerge()
    with (
        ProblemWriter(folder / "problems.arrow") as problems,
        pa.ipc.new_file(str(folder / "keys.arrow"), KEYS) as table,
    ):
        last_wins = any(file.path.endswith(".json") for file in files)
        batches = _sorted_rows(units, files, database)
        entries = merge.entries(batches, table, problems, last_wins=last_wins)
        write_keyed(folder / "keys.lmdb", entries, max_entries=sum(file.rows for file in files))
    facts = ImageFacts(
        merge.digest(), merge.images, merge.readable, merge.stored_bytes, problems.counts, files
    )
    (folder / "unit.json").write_bytes(msgspec.json.encode(facts))


def _join_pages(units: list[Path], files: list[FileFacts], folder: Path) -> None:
    seek = 0
    with open(folder / "pages.bin", "wb") as pages, open(folder / "seeks.bin", "wb") as seeks:
        for number, (unit, file) in enumerate(zip(units, files, strict=True)):
            found = memoryview((unit / "pages.bin").read_bytes())
            for row in range(file.pages):
                page = unpack_page(found, row)
                pages.write(pack_page(page._replace(file=number, seek=page.seek + seek)))
            seeks.write((unit / "seeks.bin").read_bytes())
            seek += file.seeks


def _sorted_rows(
    units: list[Path], files: list[FileFacts], database: Database
) -> Iterator[pa.RecordBatch]:
    """All rows in the order of their sort keys, and of the files where those are the same."""
    schema = ROWS.append(pa.field("sort_key", pa.binary())).append(pa.field("ordinal", pa.uint64()))
    rows = pa.RecordBatchReader.from_batches(schema, _numbered_rows(units, files, schema))
    sql = "SELECT * FROM rows ORDER BY sort_key, ordinal"
    return database.query_arrow(sql, {"rows": rows}, _SORTED_ROWS)


def _numbered_rows(
    units: list[Path], files: list[FileFacts], schema: pa.Schema
) -> Iterator[pa.RecordBatch]:
    ordinal = page = 0
    for unit, file in zip(units, files, strict=True):
        for batch in stream_rows(unit / "rows.arrow", ROWS.names):
            columns = dict(zip(batch.schema.names, batch.columns, strict=True))
            columns["page"] = pa.array(columns["page"].to_numpy() + np.uint32(page))
            columns["sort_key"] = _sort_keys(columns["key"])
            numbers = np.arange(ordinal, ordinal + len(batch), dtype=np.uint64)
            columns["ordinal"] = pa.array(numbers)
            ordinal += len(batch)
            yield pa.record_batch([columns[name] for name in schema.names], schema=schema)
        page += file.pages


def _sort_keys(keys: pa.Array) -> pa.Array:
    encoded = keys.cast(pa.binary())
    return pa.array(
        [None if key is None else sort_key(key) for key in encoded.to_pylist()], pa.binary()
    )


class ImageSource:
    """A dataset's images, opened: places by key, and the stored bytes at a place."""

    def __init__(
        self,
        folder: Path,
        choose_storage: Callable[[str], Storage],
        cache: PageCache,
        rows: ParquetRows,
        count_read: CountRead = ignore_read,
    ) -> None:
        self.folder = folder
        self.facts = msgspec.json.decode((folder / "unit.json").read_bytes(), type=ImageFacts)
        self._keys = KeyedFile(folder / "keys.lmdb", PLACE.size)
        files = tuple(file.stamp for file in self.facts.files)
        # All are local, or all are objects: one images_path names them.
        storage = choose_storage(files[0].path if files else "")
        columns = {file.path: file.value_parts for file in self.facts.files}
        self.reader = ValueReader(
            files,
            map_file(folder / "pages.bin"),
            map_file(folder / "seeks.bin").cast("Q"),
            storage,
            cache,
            partial(_read_row, rows, columns),
            count_read,
        )

    def close(self) -> None:
        """Unmap the keys."""
        self._keys.close()

    def find_place(self, key: str) -> Place | None:
        """The place of the key's value, or None."""
        try:
            record = self._keys.get(key.encode())
        except UnicodeEncodeError:
            return None
        return None if record is None else Place(*PLACE.unpack(record))

    def get_place(self, key: str) -> Place:
        """The place of the key's value; raises UnknownImageError."""
        place = self.find_place(key)
        if place is None:
            raise UnknownImageError(f"no image has the key {key[:200]!r}")
        return place

    def read(self, place: Place, *, wait: bool, is_checked: bool = False) -> Stored:
        """The stored bytes at a place, as `ValueReader.read`."""
        return self.reader.read(place, wait=wait, is_checked=is_checked)

    def list_keys(self, after: str, prefix: str, limit: int) -> list[tuple[str, Place]]:
        """At most `limit` keys that begin with `prefix` and come after `after`, in key order."""
        found = self._keys.list_after(after.encode(), limit, prefix.encode())
        return [(key.decode(), Place(*PLACE.unpack(record))) for key, record in found]

    def sample_keys(self, limit: int) -> list[str]:
        """At most `limit` keys, spread evenly over all of them."""
        with pa.memory_map(str(self.folder / "keys.arrow")) as file, pa.ipc.open_file(file) as keys:
            column = keys.read_all().column("key")
            rows = np.linspace(0, len(column) - 1, min(limit, len(column)), dtype=int)
            return [column[row].as_py() for row in rows.tolist()]


def _read_row(
    rows: ParquetRows, columns: dict[str, list[str]], stamp: FileStamp, row: int
) -> bytes:
    """The stored bytes of a row, as DuckDB reads them; raises SourceChangedError if it can not
    do what it did when the file was indexed."""
    try:
        found = rows.get(stamp.path, columns[stamp.path], [row]).get(row)
    except DamagedFileError as error:
        raise SourceChangedError(str(error)) from error
    except MemoryError as error:
        raise OverloadedError(f"{error} (setting duckdb_memory_bytes)") from error
    if found is None:
        raise SourceChangedError(f"{stamp.path} no longer has a value in row {row}")
    return found
