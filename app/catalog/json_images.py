"""A legacy images.json, {key: base64}: its values lie in the file as they are, as in one page."""

from array import array
from collections.abc import Iterator

import numpy as np
import pyarrow as pa

from app.catalog.image_rows import BATCH_ROWS, Scanned, ScannedFile, WriteRows
from app.catalog.limits import BuildLimits
from app.images.stored import Form, classify
from app.json_object import JsonStream, NotTextError
from app.parquet.pages import Layout, Page
from app.parquet.place import PLACE_TYPE, Place, hash_stored
from app.storage import FileStamp, Read


def scan_json(
    stamp: FileStamp, read: Read, limits: BuildLimits, write_rows: WriteRows
) -> ScannedFile:
    """Write the rows of the file; raises DamagedFileError if it is no such object."""
    page = Page(0, Layout.AS_IS, "uncompressed", 0, stamp.size_bytes, stamp.size_bytes, 0)
    stream = JsonStream(stamp.path, read, stamp.size_bytes, limits.max_value_bytes)
    rows = write_rows(_json_rows(stream, limits.max_value_bytes))
    return ScannedFile(rows, [page], array("Q"), "in_place", None, False, None, None, [])


def _json_rows(stream: JsonStream, max_bytes: int) -> Iterator[Scanned]:
    keys: list[str] = []
    places: list[Place] = []
    for key in stream.members():
        keys.append(key)
        places.append(_json_place(stream, max_bytes))
        if len(keys) == BATCH_ROWS:
            yield _json_keys(keys), np.array(places, PLACE_TYPE)
            keys, places = [], []
    stream.end()
    yield _json_keys(keys), np.array(places, PLACE_TYPE)


def _json_keys(keys: list[str]) -> pa.Array:
    try:
        return pa.array(keys, pa.string())
    except UnicodeEncodeError:  # a lone surrogate is no text, so no request can name its key
        return pa.array([key if _is_text(key) else None for key in keys], pa.string())


def _is_text(key: str) -> bool:
    return not any("\ud800" <= character <= "\udfff" for character in key)


def _json_place(stream: JsonStream, max_bytes: int) -> Place:
    """The place of a value: text, null, or a list of which the first is meant."""
    if stream.peek() == "[":
        places = [_json_scalar(stream, max_bytes) for _ in stream.items()]
        return places[0] if places else Place(0, 0, 0, 0, Form.NULL)
    return _json_scalar(stream, max_bytes)


def _json_scalar(stream: JsonStream, max_bytes: int) -> Place:
    if stream.peek() == '"':
        span = stream.string_span()
        if len(span.text) > max_bytes:
            return Place(span.offset, 0, 0, len(span.text), Form.TOO_LARGE)
        form = classify(span.text, raw=False, json_string=True)
        return Place(span.offset, hash_stored(span.text), 0, len(span.text), form)
    try:
        form = Form.NULL if stream.value() is None else Form.UNDECODABLE
    except NotTextError:
        form = Form.UNDECODABLE
    return Place(0, 0, 0, 0, form)
