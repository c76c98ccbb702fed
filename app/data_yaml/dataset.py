"""What a data YAML says: its datasets, and their fields."""

from dataclasses import dataclass, fields
from pathlib import Path

from app.group import Group
from app.key_rules import KeyRule


@dataclass(frozen=True, slots=True)
class Dataset:
    """One dataset of the data YAML, its paths absolute; an address is text."""

    name: str
    group: Group
    mimicit_path: Path | str
    images_path: str | None  # a file, a folder of parts, a glob or a legacy .json; None: TEXT_ONLY
    train_config_path: Path | str | None
    num_samples: int | None  # None: all
    task_description: str | None
    key_column: str | None  # of the images Parquet, where it is not the one that is found
    value_column: str | None  # the same; a dotted path such as image.bytes reaches into a struct
    key_rules: tuple[KeyRule, ...]  # from the image ids of instructions to the keys of images
    line: int


@dataclass(frozen=True, slots=True)
class DataYaml:
    """A data YAML without mistakes; `datasets` are in file order."""

    path: Path
    datasets: tuple[Dataset, ...]

    def meaning(self) -> list[dict[str, str | int | bool | None]]:
        """What the catalog revision hashes of it: JSON values in file order, no path, no line.

        Nor key rules: what they make is in the instructions, which the revision hashes as well.
        """
        same = ("name", "group", "num_samples", "task_description")
        return [
            {f: getattr(d, f) for f in same} | {"train_config": d.train_config_path is not None}
            for d in self.datasets
        ]


GROUPS = tuple(group.value for group in Group)
FIELDS = tuple(f.name for f in fields(Dataset) if f.name not in ("name", "group", "line"))
