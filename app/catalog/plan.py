"""What a catalog has to be made of: the units that a data YAML and its files call for now.

A unit's name is a fingerprint of what goes into it, so comparing names tells what is stale.
"""

import os
from dataclasses import dataclass

from app.catalog.limits import BuildLimits
from app.catalog.units import (
    fingerprint,
    fingerprint_file,
    fingerprint_local,
    fingerprint_object,
)
from app.data_yaml import Dataset, DataYaml, list_image_files
from app.errors import SourceError
from app.key_rules import KeyRule
from app.storage import FileStamp, Objects, is_address, stamp_file


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


def plan_dataset(dataset: Dataset, limits: BuildLimits, objects: Objects) -> DatasetPlan:
    """The units of a dataset; raises SourceError if a file of it can not be read."""
    bounds = (limits.max_value_bytes, limits.max_page_bytes)
    try:
        path = str(dataset.mimicit_path)
        instructions = _source(
            "instructions", _find(path, objects), bounds, key_rules=dataset.key_rules
        )
        columns = (dataset.key_column, dataset.value_column)
        files = _list_images(dataset.images_path, objects)
        image_files = tuple(_source("file", file, bounds, columns) for file in files)
        images = None
        if dataset.images_path is not None:
            images = f"images-{fingerprint(*[file.name for file in image_files])}"
        config = dataset.train_config_path
        config_name = None if config is None else fingerprint_file(str(config), objects)
    except OSError as error:
        raise SourceError(f"{error.filename}: {error.strerror}") from error
    unit = f"dataset-{fingerprint(instructions.name, images, config_name)}"
    return DatasetPlan(dataset, instructions, image_files, images, config_name, unit)


def _find(path: str, objects: Objects) -> str | FileStamp:
    return objects.get_stamp(path) if is_address(path) else path


def _list_images(images_path: str | None, objects: Objects) -> list[str] | list[FileStamp]:
    if images_path is None:
        return []
    if is_address(images_path):
        return objects.list_stamps(images_path)
    return [str(file) for file in list_image_files(images_path)]


def _source(
    kind: str,
    found: str | FileStamp,
    bounds: tuple[int, int],
    columns: tuple[str | None, ...] = (),
    key_rules: tuple[KeyRule, ...] = (),
) -> SourceUnit:
    """The unit of a local file, or of an object as its store described it just now."""
    if isinstance(found, FileStamp):
        path, state, size_bytes = found.path, fingerprint_object(found), found.size_bytes
    else:
        path, state, size_bytes = found, fingerprint_local(found), os.stat(found).st_size
    name = f"{kind}-{fingerprint(state, bounds, (*columns, *key_rules))}"
    key_column, value_column = columns or (None, None)
    return SourceUnit(name, path, size_bytes, state, key_column, value_column, key_rules)


def stamp_sources(data_yaml: DataYaml, limits: BuildLimits) -> list[FileStamp]:
    """What the data YAML and all that it names are now: 2 µs for a file, and a round trip for an
    object; raises OSError and SourceError."""
    objects = Objects(limits.objects)
    found: list[str | FileStamp] = [str(data_yaml.path)]
    for dataset in data_yaml.datasets:
        paths = [dataset.mimicit_path, dataset.train_config_path]
        found += [_find(str(path), objects) for path in paths if path is not None]
        found += _list_images(dataset.images_path, objects)
    return [stamp_file(one) if isinstance(one, str) else one for one in found]


def plan_catalog(data_yaml: DataYaml, limits: BuildLimits) -> list[DatasetPlan]:
    """The units of every dataset, in the order of the data YAML."""
    objects = Objects(limits.objects)
    return [plan_dataset(dataset, limits, objects) for dataset in data_yaml.datasets]
