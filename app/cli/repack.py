"""mimicit repack: Parquet, or an images.json, in the layout of the fastest lookups."""

from pathlib import Path
from typing import Annotated

import typer

from app.cli.converted import run_conversion
from app.cli.options import (
    ClusterOption,
    ConfigOption,
    KeyColumnOption,
    PartitionOption,
    SortOption,
    ValueColumnOption,
)
from app.convert.options import MAX_PARTITION_BYTES, ImageOptions
from app.convert.sources import Kind
from app.mounted import convert_limits
from app.settings import load_settings


def repack(
    source: Annotated[
        str,
        typer.Argument(
            metavar="SRC", help="What images_path may be: a file, a folder, a glob, an images.json."
        ),
    ],
    destination: Annotated[
        Path, typer.Argument(metavar="DST", help="A new .parquet file, or the folder for several.")
    ],
    sort: SortOption = False,
    verify: Annotated[
        bool,
        typer.Option("--verify", help="Read what was written, and compare it with the source."),
    ] = False,
    key_column: KeyColumnOption = None,
    value_column: ValueColumnOption = None,
    max_partition_bytes: PartitionOption = MAX_PARTITION_BYTES,
    cluster: ClusterOption = None,
    config: ConfigOption = None,
) -> None:
    """Write images again, for the smallest lookups on slow disks and object stores."""
    settings = load_settings(config)
    options = ImageOptions(
        convert_limits(settings),
        kind=Kind.JSON if source.endswith(".json") else Kind.PARQUET,
        key_column=key_column,
        value_column=value_column,
        is_sorted=sort,
        is_verified=verify,
        max_partition_bytes=max_partition_bytes,
    )
    run_conversion([source], destination, options, settings, cluster)
