"""Arguments and options that commands share."""

from pathlib import Path
from typing import Annotated

import typer

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
CatalogOption = Annotated[Path | None, typer.Option(help="Where catalogs are kept.")]
