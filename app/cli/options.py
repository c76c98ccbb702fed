"""Arguments and options that commands share."""

from pathlib import Path
from typing import Annotated

import typer

from app.convert.options import MIN_PARTITION_BYTES

DataArgument = Annotated[
    Path | None, typer.Argument(metavar="DATA.yaml", help="The data YAML.", show_default=False)
]
ConfigOption = Annotated[
    Path | None,
    typer.Option(help="A settings file, as config/server.yaml. MIMICIT_CONFIG names one as well."),
]
ClusterOption = Annotated[
    str | None,
    typer.Option(
        help="Do the work on a Ray cluster that shares these files: host:port, ray://host:port "
        "or auto."
    ),
]
PublishedOption = Annotated[
    str | None,
    typer.Option(
        "--catalog", help="The catalog that `index --publish` put there, and no data YAML."
    ),
]
CatalogOption = Annotated[Path | None, typer.Option(help="Where catalogs are kept.")]
KeyColumnOption = Annotated[
    str | None, typer.Option(help="The column with the keys, if it is not plain which it is.")
]
ValueColumnOption = Annotated[
    str | None, typer.Option(help="The column with the pictures, if it is not plain which it is.")
]
SortOption = Annotated[
    bool, typer.Option("--sort/--no-sort", help="Write the images in the order of their keys.")
]
PartitionOption = Annotated[
    int,
    typer.Option(min=MIN_PARTITION_BYTES, help="The largest file, in bytes: under 2 GB."),
]
