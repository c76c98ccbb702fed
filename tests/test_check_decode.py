"""mimicit check --decode: pictures that do not decode or are too large, and their sizes."""

import io
import pickle
import struct
import zlib
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import dask.dataframe as dd
import duckdb
import pandas as pd
import polars as pl
import pytest
from check_packs import MAX_PIXELS, Dataset, Pack, Source, counts_of, encode, run_check
from packs import draw_jpeg, record
from PIL import Image

from app.catalog import stored_rows
from app.catalog.stored_rows import RowRange, list_ranges
from app.check.decode import DecodePictures
from app.check.report import Report
from app.errors import SourceChangedError
from app.tasks.here import Here
from app.tasks.processes import Processes

pytestmark = pytest.mark.slow


def draw(format: str, **options: object) -> bytes:
    out = io.BytesIO()
    Image.effect_noise((60, 40), 50).save(out, format, **options)
    return out.getvalue()


def animate() -> bytes:
    out = io.BytesIO()
    first, *others = [Image.new("L", (9, 7), shade) for shade in (0, 90, 200)]
    first.save(out, "GIF", save_all=True, append_images=others)
    return out.getvalue()


def bomb(side: int) -> bytes:
    """A PNG of some bytes that says that it is so large."""
    header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    pixels = zlib.compress(bytes(1000))
    chunks = [(b"IHDR", header), (b"IDAT", pixels), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
        for name, body in chunks
    )


