"""A walk over the nodes of a YAML file, on which every mistake found is noted with its line.

No object is constructed from the nodes, so that every mistake has its line, a key written twice is
seen, and one mistake hides no other.
"""

import difflib
from pathlib import Path
from typing import Any

import yaml
from yaml.reader import Reader

from app.errors import DataYamlError, Mistake

MAX_FILE_BYTES = 4 * 1024 * 1024  # some 50,000 datasets; what is larger is data, given by mistake
MAX_NODES = 500_000  # aliases count each time; else 1 KB of nested aliases makes a billion nodes
MAX_DEPTH = 20  # a rule is five deep; the composer recurses in C, where too deep ends the process

Entries = dict[str, tuple[int, yaml.Node]]  # key -> the line of the key, and its value
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # in C where built, ten times faster
_KINDS = {"str": "text", "int": "a number", "float": "a fraction", "bool": "a boolean"}
_KINDS |= {"null": "blank", "timestamp": "a date", "merge": "a merge key"}
_TOO_MANY = f"over {MAX_NODES:,} YAML nodes, aliases counted each time"


class Walk:
    """One reading of a data YAML; `group` and `dataset` are where it stands, for its mistakes."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.mistakes: list[Mistake] = []
        self.group: str | None = None
        self.dataset: str | None = None
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
                    raise self.refusal((line_of(event), f"over {MAX_DEPTH} levels or {_TOO_MANY}"))
            documents = list(yaml.compose_all(text, _LOADER))
        except (yaml.YAMLError, ValueError, OverflowError) as error:  # the last two: bad escapes
            fix = "check the indentation (blanks, never tabs), colons and quotes around this line"
            fault = f"not YAML ({getattr(error, 'problem', error)}); {fix}"
            mark = getattr(error, "problem_mark", None)
            raise self.refusal((mark.line + 1 if mark else 1, fault)) from None
        for other in documents[1:]:
            self.add(
                line_of(other), "a second YAML document; keep one, without '---' between groups"
            )
        if (kind := kind_of(documents[0]) if documents else "blank") != "a mapping":
            raise self.refusal((1, f"the file is {kind}; write groups, such as IMAGE_TEXT:"))
        return documents[0]

    def entries(self, node: yaml.Node, noun: str, depth: int = 0) -> Entries:
        """The entries of a mapping, merge keys followed; mistakes in its keys are added."""
        self.nodes_left -= 1 + len(node.value)
        if self.nodes_left < 0 or depth > MAX_DEPTH:
            fault = f"'<<' merges a mapping into itself, over {MAX_DEPTH} deep or {_TOO_MANY}"
            raise self.refusal((line_of(node), fault))
        own, merged = Entries(), Entries()
        for key, value in node.value:
            if (kind := kind_of(key)) not in ("text", "a merge key"):
                shown = f" {key.value!r:.80}" if isinstance(key, yaml.ScalarNode) else ""
                self.add(line_of(key), f"{noun}{shown} is {kind}, not text; put it in quotes")
            elif key.value in own:
                first = own[key.value][0]
                self.add(
                    line_of(key), f"{key.value!r:.80} is also on line {first}; keep one of them"
                )
            else:
                own[key.value] = line_of(key), value
        line, merge = own.pop("<<", (0, yaml.SequenceNode("", [])))
        for source in merge.value if isinstance(merge, yaml.SequenceNode) else [merge]:
            if isinstance(source, yaml.MappingNode):
                for name, entry in self.entries(source, noun, depth + 1).items():
                    merged.setdefault(name, entry)
            else:
                self.add(line, f"'<<' merges {kind_of(source)}; name a mapping: <<: *anchor")
        return merged | own

    def nearest(self, line: int, noun: str, name: str, known: tuple[str, ...]) -> str | None:
        """The known name that is meant, so that a misspelt one hides no mistake behind it."""
        if name in known:
            return name
        cases = {k.lower(): k for k in known}
        near = [cases[n] for n in difflib.get_close_matches(name[:80].lower(), cases, 1)]
        hint = f"did you mean {near[0]}?" if near else f"the {noun}s are {', '.join(known)}"
        self.add(line, f"unknown {noun} {name[:80]!r}; {hint}")
        return near[0] if near else None


def line_of(at: yaml.Node | yaml.Event) -> int:
    return at.start_mark.line + 1 if at.start_mark else 1


def kind_of(node: yaml.Node) -> str:
    if not isinstance(node, yaml.ScalarNode):
        kind = "a mapping" if isinstance(node, yaml.MappingNode) else "a list"
        return kind if node.value else "blank"
    tag = node.tag.rpartition(":")[2]
    return _KINDS.get(tag, f"a value of type {tag}") if node.value.strip() else "blank"


def is_text(node: yaml.Node) -> bool:
    """Whether it is text, be it empty or blanks in quotes, which `kind_of` calls blank."""
    return isinstance(node, yaml.ScalarNode) and node.tag == "tag:yaml.org,2002:str"
