"""Repacking: any Parquet that the service reads, in the layout of the fastest lookups, verified."""

from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from convert_files import LIMITS, convert, list_parts, read_rows, run
from packs import find_pack
from parquet_files import mixed_values, opened_images, oracle, table_of, write

from app.convert.verify import VerifyPartition
from app.convert.work import PlanFolder
from app.errors import ConvertError
from app.images.stored import decode


def read_pack(folder: Path) -> dict[str, str]:
    with duckdb.connect() as connection:
        sql = "SELECT * FROM read_parquet(?)"
        found = connection.execute(sql, [str(folder / "*.parquet")])
        names = [name for name, *_ in found.description or ()]
        key, value = (names.index(name) for name in sorted(names, key="base64".__eq__))
        return {row[key]: row[value] for row in found.fetchall()}


@pytest.mark.parametrize("which", ["shared", "generated"])
def test_a_dask_folder_is_repacked_and_verified(which: str, tmp_path: Path) -> None:
    images = find_pack(which, tmp_path, 60, 4).parent / "images"
    source = images / ("ANTH.parquet" if which == "shared" else "SCENES.parquet")
    out = tmp_path / "out.parquet"
    done = run("repack", source, out, "--verify", "--sort")
    assert done.returncode == 0, done.stderr
    assert "every image was compared with its source" in done.stderr
    with duckdb.connect() as connection:
        sql = "SELECT key, base64 FROM read_parquet(?)"
        found = dict(connection.execute(sql, [str(out)]).fetchall())
    assert found == read_pack(source)
    assert [key for key, _ in read_rows(out)] == sorted(found)


FILES: dict[str, dict[str, Any]] = {
    "pandas": {},
    "zstd": {"compression": "zstd"},
    "gzip, small pages": {"compression": "gzip", "data_page_size": 4096, "write_batch_size": 8},
    "v2": {"data_page_version": "2.0", "compression": "none"},
    "delta": {"use_dictionary": False, "column_encoding": {"base64": "DELTA_LENGTH_BYTE_ARRAY"}},
    "row groups": {"row_group_size": 37},
}


@pytest.mark.parametrize("is_sorted", [False, True])
@pytest.mark.parametrize("name", FILES)
def test_every_readable_value_is_repacked(name: str, is_sorted: bool, tmp_path: Path) -> None:
    table = table_of(mixed_values(400, 5))
    source = write(tmp_path / "a.parquet", table, **FILES[name])
    out = tmp_path / "o.parquet"
    found = convert(source, out, is_sorted=is_sorted, is_verified=True)
    expected = {}
    with opened_images([source], tmp_path / "index", limits=LIMITS) as images:
        for key, _ in oracle(source, "key", "base64"):
            place = images.get_place(key or "")
            if place.is_readable:
                stored = images.read(place, wait=True)
                expected[key or ""] = decode(stored, place.form)
    assert read_rows(out) == list(expected.items())
    assert found.images == len(expected)
    assert sum(found.rejected.values()) == 400 - len(expected) > 100


def test_a_glob_and_an_images_json_can_be_repacked(tmp_path: Path) -> None:
    for number in range(3):
        frame = pd.DataFrame({"base64": ["AAAA"]}, index=[f"key {number}"])
        frame.to_parquet(tmp_path / f"part.{number}.parquet")
    done = run("repack", tmp_path / "part.*.parquet", tmp_path / "out.parquet", "--verify")
    assert done.returncode == 0, done.stderr
    keys = [key for key, _ in read_rows(tmp_path / "out.parquet")]
    assert keys == ["key 0", "key 1", "key 2"]
    (tmp_path / "a.json").write_text('{"a": "AAAA"}')
    done = run("repack", tmp_path / "a.json", tmp_path / "b")
    assert done.returncode == 0, done.stderr
    assert read_rows(tmp_path / "b") == [("a", b"\0\0\0")]


@pytest.mark.parametrize("damage", ["value", "key", "row"])
def test_verifying_finds_what_is_not_the_same(damage: str, tmp_path: Path) -> None:
    source = write(tmp_path / "a.parquet", table_of(["AAAA", "BBBB", "CCCC"]))
    out = tmp_path / "o.parquet"

    def damage_and_verify(folder: PlanFolder, *more: Any) -> object:
        path = folder.part(0)
        table, schema = pq.read_table(path).to_pydict(), pq.read_schema(path)
        if damage == "row":
            table = {name: column[:2] for name, column in table.items()}
        else:
            table["base64" if damage == "value" else "key"][1] = "AAAA"
        pq.write_table(pa.table(table, schema=schema), path)
        return VerifyPartition(folder, *more)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("app.convert.images.VerifyPartition", damage_and_verify)
        with pytest.raises(ConvertError, match=r"another picture|other keys"):
            convert(source, out, is_verified=True)
    assert not out.exists()
    assert convert(source, out, is_verified=True).is_verified  # written again


def test_several_partitions_are_verified(tmp_path: Path) -> None:
    values = mixed_values(300, 7, largest_bytes=40_000)
    source = write(tmp_path / "a.parquet", table_of(values))
    found = convert(source, tmp_path / "out", is_verified=True, max_partition_bytes=1 << 20)
    assert found.partitions == len(list_parts(tmp_path / "out")) > 3
