"""What a catalog has to be made of: the units that a data YAML and its files call for now.

A unit's name is a fingerprint of what goes into it, so comparing names tells what is stale.
"""

import os
from dataclasses import dataclass

from app.catalog.limits import BuildLimits
from app.catalog.units import fingerprint, fingerprint_file
from app.data_yaml import Dataset, DataYaml, list_image_files
from app.errors import SourceError
from app.key_rules import KeyRule


@dataclass(frozen=True, slots=True)
class SourceUnit:
    """A unit that is made by reading one file."""

    name: str
    path: str
    size_bytes: int
    state: str  # the file's fingerprint when this was planned
    key_column: str | None = None
    value_column: str | None = None
    key_rules: tuple[KeyRule, ...] = ()  # of an instructions file

    @property
    def is_images(self) -> bool:
        """Whether the file holds images, and not instructions."""
        return self.name.startswith("file-")


@dataclass(frozen=True, slots=True)
class DatasetPlan:
    """The units of one dataset."""

    dataset: Dataset
    instructions: SourceUnit
    image_files: tuple[SourceUnit, ...]
    images: str | None
    train_config: str | None  # its fingerprint
    unit: str


def plan_dataset(dataset: Dataset, limits: BuildLimits) -> DatasetPlan:
    """The units of a dataset; raises SourceError if a file of it can not be read."""
    bounds = (limits.max_value_bytes, limits.max_page_bytes)
    try:
        path = str(dataset.mimicit_path)
        instructions = _source("instructions", path, bounds, key_rules=dataset.key_rules)
        columns = (dataset.key_column, dataset.value_column)
        files = [] if dataset.images_path is None else list_image_files(dataset.images_path)
        image_files = tuple(_source("file", str(file), bounds, columns) for file in files)
        images = None
        if dataset.images_path is not None:
            images = f"images-{fingerprint(*[file.name for file in image_files])}"
        config = dataset.train_config_path
        config_name = None if config is None else fingerprint_file(str(config))
    except OSError as error:
        raise SourceError(f"{error.filename}: {error.strerror}") from error
    unit = f"dataset-{fingerprint(instructions.name, images, config_name)}"
    return DatasetPlan(dataset, instructions, image_files, images, config_name, unit)


def _source(
    kind: str,
    path: str,
    bounds: tuple[int, int],
    columns: tuple[str | None, ...] = (),
    key_rules: tuple[KeyRule, ...] = (),
) -> SourceUnit:
    state = fingerprint_file(path)
    name = f"{kind}-{fingerprint(state, bounds, (*columns, *key_rules))}"
    key_column, value_column = columns or (None, None)
    size_bytes = os.stat(path).st_size
    return SourceUnit(name, path, size_bytes, state, key_column, value_column, key_rules)


def stamp_sources(data_yaml: DataYaml) -> list[tuple[str, int, int]]:
    """Path, size and modification time of the data YAML and of every file it names (2 µs each);
    raises OSError."""
    paths = [data_yaml.path]
    for dataset in data_yaml.datasets:
        paths.append(dataset.mimicit_path)
        if dataset.images_path is not None:
            paths += list_image_files(dataset.images_path)
        if dataset.train_config_path is not None:
            paths.append(dataset.train_config_path)
    stats = [(str(path), os.stat(path)) for path in paths]
    return [(path, stat.st_size, stat.st_mtime_ns) for path, stat in stats]


def plan_catalog(data_yaml: DataYaml, limits: BuildLimits) -> list[DatasetPlan]:
    """The units of every dataset, in the order of the data YAML."""
    return [plan_dataset(dataset, limits) for dataset in data_yaml.datasets]
