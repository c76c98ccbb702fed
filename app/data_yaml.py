"""The data YAML: which datasets there are, in which groups, and where their files stand.

Its node graph is walked and no object is constructed from it, so that every mistake has its line, a
key written twice is seen, and one mistake hides no other. docs/data-yaml.md states the rules.
"""

import difflib
import glob
import os
import re
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import yaml
from yaml.reader import Reader

from app.errors import DataYamlError, Mistake
from app.group import Group

MAX_FILE_BYTES = 4 * 1024 * 1024  # some 50,000 datasets; what is larger is data, given by mistake
MAX_NODES = 500_000  # aliases count each time; else 1 KB of nested aliases makes a billion nodes
MAX_DEPTH = 20  # a field is three deep; the composer recurses in C, where too deep ends the process
MAX_SAMPLES = 10**12  # the sum over all datasets that fit in the file stays inside 64 bits

Entries = dict[str, tuple[int, yaml.Node]]  # key -> the line of the key, and its value
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # in C where built, ten times faster


@dataclass(frozen=True, slots=True)
class Dataset:
    """One dataset of the data YAML, its paths absolute."""

    name: str
    group: Group
    mimicit_path: Path
    images_path: str | None  # a file, a folder of parts, a glob or a legacy .json; None: TEXT_ONLY
    train_config_path: Path | None
    num_samples: int | None  # None: all
    task_description: str | None
    key_column: str | None  # of the images Parquet, where it is not the one that is found
    value_column: str | None  # the same; a dotted path such as image.bytes reaches into a struct
    line: int


@dataclass(frozen=True, slots=True)
class DataYaml:
    """A data YAML without mistakes; `datasets` are in file order."""

    path: Path
    datasets: tuple[Dataset, ...]

    def meaning(self) -> list[dict[str, str | int | bool | None]]:
        """What the catalog revision hashes of it: JSON values in file order, no path, no line."""
        same = ("name", "group", "num_samples", "task_description")
        return [
            {f: getattr(d, f) for f in same} | {"train_config": d.train_config_path is not None}
            for d in self.datasets
        ]


GROUPS = tuple(group.value for group in Group)
FIELDS = tuple(f.name for f in fields(Dataset) if f.name not in ("name", "group", "line"))
_IMAGE_FIELDS = ("images_path", "key_column", "value_column")
_KINDS = {"str": "text", "int": "a number", "float": "a fraction", "bool": "a boolean"}
_KINDS |= {"null": "blank", "timestamp": "a date", "merge": "a merge key"}
_TOO_MANY = f"over {MAX_NODES:,} YAML nodes, aliases counted each time"
_BAD_NAME = re.compile(r"[/\x00-\x1f\x7f-\x9f\ud800-\udfff]|^\.\.?$|^\s*$")
_OLD_RECIPE = re.compile(r"(past_)?(mimicit|images|train_config)(_[a-z]+)?_path")
_GROUPED_FORM = """\
the older recipe form, with its paths on the top level, is not read. Write each dataset under its
    group (*_ic_path: IMAGE_TEXT_IN_CONTEXT, *_text_path: TEXT_ONLY, *_vt_path: VIDEO_TEXT, all
    others: IMAGE_TEXT), with one path per field, for example:
      IMAGE_TEXT:
        LACONV:
          mimicit_path: LA/LACONV_instructions.json
          images_path: LA/LA.parquet"""


def load_data_yaml(path: Path, *, check_files: bool = True) -> DataYaml:
    """The datasets of the data YAML at `path`.

    With `check_files` the files they name must be there and readable; what is in them is not looked
    at. Raises `DataYamlError` with every mistake, in line order.
    """
    walk = _Walk(path, check_files)
    walk.read_groups(walk.compose(walk.read_text()))
    if walk.mistakes:
        raise walk.refusal()
    return DataYaml(path=path, datasets=tuple(walk.datasets))


def list_image_files(images_path: str) -> list[Path]:
    """The files that `images_path` names, part.2 before part.10; none where nothing is.

    A file is itself. A folder is the `*.parquet` files directly in it, none of its sub folders.
    Anything else is a glob (`**` goes down); a folder it matches is its `*.parquet` files. Names
    that start with `.` or `_` or end in `.crc`, which writers leave beside parts, are skipped.
    """
    if os.path.isfile(images_path):
        return [Path(images_path)]
    found: set[str] = set()
    is_folder = os.path.isdir(images_path)
    for match in [images_path] if is_folder else glob.iglob(images_path, recursive=True):
        inside = os.path.join(glob.escape(match), "*.parquet")
        found.update(glob.iglob(inside) if os.path.isdir(match) else [match])
    found = {f for f in found if os.path.lexists(f) and not os.path.isdir(f)}  # `no/**` gives no/
    parts = sorted(f for f in set(map(Path, found)) if not re.search(r"^[._]|\.crc$", f.name))
    return sorted(parts, key=lambda f: re.sub("[0-9]+", lambda n: n[0].zfill(255), str(f)))


