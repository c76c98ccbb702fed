"""Every value that is served is byte for byte what DuckDB reads, whoever wrote the file and how."""

import base64
import itertools
from pathlib import Path
from random import Random
from typing import Any

import dask
import dask.dataframe as dd
import duckdb
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from parquet_files import (
    JPEG,
    LIMITS,
    PNG,
    assert_agrees,
    flat_base64,
    mixed_values,
    opened_images,
    oracle,
    random_base64,
    read_twice,
    table_of,
    write,
)

from app.catalog.build import build_catalog
from app.catalog.catalog import Catalog
from app.catalog.limits import BuildLimits
from app.data_yaml import load_data_yaml
from app.errors import SourceError
from app.images.stored import Form, decode

pytestmark = pytest.mark.slow

CODECS = ["none", "snappy", "gzip", "brotli", "lz4", "zstd"]
# Dask 2026.8 calls what pandas 3.1 deprecates.
IGNORE_INPLACE = pytest.mark.filterwarnings(
    "ignore:The inplace keyword in DataFrame:pandas.errors.Pandas4Warning"
)


def reader_of(codec: str) -> str:
    return "in_place" if codec in ("none", "uncompressed", "snappy") else "whole_pages"


def check_file(
    path: Path, folder: Path, reader: str, *, key: str = "key", value: str = "base64"
) -> None:
    """The file is served as `reader` says, from the columns named, and every value agrees."""
    with opened_images([path], folder) as source:
        (facts,) = source.facts.files
        assert (facts.reader, facts.key_column, facts.value_column) == (reader, key, value)
        assert (facts.reason is None) == (reader == "in_place")
        assert facts.is_compared
        quoted = ".".join(f'"{part}"' for part in value.split("."))
        rows = oracle(path, f'"{key}"', quoted)
        assert facts.rows == len(rows)
        assert_agrees(source, rows)


# pyarrow: every codec, encoding, page version and shape


@pytest.mark.parametrize("version", ["1.0", "2.0"])
@pytest.mark.parametrize("dictionary", [True, False], ids=["dictionary", "plain"])
@pytest.mark.parametrize("codec", CODECS)
def test_pyarrow_layouts(codec: str, dictionary: bool, version: str, tmp_path: Path) -> None:
    table = table_of(mixed_values(700, seed=1))
    path = write(
        tmp_path / "a.parquet",
        table,
        compression=codec,
        use_dictionary=dictionary,
        data_page_version=version,
        row_group_size=300,
        data_page_size=8192,
        write_page_index=dictionary,
        write_batch_size=50,
    )
    check_file(path, tmp_path, reader_of(codec))


@pytest.mark.parametrize("version", ["1.0", "2.4", "2.6"])
@pytest.mark.parametrize("codec", ["none", "snappy", "zstd"])
def test_pyarrow_format_versions(codec: str, version: str, tmp_path: Path) -> None:
    path = write(
        tmp_path / "a.parquet", table_of(mixed_values(200, 2)), compression=codec, version=version
    )
    check_file(path, tmp_path, reader_of(codec))


@pytest.mark.parametrize("codec", ["none", "snappy", "zstd"])
@pytest.mark.parametrize(
    "options",
    [
        {"write_batch_size": 1, "data_page_size": 1},
        {"max_rows_per_page": 7},
        {"row_group_size": 1},
        {"dictionary_pagesize_limit": 4096},
        {"dictionary_pagesize_limit": 4096, "data_page_version": "2.0", "write_batch_size": 10},
        {"write_page_checksum": True},
        {"write_page_index": True, "data_page_size": 500},
        {"write_statistics": False},
        {"store_schema": False},
        {"sorting_columns": [pq.SortingColumn(1)]},
        {"use_content_defined_chunking": True},
    ],
    ids=lambda options: "-".join(options),
)
def test_pyarrow_options(codec: str, options: dict[str, Any], tmp_path: Path) -> None:
    table = table_of(mixed_values(120, 3))
    path = write(tmp_path / "a.parquet", table, compression=codec, **options)
    check_file(path, tmp_path, reader_of(codec))


