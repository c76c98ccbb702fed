"""The rows of a source's files, sorted by key, become one index: a place for each key."""

import struct
from array import array
from collections.abc import Iterator

import numpy as np
import pyarrow as pa
from xxhash import xxh3_128

from app.catalog.keyed import MAX_KEY_BYTES
from app.catalog.problems import ProblemWriter
from app.images.stored import Form
from app.parquet.place import PLACE_TYPE, Place

KEYS = pa.schema(
    [("key", pa.string()), ("length", pa.uint32()), ("form", pa.uint8()), ("hash", pa.uint64())]
)
PLACE = struct.Struct("<QQIIB")
PROBLEM_OF_FORM = {
    Form.NULL: ("null_image", "its value is null"),
    Form.EMPTY: ("empty_image", "its value is empty"),
    Form.UNDECODABLE: ("undecodable_image", "its value is not base64"),
    Form.TOO_LARGE: ("large_image", "its value is over max_value_bytes"),
}
_SAME_BYTES = "the source has this key more than once, with the same bytes"
_OTHER_BYTES = {
    False: "the source has this key more than once, with other bytes; the first are served",
    True: "the source has this key more than once, with other bytes; the last are served",
}


class ImageMerge:
    """Turns sorted rows into index entries, counting and digesting what is kept."""

    def __init__(self) -> None:
        self.images = 0
        self.readable = 0
        self.stored_bytes = 0
        # A digest a column: their concatenation does not depend on how rows came in batches.
        self._digests = [xxh3_128() for _ in range(5)]

    def digest(self) -> str:
        """A digest of the keys and of the length, hash and form of their values."""
        return xxh3_128(b"".join(part.digest() for part in self._digests)).hexdigest()

    def entries(
        self,
        batches: Iterator[pa.RecordBatch],
        table: pa.RecordBatchFileWriter,
        problems: ProblemWriter,
        *,
        last_wins: bool,
    ) -> Iterator[tuple[bytes, bytes]]:
        """The (key, place) pairs to keep, while `table` and `problems` are written."""
        held: tuple[str, bytes, Place] | None = None
        kept: list[tuple[str, bytes, Place]] = []
        for batch in batches:
            keys = batch.column("key").to_pylist()
            columns = [batch.column(name).to_pylist() for name in PLACE_TYPE.names or ()]
            for key, *fields in zip(keys, *columns, strict=True):
                encoded = self._checked(key, problems)
                if encoded is None:
                    continue
                row = (key, encoded, Place(*fields))
                if held is not None and held[1] == encoded:
                    if _bytes_of(row[2]) == _bytes_of(held[2]):
                        problems.add("duplicate_image", key, _SAME_BYTES)
                    else:
                        problems.add("conflicting_image", key, _OTHER_BYTES[last_wins])
                    held = row if last_wins else held
                    continue
                if held is not None:
                    kept.append(held)
                held = row
            yield from self._keep(kept, table, problems)
            kept = []
        yield from self._keep([held] if held else [], table, problems)

    @staticmethod
    def _checked(key: str | None, problems: ProblemWriter) -> bytes | None:
        encoded = (key or "").encode()
        if not encoded:
            problems.add("unnamed_image", "", "its key is null, empty or not text")
            return None
        if len(encoded) > MAX_KEY_BYTES:
            problems.add("long_key", key or "", f"its key is longer than {MAX_KEY_BYTES} bytes")
            return None
        return encoded

    def _keep(
        self,
        rows: list[tuple[str, bytes, Place]],
        table: pa.RecordBatchFileWriter,
        problems: ProblemWriter,
    ) -> Iterator[tuple[bytes, bytes]]:
        for key, encoded, place in rows:
            if place.form in PROBLEM_OF_FORM:
                kind, detail = PROBLEM_OF_FORM[Form(place.form)]
                problems.add(kind, key, detail)
            else:
                self.readable += 1
            yield encoded, PLACE.pack(*place)
        places = np.array([place for _, _, place in rows], PLACE_TYPE)
        encoded_keys = [encoded for _, encoded, _ in rows]
        self.images += len(rows)
        self.stored_bytes += int(places["length"].sum(dtype=np.uint64))
        parts = (
            array("I", map(len, encoded_keys)).tobytes(),
            b"".join(encoded_keys),
            places["length"].tobytes(),
            places["hash"].tobytes(),
            places["form"].tobytes(),
        )
        for digest, part in zip(self._digests, parts, strict=True):
            digest.update(part)
        table.write_batch(
            pa.record_batch(
                [
                    pa.array([key for key, _, _ in rows], pa.string()),
                    pa.array(places["length"]),
                    pa.array(places["form"]),
                    pa.array(places["hash"]),
                ],
                schema=KEYS,
            )
        )


def _bytes_of(place: Place) -> tuple[int, int, int]:
    """What tells the stored bytes of two places apart."""
    return place.length, place.hash, place.form