class _Walk:
    """One reading of a data YAML; `group` and `dataset` are where it stands, for its mistakes."""

    def __init__(self, path: Path, check_files: bool) -> None:
        self.path = path
        self.check_files = check_files
        self.mistakes: list[Mistake] = []
        self.datasets: list[Dataset] = []
        self.group: str | None = None
        self.dataset: str | None = None
        self.names: dict[str, str] = {}  # dataset name -> where it stands first
        self.nodes_left = MAX_NODES

    def add(self, line: int, message: str) -> None:
        self.mistakes.append(Mistake(line, self.group, self.dataset, message))

    def refusal(self, *last: tuple[int, str]) -> DataYamlError:
        """All mistakes in line order; `last` is one that leaves nothing to read on."""
        for line, message in last:
            self.add(line, message)
        return DataYamlError(str(self.path), sorted(self.mistakes, key=lambda m: m.line))

    def read_text(self) -> str:
        try:
            with self.path.open("rb") as file:
                data = file.read(MAX_FILE_BYTES + 1)
        except OSError as error:
            raise self.refusal((1, f"{error.strerror}; name a readable data YAML")) from None
        if len(data) > MAX_FILE_BYTES:
            raise self.refusal((1, "over 4 MiB; a data YAML only names the files that hold data"))
        text = data.decode("utf-8-sig", "surrogateescape")  # which NON_PRINTABLE finds
        if bad := Reader.NON_PRINTABLE.search(text):
            line = text.count("\n", 0, bad.start()) + 1
            raise self.refusal((line, f"{bad.group()!r} is not printable UTF-8 text; take it out"))
        return text

    def compose(self, text: str) -> yaml.Node:
        depth = 0
        try:
            for count, event in enumerate(yaml.parse(text, _LOADER)):
                depth += isinstance(event, yaml.CollectionStartEvent)
                depth -= isinstance(event, yaml.CollectionEndEvent)
                if count > MAX_NODES or depth > MAX_DEPTH:
                    raise self.refusal((_line(event), f"over {MAX_DEPTH} levels or {_TOO_MANY}"))
            documents = list(yaml.compose_all(text, _LOADER))
        except (yaml.YAMLError, ValueError, OverflowError) as error:  # the last two: bad escapes
            fix = "check the indentation (blanks, never tabs), colons and quotes around this line"
            fault = f"not YAML ({getattr(error, 'problem', error)}); {fix}"
            mark = getattr(error, "problem_mark", None)
            raise self.refusal((mark.line + 1 if mark else 1, fault)) from None
        for other in documents[1:]:
            self.add(_line(other), "a second YAML document; keep one, without '---' between groups")
        if (kind := _kind(documents[0]) if documents else "blank") != "a mapping":
            raise self.refusal((1, f"the file is {kind}; write groups, such as IMAGE_TEXT:"))
        return documents[0]

    def entries(self, node: yaml.Node, noun: str, depth: int = 0) -> Entries:
        """The entries of a mapping, merge keys followed; mistakes in its keys are added."""
        self.nodes_left -= 1 + len(node.value)
        if self.nodes_left < 0 or depth > MAX_DEPTH:
            fault = f"'<<' merges a mapping into itself, over {MAX_DEPTH} deep or {_TOO_MANY}"
            raise self.refusal((_line(node), fault))
        own, merged = Entries(), Entries()
        for key, value in node.value:
            if (kind := _kind(key)) not in ("text", "a merge key"):
                shown = f" {key.value!r:.80}" if isinstance(key, yaml.ScalarNode) else ""
                self.add(_line(key), f"{noun}{shown} is {kind}, not text; put it in quotes")
            elif key.value in own:
                first = own[key.value][0]
                self.add(_line(key), f"{key.value!r:.80} is also on line {first}; keep one of them")
            else:
                own[key.value] = _line(key), value
        line, merge = own.pop("<<", (0, yaml.SequenceNode("", [])))
        for source in merge.value if isinstance(merge, yaml.SequenceNode) else [merge]:
            if isinstance(source, yaml.MappingNode):
                for name, entry in self.entries(source, noun, depth + 1).items():
                    merged.setdefault(name, entry)
            else:
                self.add(line, f"'<<' merges {_kind(source)}; name a mapping: <<: *anchor")
        return merged | own

    def read_groups(self, document: yaml.Node) -> None:
        entries = self.entries(document, "group")
        old = [name for name in entries if _OLD_RECIPE.fullmatch(name) or name in FIELDS]
        if old:
            self.add(entries[old[0]][0], f"{old[0]}: {_GROUPED_FORM}")
        for name in [name for name in entries if name not in old]:
            self.group, (line, node) = name[:200], entries[name]
            known = self.nearest(line, "group", name, GROUPS)
            if _kind(node) != "a mapping":
                self.add(line, f"the group is {_kind(node)}; write its datasets or take it out")
                continue
            for dataset, (at, value) in self.entries(node, "dataset name").items():
                if known or isinstance(value, yaml.MappingNode):
                    self.dataset = dataset[:200]
                    self.read_dataset(Group(known) if known else None, dataset, at, value)
                self.dataset = None

    def nearest(self, line: int, noun: str, name: str, known: tuple[str, ...]) -> str | None:
        """The known name that is meant, so that a misspelt one hides no mistake behind it."""
        if name in known:
            return name
        cases = {k.lower(): k for k in known}
        near = [cases[n] for n in difflib.get_close_matches(name[:80].lower(), cases, 1)]
        hint = f"did you mean {near[0]}?" if near else f"the {noun}s are {', '.join(known)}"
        self.add(line, f"unknown {noun} {name[:80]!r}; {hint}")
        return near[0] if near else None

    def read_dataset(self, group: Group | None, name: str, line: int, node: yaml.Node) -> None:
        if len(name) > 200 or _BAD_NAME.search(name):
            self.add(line, "write a name of 1 to 200 characters: no '/' or control, no '.' or '..'")
        if (place := f"{self.group}, line {line}") != self.names.setdefault(name, place):
            self.add(line, f"the name is also in {self.names[name]}; rename one of the two")
        if _kind(node) != "a mapping":
            self.add(line, f"the dataset is {_kind(node)}; write its fields, mimicit_path first")
            return
        found: Entries = {}
        for field, entry in self.entries(node, "field").items():
            if known := self.nearest(entry[0], "field", field, FIELDS):
                found.setdefault(known, entry)
        if "mimicit_path" not in found:
            self.add(line, "mimicit_path is missing; write the path of the instructions JSON")
        if "images_path" not in found and group not in (Group.TEXT_ONLY, None):
            self.add(line, "images_path is missing; write the images Parquet: file, folder or glob")
        values: dict[str, Any] = dict.fromkeys(FIELDS)
        for field, (at, value) in found.items():
            try:
                if group is Group.TEXT_ONLY and field in _IMAGE_FIELDS:
                    raise ValueError("has no use in TEXT_ONLY, which has no images; take it out")
                values[field] = self.value(field, value)
            except ValueError as fault:
                self.add(at, f"{field} {fault}")
        if group:
            self.datasets.append(Dataset(name=name, group=group, line=line, **values))

    def value(self, field: str, node: yaml.Node) -> str | Path | int | None:
        """The value of a field; raises ValueError with what is wrong and what to write instead."""
        kind = _kind(node)
        if field == "num_samples":
            plain = kind == "a number" and re.fullmatch("[-+]?[1-9][0-9_]{0,15}", node.value)
            number = int(node.value.replace("_", "")) if plain else 0
            if 1 <= number <= MAX_SAMPLES or number == -1:
                return None if number == -1 else number
            what = node.value[:80] if kind == "a number" else kind
            fix = f"write 1 to {MAX_SAMPLES} in unquoted digits"
            raise ValueError(f"is {what}; {fix}; for all of them, leave it out or write -1")
        if kind != "text" or Reader.NON_PRINTABLE.search(node.value):
            what = kind if kind != "text" else "text with a control character"
            raise ValueError(f"is {what}; write plain text, in quotes if need be, or leave it out")
        if not field.endswith("_path"):
            return str(node.value)
        if "://" in node.value:
            raise ValueError(
                "is an address; object-store addresses are not supported yet; mount the file"
            )
        of_images, folder = field == "images_path", os.path.dirname(os.path.abspath(self.path))
        if of_images and glob.escape(node.value) != node.value:
            folder = glob.escape(folder)
        path = os.path.join(folder, node.value)
        if self.check_files:
            files = (of_images and list_image_files(path)) or [Path(path)]
            bad = [f for f in files if not os.path.isfile(f) or not os.access(f, os.R_OK)]
            if bad:
                state = [f"{f} is {'unreadable' if os.path.exists(f) else 'missing'}" for f in bad]
                also = ", a folder that has *.parquet files, or a glob of them" if of_images else ""
                raise ValueError(f"has no usable file: {', '.join(state)}; name a file{also}")
        return path if of_images else Path(path)


def _line(at: yaml.Node | yaml.Event) -> int:
    return at.start_mark.line + 1 if at.start_mark else 1


def _kind(node: yaml.Node) -> str:
    if not isinstance(node, yaml.ScalarNode):
        kind = "a mapping" if isinstance(node, yaml.MappingNode) else "a list"
        return kind if node.value else "blank"
    tag = node.tag.rpartition(":")[2]
    return _KINDS.get(tag, f"a value of type {tag}") if node.value.strip() else "blank"
