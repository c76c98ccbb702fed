"""Images of every kind become Parquet that everybody reads, and nothing is dropped in silence."""

import base64
import csv
import io
import json
import os
import tarfile
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import dask.dataframe as dd
import duckdb
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from convert_files import (
    Images,
    assert_everybody_reads,
    convert,
    draw_images,
    list_parts,
    load_rejected,
    read_rows,
    write_folder,
    write_json,
    write_tar,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from packs import draw_jpeg, find_pack

from app.convert.sources import Kind
from app.errors import ConvertError, DamagedFileError, SourceError

# pandas warns of what Dask does with it.
pytestmark = pytest.mark.filterwarnings("ignore:The inplace keyword")


def encode(data: bytes) -> str:
    return base64.b64encode(data).decode()


def write_pandas(folder: Path, images: Images) -> Path:
    frame = pd.DataFrame({"base64": map(encode, images.values())}, index=[*images])
    frame.to_parquet(folder / "images.parquet")
    return folder / "images.parquet"


def write_dask(folder: Path, images: Images) -> Path:
    frame = pd.DataFrame({"base64": [encode(data) for data in images.values()]}, index=[*images])
    parts = dd.from_pandas(frame, npartitions=11)  # type: ignore[no-untyped-call]
    parts.to_parquet(str(folder / "images"))
    return folder / "images"


def write_duckdb(folder: Path, images: Images) -> Path:
    table = pa.table({"key": [*images], "base64": [encode(data) for data in images.values()]})
    path = folder / "duck.parquet"
    with duckdb.connect() as connection:
        connection.register("t", table)
        connection.execute(f"COPY t TO '{path}' (FORMAT parquet, ROW_GROUP_SIZE 2048)")
    return path


def write_polars(folder: Path, images: Images) -> Path:
    values = [encode(data) for data in images.values()]
    pl.DataFrame({"key": [*images], "base64": values}).write_parquet(folder / "polars.parquet")
    return folder / "polars.parquet"


def write_hugging_face(folder: Path, images: Images) -> Path:
    pictures = [{"bytes": data, "path": f"{key}.jpg"} for key, data in images.items()]
    pq.write_table(pa.table({"image": pictures, "id": [*images]}), folder / "hf.parquet")
    return folder / "hf.parquet"


def write_csv(folder: Path, images: Images) -> Path:
    write_folder(folder / "files", {str(n): data for n, data in enumerate(images.values())})
    with (folder / "images.csv").open("w", newline="") as file:
        rows = [(key, f"files/{number}.jpg") for number, key in enumerate(images)]
        csv.writer(file).writerows([("key", "path"), *rows])
    return folder / "images.csv"


def write_jsonl(folder: Path, images: Images) -> Path:
    paths = [
        write_folder(folder / "one", {key: data}) / f"{key}.jpg" for key, data in images.items()
    ]
    lines = [
        json.dumps({"key": key, "path": str(path)}) for key, path in zip(images, paths, strict=True)
    ]
    (folder / "images.jsonl").write_text("\n".join(lines))
    return folder / "images.jsonl"


WRITERS: dict[str, Callable[[Path, Images], Path]] = {
    "json": lambda folder, images: write_json(folder / "images.json", images),
    "pandas": write_pandas,
    "dask": write_dask,
    "duckdb": write_duckdb,
    "polars": write_polars,
    "hugging face": write_hugging_face,
    "folder": lambda folder, images: write_folder(folder / "pictures", images),
    "tar": lambda folder, images: write_tar(
        folder / "images.tar", {f"{key}.jpg": data for key, data in images.items()}
    ),
    "csv": write_csv,
    "jsonl": write_jsonl,
}


@pytest.mark.parametrize("kind", WRITERS)
def test_every_kind_of_input_becomes_parquet(kind: str, tmp_path: Path) -> None:
    images = draw_images(40)
    found = convert(WRITERS[kind](tmp_path, images), tmp_path / "out.parquet")
    assert (found.images, found.partitions, found.rejected_path) == (40, 1, None)
    assert found.size_bytes == (tmp_path / "out.parquet").stat().st_size
    # Dask and a folder have an order of their own: that of the keys.
    expected = sorted(images) if kind in ("dask", "folder") else [*images]
    assert [key for key, _ in read_rows(found.path)] == expected
    assert dict(read_rows(found.path)) == images
    assert {path.name for path in tmp_path.iterdir()} & {"out.parquet.converting"} == set()


@pytest.mark.parametrize("name", ["out.parquet", "out"])
def test_everybody_reads_what_is_written(name: str, tmp_path: Path) -> None:
    images = draw_images(60)
    source = write_json(tmp_path / "images.json", images)
    convert(source, tmp_path / name)
    assert (tmp_path / name).is_file() == (name == "out.parquet")
    assert_everybody_reads(tmp_path / name, images, tmp_path / "index")


def test_many_partitions_are_a_folder_and_sorted_by_key(tmp_path: Path) -> None:
    random = Random(1)
    pictures = {key: data + random.randbytes(90_000) for key, data in draw_images(60).items()}
    source = write_json(tmp_path / "images.json", pictures)
    out = tmp_path / "out.parquet"
    found = convert(source, out, is_sorted=True, max_partition_bytes=2_000_000)
    parts = list_parts(out)
    assert found.partitions == len(parts) == 4
    assert [part.name for part in parts] == [f"part.{number}.parquet" for number in range(4)]
    sizes = [part.stat().st_size for part in parts]
    assert max(sizes) <= 2_000_000
    assert max(sizes) - min(sizes) < 400_000  # filled evenly
    assert [key for key, _ in read_rows(out)] == sorted(pictures)
    assert_everybody_reads(out, pictures, tmp_path / "index")


@pytest.mark.parametrize("length", [1, 100, 1000])
@pytest.mark.parametrize("size", [3, 3000, 90_000])
def test_no_file_is_over_its_limit(length: int, size: int, tmp_path: Path) -> None:
    random = Random(size)
    count = min(60_000, 4_000_000 // (size + length))
    keys = [f"{number:05}".rjust(length, "k") for number in range(count)]
    values = [encode(random.randbytes(size)) for _ in keys]
    table = pa.table({"key": keys, "base64": values})
    pq.write_table(table, tmp_path / "a.parquet", compression="none", use_dictionary=False)
    limit = 1 << 20
    found = convert(tmp_path / "a.parquet", tmp_path / "out", max_partition_bytes=limit)
    sizes = [part.stat().st_size for part in list_parts(tmp_path / "out")]
    assert found.images == count
    assert max(sizes) <= limit
    assert sum(sizes) > 0.8 * limit * (len(sizes) - 1)


def test_the_layout_is_for_single_lookups(tmp_path: Path) -> None:
    random = Random(3)
    images = {key: data + random.randbytes(75_000) for key, data in draw_images(1200).items()}
    convert(write_json(tmp_path / "images.json", images), tmp_path / "out.parquet")
    metadata = pq.ParquetFile(tmp_path / "out.parquet").metadata
    assert metadata.num_row_groups == 2
    assert metadata.serialized_size < 5000
    for number in range(2):
        value, key = (metadata.row_group(number).column(column) for column in (0, 1))
        assert value.total_compressed_size < 65_000_000
        assert "PLAIN" in value.encodings
        assert not value.has_dictionary_page
        assert (value.compression, value.has_offset_index) == ("UNCOMPRESSED", True)
        assert value.statistics is None
        assert key.statistics.has_min_max
        assert key.has_column_index


@pytest.mark.parametrize("which", ["shared", "generated"])
def test_an_images_json_has_the_bytes_of_its_parquet_twin(which: str, tmp_path: Path) -> None:
    images = find_pack(which, tmp_path, 60, 4).parent / "images"
    name = "WH" if which == "shared" else "SHAPES"
    convert(images / f"{name}.json", tmp_path / "out.parquet")
    found = pd.read_parquet(tmp_path / "out.parquet")
    expected = pd.read_parquet(images / f"{name}.parquet")
    assert len(found) >= (6 if which == "generated" else len(expected))
    pd.testing.assert_frame_equal(
        found.sort_index(), expected.loc[found.index].sort_index(), check_names=False
    )


def test_every_form_of_base64_is_written_plainly(tmp_path: Path) -> None:
    data = draw_jpeg(1) + bytes([251, 255, 254])
    plain = encode(data)
    forms = {
        "plain": plain,
        "url-safe": plain.replace("+", "-").replace("/", "_"),
        "no padding": plain.rstrip("="),
        "blanks": "\n".join(plain[at : at + 76] for at in range(0, len(plain), 76)),
        "prefix": f"data:image/jpeg;base64,{plain}",
        "list": [plain, "more"],
    }
    path = write_json(tmp_path / "images.json", forms)
    escaped = plain.replace("/", "\\/")
    text = path.read_text().replace("{", f'{{"escaped": "{escaped}", ', 1)
    path.write_text(text)
    convert(path, tmp_path / "out.parquet")
    table = pq.read_table(tmp_path / "out.parquet").to_pydict()
    assert sorted(table["key"]) == sorted([*forms, "escaped"])
    assert {*table["base64"]} == {plain}


def test_what_can_not_be_converted_is_named(tmp_path: Path) -> None:
    good = draw_jpeg(1)
    values: dict[str, object] = {
        "good": good,
        "null": None,
        "empty": "",
        "bad": "no base64!",
        "number": 7,
        "large": "A" * (1 << 20) + "AAAA",
        "": good,
        "k" * 1001: good,
        "k" * 1000: good,
    }
    path = write_json(tmp_path / "images.json", values)
    path.write_text(path.read_text()[:-1] + f', "twice": "AAAA", "twice": "{encode(good)}"' + "}")
    found = convert(path, tmp_path / "out.parquet")
    reasons = {row["key"]: row["reason"] for row in load_rejected(found)}
    assert reasons == {
        "null": "null_image",
        "empty": "empty_image",
        "bad": "undecodable_image",
        "number": "undecodable_image",
        "large": "large_image",
        "": "unnamed_image",
        "k" * 1001: "long_key",
        "twice": "duplicate_image",
    }
    assert {(row["source"], row["row"]) for row in load_rejected(found)} == {
        (str(path), number) for number in (1, 2, 3, 4, 5, 6, 7, 9)
    }
    assert sum(found.rejected.values()) == 8
    assert dict(read_rows(found.path)) == {"good": good, "k" * 1000: good, "twice": good}
    assert found.rejected_path == tmp_path / "out.parquet.rejected.jsonl"


def test_of_two_inputs_the_first_counts(tmp_path: Path) -> None:
    first, second = draw_jpeg(1), draw_jpeg(2)
    a = write_json(tmp_path / "a.json", {"x": first, "y": first})
    b = write_folder(tmp_path / "b", {"y": second, "z": second})
    found = convert([a, b], tmp_path / "out.parquet")
    assert read_rows(found.path) == [("x", first), ("y", first), ("z", second)]
    (rejected,) = load_rejected(found)
    assert (rejected["key"], rejected["source"], rejected["row"]) == ("y", str(b), 0)


def test_only_pictures_are_taken_of_a_folder(tmp_path: Path) -> None:
    data = draw_jpeg(1)
    folder = write_folder(tmp_path / "a", {"b/c": data, "b/c.d": data, "é漢": data})
    (folder / "b" / "not.png").write_bytes(b"<html>")
    (folder / "empty.gif").touch()
    (folder / "UPPER.JPEG").write_bytes(data)
    for name in ("c.json", "c.txt", "b/c.txt", ".hidden.jpg", "no suffix"):
        (folder / name).write_text("x")
    (folder / "link.jpg").symlink_to("UPPER.JPEG")
    (folder / "broken.jpg").symlink_to("nowhere")
    (folder / "b" / "loop").symlink_to("..")
    os.mkfifo(folder / "pipe.jpg")
    with open(os.fsencode(folder) + b"/\xff.jpg", "wb") as file:
        file.write(data)
    found = convert(folder, tmp_path / "out.parquet")
    assert [key for key, _ in read_rows(found.path)] == ["UPPER", "b/c.d", "b/c", "link", "é漢"]
    assert {value for _, value in read_rows(found.path)} == {data}
    assert found.passed_over == {".json": 1, ".txt": 2, "hidden": 1, "no suffix": 1}
    reasons = {row["key"] or row["name"]: row["reason"] for row in load_rejected(found)}
    assert reasons == {
        "b/not": "no_picture",
        "empty": "empty_image",
        "broken": "missing_file",
        "pipe": "no_plain_file",
        "\\xff.jpg": "foreign_name",
    }


def test_a_tar_is_read_by_its_headers(tmp_path: Path) -> None:
    data = draw_jpeg(1)
    long = "d/" * 90 + "long"
    path = tmp_path / "images.tar"
    with tarfile.open(path, "w", format=tarfile.GNU_FORMAT) as tar:
        for name in ("./0001.jpg", "0001.json", f"{long}.png", "0002.0.jpg"):
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
        for kind in (tarfile.LNKTYPE, tarfile.SYMTYPE):
            info = tarfile.TarInfo(f"link{kind!r}.jpg")
            info.type, info.linkname = kind, "0001.jpg"
            tar.addfile(info)
        folder = tarfile.TarInfo("folder.jpg")
        folder.type = tarfile.DIRTYPE
        tar.addfile(folder)
    found = convert(path, tmp_path / "out.parquet")
    assert read_rows(found.path) == [("0001", data), (long, data), ("0002.0", data)]
    assert found.passed_over == {".json": 1}
    assert found.rejected == {"no_plain_file": 2}


@pytest.mark.parametrize("format", [0, 1, 2])
def test_a_tar_of_any_format(format: int, tmp_path: Path) -> None:
    members = {f"é漢 {'n' * 60}/{number}.jpg": draw_jpeg(number) for number in range(20)}
    path = write_tar(tmp_path / "a.tar", members, format=format)
    found = convert(path, tmp_path / "out.parquet")
    assert read_rows(found.path) == [(name[:-4], data) for name, data in members.items()]


@pytest.mark.parametrize("cut", [100, 513, 5000, -11_000])
def test_a_damaged_tar_is_refused(cut: int, tmp_path: Path) -> None:
    members = {f"{number}.jpg": draw_jpeg(number) for number in range(20)}
    path = write_tar(tmp_path / "a.tar", members)
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises((DamagedFileError, ConvertError), match=r"a\.tar"):
        convert(path, tmp_path / "out.parquet")


def test_a_tar_with_a_damaged_header_is_refused(tmp_path: Path) -> None:
    members = {f"{number}.jpg": draw_jpeg(number) for number in range(20)}
    path = write_tar(tmp_path / "a.tar", members)
    data = bytearray(path.read_bytes())
    at = data.index(b"7.jpg\0")
    data[at + 148 : at + 156] = b"00000000"
    path.write_bytes(data)
    with pytest.raises(DamagedFileError, match="damaged at byte"):
        convert(path, tmp_path / "out.parquet")


def test_a_table_of_paths_names_what_is_missing(tmp_path: Path) -> None:
    data = draw_jpeg(1)
    write_folder(tmp_path, {"a": data})
    lines: list[object] = [
        {"name": "x", "file": "a.jpg"},
        {"name": "y", "file": "none.jpg"},
        {"name": None, "file": "a.jpg"},
        {"name": "z", "file": "."},
        {"name": "w", "file": 3},
        ["list"],
    ]
    path = tmp_path / "images.jsonl"
    path.write_text("\n".join(map(json.dumps, lines)) + "\n{broken\n")
    found = convert(path, tmp_path / "o.parquet", key_column="name", path_column="file")
    assert read_rows(found.path) == [("x", data)]
    assert sorted((row["row"], row["reason"]) for row in load_rejected(found)) == [
        (1, "missing_file"),
        (2, "unnamed_image"),
        (3, "no_plain_file"),
        (4, "invalid_row"),
        (5, "invalid_row"),
        (6, "invalid_row"),
    ]
    with pytest.raises(ConvertError, match="no column 'key'; it has: name, file"):
        convert(path, tmp_path / "p.parquet")


def test_keys_from_the_paths_of_a_hugging_face_file(tmp_path: Path) -> None:
    pictures: list[dict[str, object]]
    pictures = [{"bytes": draw_jpeg(n), "path": f"{n}.jpg"} for n in range(3)]
    pictures += [{"bytes": b"no picture", "path": "3.jpg"}, {"bytes": None, "path": None}]
    pq.write_table(pa.table({"image": pictures, "label": range(5)}), tmp_path / "hf.parquet")
    with pytest.raises(SourceError, match=r"image\.path \(text\)"):
        convert(tmp_path / "hf.parquet", tmp_path / "out.parquet")
    out = tmp_path / "out.parquet"
    found = convert(tmp_path / "hf.parquet", out, key_column="image.path")
    assert [key for key, _ in read_rows(found.path)] == ["0.jpg", "1.jpg", "2.jpg"]
    assert found.rejected == {"no_picture": 1, "unnamed_image": 1}


def refuse(given: Path, destination: Path, **more: Any) -> str:
    with pytest.raises(ConvertError) as caught:
        convert(given, destination, **more)
    assert not destination.exists()
    return str(caught.value)


def test_inputs_that_are_not_plain_are_refused(tmp_path: Path) -> None:
    out = tmp_path / "out" / "o.parquet"
    (tmp_path / "a.tar.gz").touch()
    (tmp_path / "what").touch()
    (tmp_path / "mixed").mkdir()
    (tmp_path / "mixed" / "a.parquet").touch()
    (tmp_path / "mixed" / "b.png").touch()
    (tmp_path / "empty").mkdir()
    assert "is not there" in refuse(tmp_path / "none.json", out)
    assert "Unpack it first" in refuse(tmp_path / "a.tar.gz", out)
    assert "--from (json, parquet, folder" in refuse(tmp_path / "what", out)
    assert "--from parquet or --from folder" in refuse(tmp_path / "mixed", out)
    assert "no Parquet files" in refuse(tmp_path / "empty", out, kind=Kind.PARQUET)
    assert "is a folder" in refuse(tmp_path / "empty", out, kind=Kind.TAR)
    assert "no image was found" in refuse(tmp_path / "empty", out)
    assert "lies in" in refuse(tmp_path / "empty", tmp_path / "empty" / "o.parquet")
    assert not list((tmp_path / "out").iterdir())


def test_when_nothing_can_be_converted_the_reasons_are_left(tmp_path: Path) -> None:
    source = write_json(tmp_path / "a.json", {"a": None, "b": "?"})
    assert "no image was found" in refuse(source, tmp_path / "o.parquet")
    lines = (tmp_path / "o.parquet.rejected.jsonl").read_text().splitlines()
    assert [json.loads(line)["reason"] for line in lines] == ["null_image", "undecodable_image"]


def test_what_is_there_is_not_written_over(tmp_path: Path) -> None:
    source = write_json(tmp_path / "a.json", draw_images(2))
    (tmp_path / "o.parquet").write_text("mine")
    with pytest.raises(ConvertError, match="is there already"):
        convert(source, tmp_path / "o.parquet")
    assert (tmp_path / "o.parquet").read_text() == "mine"


KEYS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=300).filter(
    lambda key: len(key.encode()) <= 1000
)


@settings(max_examples=25, deadline=None)
@given(keys=st.lists(KEYS, min_size=1, max_size=20, unique=True), is_sorted=st.booleans())
def test_any_key_goes_through(
    keys: list[str], is_sorted: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("keys")
    images = {key: draw_jpeg(number) for number, key in enumerate(keys)}
    source = write_json(folder / "a.json", images)
    convert(source, folder / "o.parquet", is_sorted=is_sorted)
    expected = sorted(images, key=str.encode) if is_sorted else [*images]
    assert read_rows(folder / "o.parquet") == [(key, images[key]) for key in expected]


def forbid(path: Path) -> "pytest.MonkeyPatch":
    """As for a user who may not read the path; root, who runs tests, may read all."""
    patch = pytest.MonkeyPatch()
    access = os.access
    patch.setattr(os, "access", lambda one, mode: Path(one) != path and access(one, mode))
    return patch


@pytest.mark.parametrize("name", ["b.jpg", "inside"])
@pytest.mark.parametrize("kind", ["folder", "table"])
def test_what_can_not_be_read_is_rejected(kind: str, name: str, tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "a", {"a": draw_jpeg(1), "b": draw_jpeg(2)})
    write_folder(folder, {"inside/c": draw_jpeg(3)})
    table = tmp_path / "a.csv"
    table.write_text("key,path\na,a/a.jpg\nb,a/b.jpg\n")
    forbidden = folder / (name if kind == "folder" else "b.jpg")
    patch = forbid(forbidden)
    try:
        found = convert(folder if kind == "folder" else table, tmp_path / "o.parquet")
    finally:
        patch.undo()
    assert found.rejected == {"missing_file": 1}
    (line,) = load_rejected(found)
    assert line["name"].endswith(forbidden.name)


def test_a_parquet_link_to_nothing_is_said(tmp_path: Path) -> None:
    (tmp_path / "a.parquet").symlink_to("nowhere")
    with pytest.raises(ConvertError, match=r"a\.parquet can not be read: No such file"):
        convert(tmp_path, tmp_path / "o.parquet")


def test_a_row_that_is_nested_too_deep_is_rejected(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(draw_jpeg(1))
    path = tmp_path / "a.jsonl"
    path.write_text(f'{{"key": "a", "path": "a.jpg"}}\n{{"key": {"[" * 100_000}\n')
    assert convert(path, tmp_path / "o.parquet").rejected == {"invalid_row": 1}
