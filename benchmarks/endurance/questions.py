"""What clients ask, and whether the answer is right."""

import base64
import json
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import pyarrow as pa

from benchmarks.endurance.connection import Answer
from benchmarks.endurance.pack import TEXTS, Pack

RIGHT, WRONG = "right", "wrong"
_BATCH_SAMPLES = 8
_SEEDS = 4  # of batches: so few that the same is asked of every worker
_STEPS = 6
_LOOKUP_KEYS = 10

Check = Callable[[Answer, Pack], str]  # RIGHT, WRONG, or why it could not be right


@dataclass(frozen=True, slots=True)
class Question:
    """A request; what is `determined` has the same bytes whenever it is asked of a revision."""

    kind: str
    path: str
    check: Check
    method: str = "GET"
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    is_determined: bool = False


def choose_question(pack: Pack, choose: random.Random) -> Question:
    """One of everything that the service answers, mostly what training asks for."""
    ((make, _),) = choose.choices(_MIX, [weight for _, weight in _MIX])
    return make(pack, choose)


def _is(right: object) -> str:
    return RIGHT if right else WRONG


def _choose_image(pack: Pack, choose: random.Random) -> tuple[str, str]:
    dataset = choose.choice(list(pack.images))
    return dataset, choose.choice(list(pack.images[dataset]))


def _image(pack: Pack, choose: random.Random) -> Question:
    dataset, key = _choose_image(pack, choose)

    def check(answer: Answer, pack: Pack) -> str:
        return _is(answer.status == 200 and answer.body == pack.images[dataset][key])

    return Question("image", f"/v1/datasets/{dataset}/images/{key}", check)


def _part(pack: Pack, choose: random.Random) -> Question:
    dataset, key = _choose_image(pack, choose)
    first = choose.randrange(200)

    def check(answer: Answer, pack: Pack) -> str:
        part = pack.images[dataset][key][first : first + 100]
        return _is(answer.status == 206 and answer.body == part)

    headers = {"Range": f"bytes={first}-{first + 99}"}
    return Question("range", f"/v1/datasets/{dataset}/images/{key}", check, headers=headers)


def _resized(pack: Pack, choose: random.Random) -> Question:
    dataset = choose.choice(list(pack.images))
    key = list(pack.images[dataset])[choose.randrange(20)]

    def check(answer: Answer, _: Pack) -> str:
        return _is(answer.status == 200 and answer.body.startswith(b"\xff\xd8"))

    path = f"/v1/datasets/{dataset}/images/{key}?width=32"
    return Question("resized", path, check, is_determined=True)


def _unknown(pack: Pack, choose: random.Random) -> Question:
    def check(answer: Answer, _: Pack) -> str:
        code = answer.status == 404 and json.loads(answer.body)["code"]
        return _is(code == "unknown_image")

    dataset, key = _choose_image(pack, choose)
    return Question("unknown", f"/v1/datasets/{dataset}/images/no-{key}", check)


def _lookup(pack: Pack, choose: random.Random) -> Question:
    dataset = choose.choice(list(pack.images))
    keys = choose.sample(list(pack.images[dataset]), _LOOKUP_KEYS)

    def check(answer: Answer, pack: Pack) -> str:
        if answer.status != 200:
            return WRONG
        items = json.loads(answer.body)["items"]
        if [item["key"] for item in items] != keys:
            return WRONG
        pictures = pack.images[dataset]
        good = [item for item in items if not item.get("error")]
        if any(base64.b64decode(item["base64"]) != pictures[item["key"]] for item in good):
            return WRONG
        errors = {item["error"]["code"] for item in items if item.get("error")}
        return f"item {'/'.join(sorted(errors))}" if errors else RIGHT

    body = json.dumps({"dataset": dataset, "keys": keys}).encode()
    return Question("lookup", "/v1/images:lookup", check, method="POST", body=body)


def _instruction(pack: Pack, choose: random.Random) -> Question:
    dataset = choose.choice(list(pack.records))
    id = choose.choice(list(pack.records[dataset]))

    def check(answer: Answer, pack: Pack) -> str:
        if answer.status != 200:
            return WRONG
        found, written = json.loads(answer.body), pack.records[dataset][id]
        return _is({name: found[name] for name in written} == written)

    return Question("instruction", f"/v1/datasets/{dataset}/instructions/{id}", check)


def _batch(format: str, pack: Pack, choose: random.Random) -> Question:
    group = choose.choice(["", "", "/groups/TEXT_ONLY"])
    path = f"/v1{group}/batches/{choose.randrange(_STEPS)}?batch_size={_BATCH_SAMPLES}"
    path += f"&seed={choose.randrange(_SEEDS)}&format={format}"
    check = _check_arrow if format == "arrow" else _check_ndjson
    return Question(f"batch {format}", path, check, is_determined=True)


def _check_arrow(answer: Answer, pack: Pack) -> str:
    if answer.status != 200:
        return WRONG
    with pa.ipc.open_stream(answer.body) as stream:
        rows = stream.read_all().to_pylist()
    return _check_samples(rows, pack, lambda image: image)


def _check_ndjson(answer: Answer, pack: Pack) -> str:
    if answer.status != 200:
        return WRONG
    rows = [json.loads(line) for line in answer.body.splitlines()]
    return _check_samples(rows, pack, base64.b64decode)


def _check_samples(rows: list[dict[str, Any]], pack: Pack, decode: Callable[..., bytes]) -> str:
    for row in rows:
        record = pack.records[row["dataset"]][row["id"]]
        if any(row[name] != record[name] for name in ("instruction", "answer", "image_ids")):
            return WRONG
        if row["dataset"] != TEXTS:
            pictures = pack.images[row["dataset"]]
            if [decode(one) for one in row["images"]] != [pictures[k] for k in row["image_ids"]]:
                return WRONG
    if any(row["substituted_for"] for row in rows):
        return "substituted"
    return _is(len(rows) == _BATCH_SAMPLES)


def _page(path: str, begins: bytes, kind: str, pack: Pack, choose: random.Random) -> Question:
    def check(answer: Answer, _: Pack) -> str:
        return _is(answer.status == 200 and answer.body.lstrip().startswith(begins))

    headers = {"Accept": "text/html"} if begins == b"<!" else {}
    return Question(kind, path, check, headers=headers)


_MIX: list[tuple[Callable[[Pack, random.Random], Question], float]] = [
    (_image, 60),
    (_part, 4),
    (_resized, 2),
    (_unknown, 2),
    (_lookup, 4),
    (_instruction, 10),
    (partial(_batch, "arrow"), 10),
    (partial(_batch, "ndjson"), 2),
    (partial(_page, "/v1/datasets", b"{", "datasets"), 2),
    (partial(_page, "/metrics", b"# HELP", "metrics"), 1),
    (partial(_page, "/readyz", b"{", "readyz"), 2),
    (partial(_page, "/", b"<!", "explorer"), 1),
]
