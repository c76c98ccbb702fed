"""The main job over HTTP: every image and every instruction, as pandas and json read them."""

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pandas as pd
import pytest
import yaml
from live_server import LiveServer, image_path, start_server
from packs import SHARED_PACK, find_pack

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", params=["generated", "shared"])
def pack(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return find_pack(request.param, tmp_path_factory.mktemp("pack"), images=150, seed=3)


@pytest.fixture(scope="module")
def server(pack: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    with start_server(pack, tmp_path_factory.mktemp("catalog") / "c", workers=2) as live:
        yield live


def list_datasets(pack: Path) -> list[tuple[str, str, dict[str, Any]]]:
    groups = yaml.safe_load(pack.read_text())
    return [
        (group, name, fields) for group, sets in groups.items() for name, fields in sets.items()
    ]


def read_images(path: Path) -> dict[str, str]:
    if path.suffix == ".json":
        found: dict[str, str] = json.loads(path.read_text())
        return found
    return {str(key): text for key, text in pd.read_parquet(path)["base64"].items()}


def read_instructions(pack: Path, fields: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((pack.parent / fields["mimicit_path"]).read_text())["data"]
    return found


def test_every_image_comes_byte_for_byte(pack: Path, server: LiveServer) -> None:
    seen: set[str] = set()
    for _, name, fields in list_datasets(pack):
        if "images_path" not in fields:
            continue
        texts = read_images(pack.parent / fields["images_path"])
        for key, text in texts.items():
            answer = server.get(image_path(name, key))
            assert answer.status == 200
            assert answer.body == base64.b64decode(text)
            assert answer.headers["content-type"] in ("image/jpeg", "image/png", "image/webp")
        listed = server.get_json(f"/v1/datasets/{name}/images?limit=1000")
        assert [item["key"] for item in listed["items"]] == sorted(texts, key=str.encode)
        seen |= texts.keys()
    assert len(seen) >= 150


def test_every_instruction_comes_as_json_reads_it(pack: Path, server: LiveServer) -> None:
    total = 0
    for _, name, fields in list_datasets(pack):
        records = read_instructions(pack, fields)
        for id, expected in records.items():
            found = server.get_json(f"/v1/datasets/{name}/instructions/{quote(id, safe='')}")
            assert {field: found[field] for field in expected} == expected
        total += len(records)
    if pack == SHARED_PACK:
        assert total - len(read_instructions(pack, list_datasets(pack)[2][2])) == 1740


def test_pages_hold_every_instruction_in_file_order(pack: Path, server: LiveServer) -> None:
    for _, name, fields in list_datasets(pack):
        ids, after = [], ""
        while True:
            page = server.get_json(f"/v1/datasets/{name}/instructions?limit=37{after}")
            ids += [item["id"] for item in page["items"]]
            if page["next"] is None:
                break
            after = f"&after={page['next']}"
        assert ids == list(read_instructions(pack, fields))


def test_context_comes_in_order(pack: Path, server: LiveServer) -> None:
    checked = 0
    for group, name, fields in list_datasets(pack):
        if group != "IMAGE_TEXT_IN_CONTEXT":
            continue
        records = read_instructions(pack, fields)
        config = fields.get("train_config_path")
        contexts = {id: record["rel_ins_ids"] for id, record in records.items()}
        if config:
            contexts = json.loads((pack.parent / config).read_text())
        for id, related in list(contexts.items())[:60]:
            found = server.get_json(f"/v1/datasets/{name}/instructions/{id}?related=true")
            assert [one["id"] for one in found["context"]] == related
            assert [one["answer"] for one in found["context"]] == [
                records[other]["answer"] for other in related
            ]
            assert found["missing_context_ids"] == []
            checked += 1
    assert checked


def test_datasets_are_counted_as_the_files_have_them(pack: Path, server: LiveServer) -> None:
    items = {item["name"]: item for item in server.get_json("/v1/datasets")["items"]}
    assert list(items) == [name for _, name, _ in list_datasets(pack)]
    shares: dict[str, float] = {}
    for group, name, fields in list_datasets(pack):
        item = items[name]
        records = read_instructions(pack, fields)
        wanted = fields.get("num_samples", -1)
        assert item["group"] == group
        assert item["instructions"] == len(records)
        assert item["problems"] == {}
        assert item["draws"] == (item["usable"] if wanted == -1 else wanted)
        if "train_config_path" not in fields:
            assert item["usable"] == len(records)
        shares[group] = shares.get(group, 0) + item["share"]
        assert server.get_json(f"/v1/datasets/{name}") == item
    assert all(share == pytest.approx(1) for share in shares.values())


def test_an_image_of_two_sources_is_ambiguous_and_says_where(
    pack: Path, server: LiveServer
) -> None:
    datasets = {name: fields for _, name, fields in list_datasets(pack)}
    legacy = next(n for n, f in datasets.items() if f.get("images_path", "").endswith(".json"))
    key = next(iter(read_images(pack.parent / datasets[legacy]["images_path"])))
    answer = server.get(f"/v1/images/{key}")
    assert (answer.status, answer.code) == (409, "ambiguous_key")
    bodies = {server.get(url).body for url in answer.json()["candidates"]}
    assert len(bodies) == 1
    assert len(answer.json()["candidates"]) == 2
