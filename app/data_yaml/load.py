"""Loading a data YAML: its groups, their datasets, and the fields of these."""

import glob
import os
import re
from dataclasses import fields
from pathlib import Path
from typing import Any

import yaml
from yaml.reader import Reader

from app.data_yaml.dataset import FIELDS, GROUPS, Dataset, DataYaml
from app.data_yaml.files import list_image_files
from app.data_yaml.walk import Entries, Walk, is_text, kind_of, line_of
from app.errors import SourceError
from app.group import Group
from app.key_rules import MAX_RULES, KeyRule, check_pattern, check_replace
from app.storage import ObjectLimits, Objects, is_address
from app.storage.address import split_address

MAX_SAMPLES = 10**12  # the sum over all datasets that fit in the file stays inside 64 bits
_IMAGE_FIELDS = ("images_path", "key_column", "value_column", "key_rules")
_RULE_FIELDS = tuple(f.name for f in fields(KeyRule))
_RULE_FORM = r"pattern: '\.jpg$' and replace: ''"
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


def load_data_yaml(
    path: Path, *, check_files: bool = True, limits: ObjectLimits | None = None
) -> DataYaml:
    """The datasets of the data YAML at `path`.

    With `check_files` the files they name must be there and readable, and so must be the objects,
    asked for within `limits`; what is in them is not looked at. Raises `DataYamlError` with every
    mistake, in line order.
    """
    reading = _Reading(path, check_files, Objects(limits or ObjectLimits()))
    reading.read_groups(reading.compose(reading.read_text()))
    if reading.mistakes:
        raise reading.refusal()
    return DataYaml(path=path, datasets=tuple(reading.datasets))


class _Reading(Walk):
    """A walk that makes datasets of what it meets."""

    def __init__(self, path: Path, check_files: bool, objects: Objects) -> None:
        super().__init__(path)
        self.check_files = check_files
        self.objects = objects
        self.datasets: list[Dataset] = []
        self.names: dict[str, str] = {}  # dataset name -> where it stands first

    def read_groups(self, document: yaml.Node) -> None:
        entries = self.entries(document, "group")
        old = [name for name in entries if _OLD_RECIPE.fullmatch(name) or name in FIELDS]
        if old:
            self.add(entries[old[0]][0], f"{old[0]}: {_GROUPED_FORM}")
        for name in [name for name in entries if name not in old]:
            self.group, (line, node) = name[:200], entries[name]
            known = self.nearest(line, "group", name, GROUPS)
            if kind_of(node) != "a mapping":
                self.add(line, f"the group is {kind_of(node)}; write its datasets or take it out")
                continue
            for dataset, (at, value) in self.entries(node, "dataset name").items():
                if known or isinstance(value, yaml.MappingNode):
                    self.dataset = dataset[:200]
                    self.read_dataset(Group(known) if known else None, dataset, at, value)
                self.dataset = None

    def read_dataset(self, group: Group | None, name: str, line: int, node: yaml.Node) -> None:
        if len(name) > 200 or _BAD_NAME.search(name):
            self.add(line, "write a name of 1 to 200 characters: no '/' or control, no '.' or '..'")
        if (place := f"{self.group}, line {line}") != self.names.setdefault(name, place):
            self.add(line, f"the name is also in {self.names[name]}; rename one of the two")
        if kind_of(node) != "a mapping":
            self.add(line, f"the dataset is {kind_of(node)}; write its fields, mimicit_path first")
            return
        found: Entries = {}
        for field, entry in self.entries(node, "field").items():
            if known := self.nearest(entry[0], "field", field, FIELDS):
                found.setdefault(known, entry)
        if "mimicit_path" not in found:
            self.add(line, "mimicit_path is missing; write the path of the instructions JSON")
        if "images_path" not in found and group not in (Group.TEXT_ONLY, None):
            self.add(line, "images_path is missing; write the images Parquet: file, folder or glob")
        values: dict[str, Any] = dict.fromkeys(FIELDS) | {"key_rules": ()}
        for field, (at, value) in found.items():
            try:
                if group is Group.TEXT_ONLY and field in _IMAGE_FIELDS:
                    raise ValueError("has no use in TEXT_ONLY, which has no images; take it out")
                is_rules = field == "key_rules"
                values[field] = self.rules(value) if is_rules else self.value(field, value)
            except ValueError as fault:
                self.add(at, f"{field} {fault}")
        if group:
            self.datasets.append(Dataset(name=name, group=group, line=line, **values))

    def value(self, field: str, node: yaml.Node) -> str | Path | int | None:
        """The value of a field; raises ValueError with what is wrong and what to write instead."""
        kind = kind_of(node)
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
        if is_address(node.value):
            return self.address(field, str(node.value))
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

    def address(self, field: str, address: str) -> str:
        """The address; raises ValueError if it is none, or nothing that can be read is there."""
        split_address(address)
        if self.check_files:
            try:
                if field != "images_path":
                    self.objects.get_stamp(address)
                elif not self.objects.list_stamps(address):
                    raise ValueError(
                        "has no usable object: name one, a folder "
                        "that has *.parquet objects, or a glob of them"
                    )
            except SourceError as error:
                raise ValueError(f"has no usable object: {error}") from None
        return address

    def rules(self, node: yaml.Node) -> tuple[KeyRule, ...]:
        """The rules of a list, mistakes in them added; raises ValueError if it is none."""
        if (kind := kind_of(node)) != "a list":
            fix = f"write a list of rules, each with {_RULE_FORM}, or leave it out"
            raise ValueError(f"is {kind}; {fix}")
        if len(node.value) > MAX_RULES:
            raise ValueError(f"has {len(node.value)} rules; write at most {MAX_RULES}")
        read = [self.rule(f"key_rules: rule {n}", one) for n, one in enumerate(node.value, 1)]
        return tuple(rule for rule in read if rule)

    def rule(self, called: str, node: yaml.Node) -> KeyRule | None:
        if (kind := kind_of(node)) != "a mapping":
            self.add(line_of(node), f"{called} is {kind}; write a mapping with {_RULE_FORM}")
            return None
        found: Entries = {}
        for field, entry in self.entries(node, "rule field").items():
            if known := self.nearest(entry[0], "rule field", field, _RULE_FIELDS):
                found.setdefault(known, entry)
        texts: dict[str, str] = {}
        for field in _RULE_FIELDS:
            if field not in found:
                self.add(line_of(node), f"{called} has no {field}; write {_RULE_FORM}")
                continue
            at, value = found[field]
            try:
                texts[field] = self.rule_text(field, value, texts.get("pattern"))
            except ValueError as fault:
                self.add(at, f"{called}: {field} {fault}")
        return KeyRule(**texts) if len(texts) == len(_RULE_FIELDS) else None

    def rule_text(self, field: str, node: yaml.Node, pattern: str | None) -> str:
        """A field of a rule; raises ValueError with what is wrong and what to write instead."""
        if not is_text(node):
            use = "'' to take out what is found" if field == "replace" else r"such as '\.jpg$'"
            raise ValueError(f"is {kind_of(node)}; write text in single quotes, {use}")
        text = str(node.value)
        if Reader.NON_PRINTABLE.search(text):
            raise ValueError("is text with a control character; take it out")
        if field == "pattern":
            check_pattern(text)
        elif pattern is not None:
            check_replace(text, pattern)
        return text