GOOD = {
    "jpeg": draw_jpeg(1),
    "png": draw("PNG"),
    "webp": draw("WEBP"),
    "bmp": draw("BMP"),
    "animated": animate(),
    "just": draw_jpeg(2, 2000, MAX_PIXELS // 2000),
}
UNDECODABLE = {
    "cut jpeg": draw("JPEG")[:-300],
    "cut png": draw("PNG")[:-200],
    "head of a jpeg": draw("JPEG")[:20],
    "text": b"no picture at all",
    "html": b"<html>404</html>",
    "broken png": draw("PNG").replace(b"IDAT", b"IDAX"),
}
LARGE = {
    "bomb": bomb(2**31 - 1),
    "over": draw_jpeg(3, 2001, MAX_PIXELS // 2000),
}
EVERYTHING = GOOD | UNDECODABLE | LARGE
RECORDS = [("I", record("q", *EVERYTHING))]


def check_kinds(report: Report) -> None:
    found = {one.kind: {row.name for row in one.examples} for one in report.problems}
    assert found == {"undecodable_picture": set(UNDECODABLE), "large_picture": set(LARGE)}
    assert report.decoded == len(EVERYTHING)
    (source,) = report.sources
    widths = Counter(Image.open(io.BytesIO(data)).width for data in GOOD.values())
    assert source.widths is not None
    assert source.heights is not None
    assert source.widths.total == source.heights.total == widths.total()
    assert (source.widths.least, source.widths.greatest) == (min(widths), max(widths))
    assert source.heights.greatest == MAX_PIXELS // 2000


@pytest.mark.parametrize("name", ["I.parquet", "I.json"])
def test_pictures_that_do_not_decode_are_named(name: str, tmp_path: Path) -> None:
    source = Source(name, [(key, encode(data)) for key, data in EVERYTHING.items()])
    data = Pack([Dataset("SET", RECORDS, source)]).write(tmp_path)
    report = run_check(data, tmp_path / "c", decode=True, examples=20)
    check_kinds(report)
    details = {row.name: row.detail for one in report.problems for row in one.examples}
    assert "not a JPEG" in details["text"]
    assert "truncated" in details["cut jpeg"]
    assert "2147483647 x 2147483647" in details["bomb"]
    assert counts_of(run_check(data, tmp_path / "c")) == {}


def write_pandas(frame: pd.DataFrame, path: Path) -> None:
    frame.to_parquet(path)


def write_zstd(frame: pd.DataFrame, path: Path) -> None:
    frame.to_parquet(path, compression="zstd")


def write_dask(frame: pd.DataFrame, path: Path) -> None:
    dd.from_pandas(frame.sort_index(), npartitions=3).to_parquet(str(path))  # type: ignore[no-untyped-call]


def write_duckdb(frame: pd.DataFrame, path: Path) -> None:
    rows = frame.reset_index(names="key")  # noqa: F841 - DuckDB finds it by its name
    duckdb.sql(f"COPY rows TO '{path}' (FORMAT parquet, COMPRESSION gzip)")


def write_polars(frame: pd.DataFrame, path: Path) -> None:
    pl.DataFrame({"key": list(frame.index), "base64": list(frame["base64"])}).write_parquet(path)


def write_delta(frame: pd.DataFrame, path: Path) -> None:
    frame.to_parquet(path, use_dictionary=False, column_encoding="DELTA_LENGTH_BYTE_ARRAY")


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
@pytest.mark.parametrize(
    ("write", "reader"),
    [
        (write_pandas, "in_place"),
        (write_zstd, "whole_pages"),
        (write_dask, "in_place"),
        (write_duckdb, "whole_pages"),
        (write_polars, "whole_pages"),
        (write_delta, "duckdb"),
    ],
    ids=["pandas", "zstd", "dask", "duckdb", "polars", "delta"],
)
def test_files_of_every_writer(
    write: Callable[[pd.DataFrame, Path], None], reader: str, tmp_path: Path
) -> None:
    values = {key: encode(data) for key, data in EVERYTHING.items()}
    write(
        pd.DataFrame({"base64": list(values.values())}, index=list(values)), tmp_path / "i.parquet"
    )
    pack = Pack([Dataset("SET", RECORDS, None)])
    data = pack.write(tmp_path)
    data.write_text(
        "IMAGE_TEXT: {SET: {mimicit_path: SET_instructions.json, images_path: i.parquet}}"
    )
    report = run_check(data, tmp_path / "c", decode=True, examples=20)
    check_kinds(report)
    (source,) = report.sources
    assert set(source.readers) == {reader}
    for file in source.files:
        assert (file.reason is None) == (reader == "in_place")
        assert file.lookup_us is not None
        assert 0 < file.lookup_us < 10e6


def test_of_a_key_that_is_there_again_what_is_served_is_reported(tmp_path: Path) -> None:
    text = encode(b"no picture")
    good, other = encode(GOOD["jpeg"]), encode(b"nor this")
    values = [("a", good), ("a", text), ("b", text), ("b", good), ("c", text), ("c", text)]
    a, b = Source("A.parquet", list(values)), Source("B.json", [*values, ("d", text), ("d", other)])
    records = [("I", record("q", "a", "b", "c"))]
    data = Pack([Dataset("A", records, a), Dataset("B", records, b)]).write(tmp_path)
    report = run_check(data, tmp_path / "c", decode=True)
    (bad,) = [one for one in report.problems if one.kind == "undecodable_picture"]
    assert [(row.dataset, row.name) for row in bad.examples] == [
        ("A", "b"),
        ("A", "c"),
        ("B", "a"),
        ("B", "c"),
        ("B", "d"),
    ]
    assert bad.count == 5


def test_ranges_cover_a_file_once_and_are_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = [(f"k{number:03}", encode(draw_jpeg(number))) for number in range(100)]
    values[50] = ("k050", encode(b"\xff\xd8\xff" + b"x" * 9000))
    data = Pack([Dataset("SET", [], Source("I.parquet", list(values)))]).write(tmp_path)
    monkeypatch.setattr(stored_rows, "_MAX_BYTES", 6000)
    monkeypatch.setattr(stored_rows, "_MAX_ROWS", 7)
    report = run_check(data, tmp_path / "c", decode=True)
    assert counts_of(report) == {"undecodable_picture": 1, "unused_image": 100}
    (unit,) = (tmp_path / "c" / "units").glob("file-*")
    ranges = list(list_ranges(unit))
    assert [one.first for one in ranges] == [0, *(one.end for one in ranges[:-1])]
    assert ranges[-1].end == 100
    assert all(one.end - one.first <= 7 for one in ranges)
    lengths = [len(value or "") for _, value in values]
    for one in ranges:
        assert one.stored_bytes == sum(lengths[one.first : one.end])
        assert one.stored_bytes <= 6000 or one.end - one.first == 1


def test_processes_find_the_same(tmp_path: Path) -> None:
    values = [(key, encode(data)) for key, data in EVERYTHING.items()]
    data = Pack([Dataset("SET", RECORDS, Source("I.parquet", list(values)))]).write(tmp_path)
    reports = [
        run_check(data, tmp_path / "c", decode=True, examples=20, runner=runner)
        for runner in (Here(), Processes(2))
    ]
    assert reports[0].problems == reports[1].problems
    assert reports[0].sources[0].widths == reports[1].sources[0].widths


def test_an_item_can_be_done_again_and_elsewhere(tmp_path: Path) -> None:
    values = [(key, encode(data)) for key, data in EVERYTHING.items()]
    data = Pack([Dataset("SET", RECORDS, Source("I.parquet", list(values)))]).write(tmp_path)
    run_check(data, tmp_path / "c")
    (unit,) = (tmp_path / "c" / "units").glob("file-*")
    job = pickle.loads(pickle.dumps(DecodePictures(MAX_PIXELS, 1 << 20, 1 << 28)))
    (rows,) = list_ranges(unit)
    done: list[int] = []
    with job.open() as work:
        first = work(pickle.loads(pickle.dumps(rows)), done.append)
        again = work(rows, done.append)
    assert first == again == pickle.loads(pickle.dumps(first))
    assert sum(done) == 2 * sum(len(value or "") for _, value in values)
    assert sorted(path.name for path in (tmp_path / "c" / "units").glob(".tmp*")) == []


def test_a_file_that_changed_is_not_decoded(tmp_path: Path) -> None:
    data = Pack([Dataset("SET", [], Source("I.json", [("k", encode(b"abc"))]))]).write(tmp_path)
    run_check(data, tmp_path / "c")
    (unit,) = (tmp_path / "c" / "units").glob("file-*")
    (tmp_path / "I.json").write_text("{}")
    with (
        pytest.raises(SourceChangedError, match=r"I\.json"),
        DecodePictures(1, 1, 1 << 28).open() as work,
    ):
        work(RowRange(unit, 0, 1, 4), lambda _: None)