@pytest.mark.parametrize("codec", ["none", "snappy", "zstd"])
def test_dictionary_page_then_plain_pages(codec: str, tmp_path: Path) -> None:
    """The layout of pandas' own files: the first values in the dictionary, the rest in pages."""
    random = Random(4)
    values: list[str | None] = [
        flat_base64(random.randint(1000, 20_000), number)
        if number % 3 == 0
        else random_base64(random, random.randint(750, 15_000))
        for number in range(5000)
    ]
    path = write(tmp_path / "a.parquet", table_of(values), compression=codec)
    assert set(pq.ParquetFile(path).metadata.row_group(0).column(0).encodings) >= {
        "PLAIN",
        "RLE_DICTIONARY",
    }
    check_file(path, tmp_path, reader_of(codec))


@pytest.mark.parametrize("dictionary", [True, False], ids=["dictionary", "plain"])
@pytest.mark.parametrize("codec", ["none", "snappy", "gzip"])
def test_values_over_a_megabyte(codec: str, dictionary: bool, tmp_path: Path) -> None:
    random = Random(5)
    values = [
        random_base64(random, 2_000_000),
        flat_base64(3_000_000),
        "QUJD",
        None,
        # Both kinds in turn, so that a value spans literal and compressed fragments.
        "".join(random_base64(random, 90_000) + flat_base64(120_000, n) for n in range(6)),
        random_base64(random, 65536 * 3 // 4),
        random_base64(random, 1_500_001),
    ]
    path = write(
        tmp_path / "a.parquet", table_of(values), compression=codec, use_dictionary=dictionary
    )
    check_file(path, tmp_path, reader_of(codec))


@pytest.mark.parametrize("offset", [0, 1, 3, 65530, 65533, 65535])
def test_values_that_end_on_fragment_boundaries(offset: int, tmp_path: Path) -> None:
    """Values start and end around multiples of 64 KiB of the page."""
    random = Random(offset)
    length = 6 + offset  # the levels of a v1 page without nulls, and then this value
    values = [random.randbytes(offset)]
    for end in (65536, 131072, 196608 - 2, 262144 + 2, 524288, 524288 + 8):
        length += 4
        values.append(random.randbytes(max(0, end - length)))
        length = max(length, end)
    table = table_of(values, value_type=pa.binary())
    path = write(tmp_path / "a.parquet", table, use_dictionary=False, data_page_size=1 << 30)
    check_file(path, tmp_path, "in_place")


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize(
    "values",
    [[], ["QUJD"], [None], [""], [None] * 50, [""] * 50, ["QUJD"] * 3000, [None, *["QQ=="] * 9]],
    ids=["no rows", "one", "null", "empty", "nulls", "empties", "repeated", "null first"],
)
def test_small_files(codec: str, values: list[str | None], tmp_path: Path) -> None:
    for version in ("1.0", "2.0"):
        table = table_of(values)
        path = write(
            tmp_path / f"{version}.parquet", table, compression=codec, data_page_version=version
        )
        with opened_images([path], tmp_path / version) as source:
            assert source.facts.files[0].reader in ("in_place", "whole_pages")
            assert_agrees(source, oracle(path, "key", "base64"))


# pyarrow: types and columns


@pytest.mark.parametrize("dictionary", [True, False], ids=["dictionary", "plain"])
@pytest.mark.parametrize("value_type", [pa.string(), pa.large_string(), pa.string_view()], ids=str)
@pytest.mark.parametrize(
    "key_type",
    [pa.string(), pa.large_string(), pa.string_view(), pa.dictionary(pa.int32(), pa.string())],
    ids=str,
)
def test_text_types(
    key_type: pa.DataType, value_type: pa.DataType, dictionary: bool, tmp_path: Path
) -> None:
    table = table_of(mixed_values(60, 6), key_type=key_type, value_type=value_type)
    path = write(tmp_path / "a.parquet", table, use_dictionary=dictionary)
    check_file(path, tmp_path, "in_place")


def test_dictionary_typed_values(tmp_path: Path) -> None:
    values = pa.array(mixed_values(300, 7)).dictionary_encode()
    keys = [f"k{number}" for number in range(300)]
    path = write(tmp_path / "a.parquet", pa.table({"base64": values, "key": keys}))
    check_file(path, tmp_path, "in_place")


@pytest.mark.parametrize("codec", ["none", "snappy", "zstd"])
@pytest.mark.parametrize("value_type", [pa.binary(), pa.large_binary(), pa.binary_view()], ids=str)
def test_pictures_in_binary_columns(value_type: pa.DataType, codec: str, tmp_path: Path) -> None:
    random = Random(8)
    pictures = [start + random.randbytes(random.randint(1, 4000)) for start in (PNG, JPEG) * 40]
    in_base64 = [base64.b64encode(picture) for picture in pictures[:20]]
    loose = [picture.rstrip(b"=") for picture in in_base64]
    values = [*pictures, *in_base64, *loose, b"", None, b"neither", b"QUJDREVG"]
    table = table_of(values, value_type=value_type)
    path = write(tmp_path / "a.parquet", table, compression=codec)
    check_file(path, tmp_path, reader_of(codec))
    with opened_images([path], tmp_path / "again") as source:
        for number, picture in enumerate([*pictures, *pictures[:20], *pictures[:20]]):
            place = source.get_place(f"IMG_{number:05}")
            assert decode(source.read(place, wait=True), Form(place.form)) == picture
        assert source.get_place("IMG_00122").form == Form.RAW  # neither
        assert source.get_place("IMG_00123").form == Form.RAW  # base64, but of no picture


@pytest.mark.parametrize("codec", ["none", "snappy", "zstd"])
@pytest.mark.parametrize("version", ["1.0", "2.0"])
def test_hugging_face_struct(codec: str, version: str, tmp_path: Path) -> None:
    random = Random(9)
    images: list[dict[str, Any] | None] = [
        {"bytes": PNG + random.randbytes(random.randint(0, 3000)), "path": f"{number}.png"}
        for number in range(50)
    ]
    images += [None, {"bytes": None, "path": "x"}, {"bytes": b"", "path": None}, images[3], None]
    keys = [f"k{number}" for number in range(len(images))]
    image_type = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    table = pa.table({"image": pa.array(images, image_type), "id": keys})
    path = write(
        tmp_path / "a.parquet",
        table,
        compression=codec,
        data_page_version=version,
        row_group_size=20,
    )
    check_file(path, tmp_path, reader_of(codec), key="id", value="image.bytes")


def test_keys_inside_the_struct(tmp_path: Path) -> None:
    images = [{"bytes": PNG + bytes([n]), "path": f"{n}.png"} for n in range(9)]
    path = write(tmp_path / "a.parquet", pa.table({"image": images}))
    with opened_images([path], tmp_path, key_column="image.path", value_column="image") as source:
        assert_agrees(source, oracle(path, "image.path", "image.bytes"))


@pytest.mark.parametrize("version", ["1.0", "2.0"])
@pytest.mark.parametrize("codec", ["none", "snappy", "brotli"])
def test_required_columns(codec: str, version: str, tmp_path: Path) -> None:
    schema = pa.schema(
        [pa.field("base64", pa.string(), False), pa.field("key", pa.string(), False)]
    )
    table = table_of([value or "" for value in mixed_values(300, 10)]).cast(schema)
    path = write(
        tmp_path / "a.parquet",
        table,
        compression=codec,
        data_page_version=version,
        write_batch_size=20,
        data_page_size=4000,
    )
    check_file(path, tmp_path, reader_of(codec))


@pytest.mark.parametrize("key_first", [True, False], ids=["key first", "key last"])
def test_columns_of_other_types_beside(key_first: bool, tmp_path: Path) -> None:
    rows = 150
    table = table_of(mixed_values(rows, 11))
    table = table.select(["key", "base64"]) if key_first else table
    table = table.add_column(0, "width", pa.array(range(rows), pa.int32()))
    table = table.add_column(2, "tags", pa.array([["a", None][: n % 3] for n in range(rows)]))
    table = table.append_column("taken", pa.array(range(rows), pa.timestamp("us")))
    table = table.append_column("score", pa.array([n / 7 for n in range(rows)]))
    table = table.append_column("fixed", pa.array([b"1234"] * rows, pa.binary(4)))
    table = table.append_column("nested", pa.array([{"a": n, "b": [n]} for n in range(rows)]))
    path = write(tmp_path / "a.parquet", table, row_group_size=64)
    check_file(path, tmp_path, "in_place")


@pytest.mark.parametrize("encoding", ["DELTA_LENGTH_BYTE_ARRAY", "DELTA_BYTE_ARRAY"])
@pytest.mark.parametrize("codec", ["none", "snappy", "zstd"])
def test_other_encodings_go_to_duckdb(codec: str, encoding: str, tmp_path: Path) -> None:
    path = write(
        tmp_path / "a.parquet",
        table_of(mixed_values(150, 12)),
        compression=codec,
        use_dictionary=False,
        column_encoding={"base64": encoding, "key": encoding},
    )
    check_file(path, tmp_path, "duckdb")


def test_another_encoding_in_the_second_row_group(tmp_path: Path) -> None:
    """A file whose later pages alone are not read in place is served through DuckDB, whole."""
    path = tmp_path / "a.parquet"
    repeated, distinct = "'QUJD' || range % 3", "repeat(md5(range::VARCHAR), 20)"
    with duckdb.connect(":memory:") as connection:
        connection.execute(
            f"COPY (SELECT CASE WHEN range < 4096 THEN {repeated} ELSE {distinct} END AS base64, "
            f"'k' || range AS key FROM range(4500)) TO '{path}' "
            "(FORMAT parquet, PARQUET_VERSION V2, ROW_GROUP_SIZE 4096)"
        )
    footer = pq.ParquetFile(path).metadata
    encodings = [footer.row_group(number).column(0).encodings for number in range(2)]
    assert encodings == [("RLE_DICTIONARY",), ("DELTA_LENGTH_BYTE_ARRAY",)]
    check_file(path, tmp_path, "duckdb")


def test_awkward_file_names(tmp_path: Path) -> None:
    """DuckDB takes a name as a pattern, and ours is meant literally."""
    for name in ("a*b", "a?b", "a[b]c", "it's", 'a"b', "a{b,c}", "a b%20", "é漢", "a;b--", "~a$b"):
        folder = tmp_path / "in" / name
        folder.mkdir(parents=True)
        write(tmp_path / "in" / "aXb.parquet", table_of(["QUJD"]))
        path = write(folder / f"{name}.parquet", table_of(mixed_values(20, 14)))
        delta = write(
            folder / f"delta {name}.parquet",
            table_of(mixed_values(20, 15), prefix="B"),
            use_dictionary=False,
            column_encoding="DELTA_BYTE_ARRAY",
        )
        with opened_images([path, delta], tmp_path / "out" / name) as source:
            assert [file.reader for file in source.facts.files] == ["in_place", "duckdb"]
            values = [*mixed_values(20, 14), *mixed_values(20, 15)]
            for number, value in enumerate(values):
                key = f"{'B' if number > 19 else 'IMG_'}{number % 20:05}"
                if value:
                    assert read_twice(source, key) == value.encode()


# pandas and Dask


def pandas_values(rows: int) -> dict[str, str | None]:
    values = mixed_values(rows, 16)
    return {f"IMG_{rows - number:04}": value for number, value in enumerate(values)}


@pytest.mark.parametrize("name", [None, "index", "image_id", "none of these"])
def test_pandas_index(name: str | None, tmp_path: Path) -> None:
    frame = pd.DataFrame.from_dict(pandas_values(90), orient="index", columns=["base64"])
    frame.index.name = name
    path = tmp_path / "a.parquet"
    frame.to_parquet(path)
    check_file(path, tmp_path, "in_place", key=name or "__index_level_0__")


@pytest.mark.parametrize("codec", ["snappy", "gzip", "zstd", None])
@pytest.mark.parametrize("form", ["range index", "reset index", "named", "object", "two texts"])
def test_pandas_forms(form: str, codec: Any, tmp_path: Path) -> None:
    values = pandas_values(90)
    frame = pd.DataFrame.from_dict(values, orient="index", columns=["base64"])
    key = "__index_level_0__"
    if form == "range index":
        frame, key = pd.DataFrame({"base64": list(values.values()), "id": list(values)}), "id"
    elif form == "reset index":
        frame, key = frame.reset_index(), "index"
    elif form == "named":
        frame, key = frame.rename_axis("caption"), "caption"
        frame["other"] = "text"
    elif form == "object":
        frame = frame.astype(object)
        frame.index = frame.index.astype(object)
    else:
        frame["caption"] = [f"caption {number}" for number in range(len(frame))]
    path = tmp_path / "a.parquet"
    frame.to_parquet(path, compression=codec)
    check_file(path, tmp_path, reader_of(codec or "none"), key=key)


def test_pandas_row_groups_and_order(tmp_path: Path) -> None:
    """pandas keeps insertion order, so keys are not sorted in the file."""
    values = pandas_values(300)
    frame = pd.DataFrame.from_dict(values, orient="index", columns=["base64"])
    path = tmp_path / "a.parquet"
    frame.to_parquet(path, row_group_size=70)
    assert [key for key, _ in oracle(path, "__index_level_0__", "base64")] == list(values)
    check_file(path, tmp_path, "in_place", key="__index_level_0__")


@IGNORE_INPLACE
@pytest.mark.parametrize("index_name", [None, "image_id"])
@pytest.mark.parametrize("codec", ["snappy", "zstd"])
def test_dask_folder_through_the_catalog(
    codec: Any, index_name: str | None, tmp_path: Path
) -> None:
    """Twelve parts, so that part.10 sorts before part.2 as text; a key twice over two parts."""
    values = mixed_values(240, 17)
    index = pd.Index([f"IMG_{number:04}" for number in range(240)], name=index_name)
    frame = pd.DataFrame({"base64": values}, index=index)
    with dask.config.set({"dataframe.convert-string": False}):
        parts = dd.from_pandas(frame, npartitions=12)  # type: ignore[no-untyped-call]
        parts.to_parquet(str(tmp_path / "images"), compression=codec)
    twice = pd.DataFrame(
        {"base64": ["QUJD"] * 2}, index=pd.Index(["IMG_0000", "NEW"], name=index_name)
    )
    twice.to_parquet(tmp_path / "images" / "part.12.parquet", compression=codec)
    (tmp_path / "it.json").write_text('{"data": {}}')
    (tmp_path / "data.yaml").write_text(
        "IMAGE_TEXT:\n  A:\n    mimicit_path: it.json\n    images_path: images\n"
    )
    data_yaml = load_data_yaml(tmp_path / "data.yaml")
    folder = tmp_path / "catalog"
    build_catalog(data_yaml, folder, LIMITS, lambda _: None, wait_seconds=1)
    catalog = Catalog(
        folder, max_open_files=4, page_cache_bytes=1 << 20, duckdb_memory_bytes=1 << 29
    )
    source = catalog.get_dataset("A").images
    assert source is not None
    files = [Path(file.path) for file in source.facts.files]
    assert [file.name for file in files] == [f"part.{number}.parquet" for number in range(13)]
    assert {file.reader for file in source.facts.files} == {reader_of(codec)}
    key = source.facts.files[0].key_column or ""
    assert key == (index_name or "__null_dask_index__")
    rows = []
    for file, facts in zip(files, source.facts.files, strict=True):
        rows += oracle(file, facts.key_column or "", "base64")
    assert_agrees(source, rows)
    assert source.facts.problems["conflicting_image"] == 1
    found, place = catalog.get_image("NEW")
    assert bytes(found.read(place, wait=True)) == b"QUJD"
    catalog.close()


# DuckDB and Polars


@pytest.mark.parametrize("repeats", [1, 60], ids=["distinct", "repeated"])
@pytest.mark.parametrize("version", ["V1", "V2"])
@pytest.mark.parametrize("codec", ["uncompressed", "snappy", "gzip", "zstd", "brotli", "lz4"])
def test_duckdb_copy(codec: str, version: str, repeats: int, tmp_path: Path) -> None:
    values = list(itertools.chain(*[mixed_values(240 // repeats, 18)] * repeats))
    path = tmp_path / "a.parquet"
    with duckdb.connect(":memory:") as connection:
        connection.register("rows", table_of(values))
        connection.execute(
            f"COPY rows TO '{path}' (FORMAT parquet, COMPRESSION {codec}, "
            f"PARQUET_VERSION {version}, ROW_GROUP_SIZE 100)"
        )
    is_delta = "DELTA_LENGTH_BYTE_ARRAY" in str(
        pq.ParquetFile(path).metadata.row_group(0).column(0)
    )
    assert not (is_delta and version == "V1")
    check_file(path, tmp_path, "duckdb" if is_delta else reader_of(codec))


@pytest.mark.parametrize("value_type", ["text", "binary"])
@pytest.mark.parametrize("codec", ["zstd", "lz4", "uncompressed", "snappy", "gzip", "brotli", None])
def test_polars(codec: Any, value_type: str, tmp_path: Path) -> None:
    random = Random(19)
    values: list[Any] = list(mixed_values(300, 19))
    if value_type == "binary":
        values = [PNG + random.randbytes(random.randint(0, 3000)) for _ in range(300)] + [b"", None]
    keys = [f"k{number}" for number in range(len(values))]
    frame = pl.DataFrame({"key": keys, "base64": values})
    path = tmp_path / "a.parquet"
    if codec is None:
        frame.write_parquet(path)
    else:
        frame.write_parquet(path, compression=codec, row_group_size=90, data_page_size=5000)
    check_file(path, tmp_path, reader_of(codec or "zstd"))


# Keys, limits and several files


def test_keys_of_any_text(tmp_path: Path) -> None:
    keys: list[str | None] = [
        "a/b",
        "../c",
        " ",
        "é漢\U0001f600",
        "a\0b",
        "k" * 494,
        "k" * 495,
        "k" * 1000,
    ]
    keys += ["k" * 999 + "z", "'; DROP", "%2F", "\n", "\ufeff", "a", None, "", "k" * 1001, "a"]
    values = [random_base64(Random(n), 50) for n in range(len(keys))]
    table = pa.table({"base64": values, "key": pa.array(keys, pa.string())})
    path = write(tmp_path / "a.parquet", table)
    with opened_images([path], tmp_path) as source:
        for number, key in enumerate(keys[:14]):
            assert read_twice(source, str(key)) == values[number].encode()
        assert source.find_place("") is source.find_place("k" * 1001) is None
        assert source.find_place("k" * 998) is source.find_place("\ud800") is None
        assert source.facts.problems == {
            "unnamed_image": 2,
            "long_key": 1,
            "conflicting_image": 1,
        }
        assert source.facts.images == 14


@pytest.mark.parametrize("encoding", ["PLAIN", "DELTA_LENGTH_BYTE_ARRAY"])
@pytest.mark.parametrize("codec", ["none", "snappy", "zstd"])
def test_values_over_the_limit_are_a_problem_of_their_key(
    codec: str, encoding: str, tmp_path: Path
) -> None:
    random = Random(20)
    values = [random_base64(random, 300), random_base64(random, 3_000_000), flat_base64(300)]
    path = write(
        tmp_path / "a.parquet",
        table_of(values),
        compression=codec,
        use_dictionary=False,
        column_encoding={"base64": encoding},
    )
    limits = BuildLimits(1_000_000, 64 << 20, 1 << 30, 1)
    with opened_images([path], tmp_path, limits=limits) as source:
        assert source.facts.files[0].is_compared
        assert source.get_place("IMG_00001").form == Form.TOO_LARGE
        assert source.facts.problems == {"large_image": 1}
        assert read_twice(source, "IMG_00000") == values[0].encode()
        assert read_twice(source, "IMG_00002") == values[2].encode()


def test_pages_over_the_limit_go_to_duckdb(tmp_path: Path) -> None:
    values = [random_base64(Random(n), 30_000) for n in range(20)]
    path = write(tmp_path / "a.parquet", table_of(values), compression="zstd")
    limits = BuildLimits(1_000_000, 100_000, 1 << 30, 1)
    with opened_images([path], tmp_path, limits=limits) as source:
        assert source.facts.files[0].reader == "duckdb"
        assert "too large to decode whole" in str(source.facts.files[0].reason)
        assert_agrees(source, oracle(path, "key", "base64"))


def test_files_of_every_layout_in_one_source(tmp_path: Path) -> None:
    paths, rows = [], []
    for number, codec in enumerate(CODECS * 2):
        options = {"use_dictionary": False, "column_encoding": "DELTA_BYTE_ARRAY"}
        path = write(
            tmp_path / f"{number}.parquet",
            table_of(mixed_values(40, number), prefix=f"{number}_"),
            compression=codec,
            **(options if number == 8 else {}),
        )
        paths.append(path)
        rows += oracle(path, "key", "base64")
    with opened_images(paths, tmp_path, page_cache_bytes=1000) as source:
        readers = [file.reader for file in source.facts.files]
        assert (
            readers
            == [reader_of(codec) for codec in CODECS + CODECS[:2]]
            + ["duckdb"]
            + ["whole_pages"] * 3
        )
        assert_agrees(source, rows)
        for key, stored in Random(1).sample(rows, 200):
            if stored:
                assert read_twice(source, str(key)) == stored


# Which columns are meant


def choose(
    folder: Path, columns: dict[str, Any], key: str | None = None, value: str | None = None
) -> tuple[str | None, str | None]:
    path = write(folder / "a.parquet", pa.table(columns))
    with opened_images([path], folder / "out", key_column=key, value_column=value) as source:
        (facts,) = source.facts.files
        return facts.key_column, facts.value_column


TEXT = ["QUJD"]
BINARY = [PNG]
STRUCT = [{"bytes": PNG, "path": "a"}]


@pytest.mark.parametrize(
    ("columns", "key", "value"),
    [
        ({"__index_level_0__": TEXT, "base64": TEXT, "x": TEXT}, "__index_level_0__", "base64"),
        ({"x": TEXT, "__null_dask_index__": TEXT, "base64": TEXT}, "__null_dask_index__", "base64"),
        ({"x": TEXT, "index": TEXT, "base64": TEXT}, "index", "base64"),
        ({"anything": TEXT, "base64": TEXT}, "anything", "base64"),
        ({"anything": TEXT, "base64": TEXT, "n": [1], "b": BINARY}, "anything", "base64"),
        ({"id": TEXT, "image": STRUCT}, "id", "image.bytes"),
        ({"id": TEXT, "image": BINARY}, "id", "image"),
        ({"id": TEXT, "bytes": BINARY, "other": BINARY}, "id", "bytes"),
        ({"id": TEXT, "picture": BINARY}, "id", "picture"),
        ({"id": TEXT, "photo": STRUCT, "b": BINARY}, "id", "photo.bytes"),
        ({"id": TEXT, "image": STRUCT, "bytes": BINARY}, "id", "image.bytes"),
        ({"id": TEXT, "base64": TEXT, "image": STRUCT}, "id", "base64"),
        ({"id": TEXT, "base64": TEXT, "tags": [TEXT]}, "id", "base64"),
    ],
)
def test_columns_that_are_found(
    columns: dict[str, Any], key: str, value: str, tmp_path: Path
) -> None:
    assert choose(tmp_path, columns) == (key, value)


@pytest.mark.parametrize(
    ("columns", "key", "value", "expected"),
    [
        ({"a": TEXT, "b": TEXT, "base64": TEXT}, "b", None, ("b", "base64")),
        ({"index": TEXT, "b": TEXT, "base64": TEXT}, "b", None, ("b", "base64")),
        ({"a": TEXT, "base64": TEXT}, "base64", "a", ("base64", "a")),
        ({"a": TEXT, "picture": TEXT}, None, "picture", ("a", "picture")),
        ({"a": TEXT, "photo": STRUCT, "image": STRUCT}, None, "photo", ("a", "photo.bytes")),
        ({"a": TEXT, "photo": STRUCT, "image": STRUCT}, None, "photo.bytes", ("a", "photo.bytes")),
    ],
)
def test_columns_that_are_named(
    columns: dict[str, Any],
    key: str | None,
    value: str | None,
    expected: tuple[str, str],
    tmp_path: Path,
) -> None:
    assert choose(tmp_path, columns, key, value) == expected


@pytest.mark.parametrize(
    ("columns", "key", "value", "why"),
    [
        ({"a": TEXT, "b": TEXT, "base64": TEXT}, None, None, "no column is plainly the keys'"),
        ({"base64": TEXT}, None, None, "no column is plainly the keys'"),
        ({"base64": TEXT, "key": [7]}, None, None, "no column is plainly the keys'"),
        ({"a": TEXT, "b": TEXT}, None, None, "no column is plainly the pictures'"),
        ({"a": TEXT, "b": BINARY, "c": BINARY}, None, None, "no column is plainly the pictures'"),
        ({"a": TEXT, "b": [BINARY]}, None, None, "no column is plainly the pictures'"),
        ({"a": TEXT, "base64": TEXT}, "b", None, "key_column says 'b'"),
        ({"a": TEXT, "base64": TEXT}, None, "b", "value_column says 'b'"),
        ({"a": TEXT, "base64": TEXT, "n": [1]}, None, "n", "value_column says 'n'"),
        ({"a": TEXT, "base64": TEXT, "n": [TEXT]}, None, "n", "value_column says 'n'"),
        ({"a": TEXT, "base64": TEXT}, "base64", None, "base64 can not be both key and value"),
        ({"a": TEXT, "base64": TEXT, "b": BINARY}, "b", None, "b is not a column of text"),
    ],
)
def test_columns_that_are_refused(
    columns: dict[str, Any], key: str | None, value: str | None, why: str, tmp_path: Path
) -> None:
    with pytest.raises(SourceError, match=why) as caught:
        choose(tmp_path, columns, key, value)
    for name, column in columns.items():
        if column is TEXT:
            assert f"{name} (text)" in str(caught.value)
        elif column is BINARY:
            assert f"{name} (binary)" in str(caught.value)
    assert str(tmp_path / "a.parquet") in str(caught.value)


def test_pandas_metadata_that_is_no_json_says_nothing(tmp_path: Path) -> None:
    for number, text in enumerate((b"{", b"[]", b'{"index_columns": [[], 7]}', b"\xff", b"null")):
        table = table_of(["QUJD"]).replace_schema_metadata({b"pandas": text})
        path = write(tmp_path / f"{number}.parquet", table)
        check_file(path, tmp_path / str(number), "in_place")


@pytest.mark.parametrize(
    "other", [pa.array(["eA==", "eQ=="]), pa.array([1, 2])], ids=["text", "int"]
)
def test_a_value_column_that_duckdb_can_not_tell_apart_is_refused(
    other: pa.Array, tmp_path: Path
) -> None:
    path = tmp_path / "a.parquet"
    columns = {"BASE64": other, "base64": pa.array(["YQ==", "Yg=="]), "key": pa.array(["a", "b"])}
    pq.write_table(pa.table(columns), path)
    with (
        pytest.raises(SourceError, match="differ in letter case only"),
        opened_images([path], tmp_path / "units", key_column="key"),
    ):
        pass


@pytest.mark.parametrize("encoding", ["PLAIN", "DELTA_LENGTH_BYTE_ARRAY"])
def test_columns_whose_own_names_have_dots(encoding: str, tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    columns = {"image.bytes": pa.array([PNG, PNG[::-1]]), "image.path": pa.array(["a", "b"])}
    pq.write_table(
        pa.table(columns), path, use_dictionary=False, column_encoding={"image.bytes": encoding}
    )
    with opened_images([path], tmp_path / "units", key_column="image.path") as source:
        for key, value in (("a", PNG), ("b", PNG[::-1])):
            assert bytes(source.read(source.get_place(key), wait=True)) == value
