"""mimicit convert: images and instructions of other forms, written in the MIMIC-IT form."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from app.cli.converted import end_with, run_conversion
from app.cli.options import (
    ClusterOption,
    ConfigOption,
    KeyColumnOption,
    PartitionOption,
    SortOption,
    ValueColumnOption,
)
from app.convert.instruction import InstructionColumns
from app.convert.instructions import convert_instructions
from app.convert.options import MAX_PARTITION_BYTES, ImageOptions
from app.convert.sources import Kind
from app.mounted import convert_limits
from app.progress_lines import show_progress
from app.settings import load_settings

convert = typer.Typer(
    help="Write images or instructions of other forms in the MIMIC-IT form.", no_args_is_help=True
)


@convert.command()
def images(
    inputs: Annotated[
        list[str],
        typer.Argument(
            metavar="INPUT...",
            help="images.json, Parquet (a file, a folder, a glob), a folder of pictures, a tar, or "
            "a CSV, TSV or JSONL of keys and paths.",
        ),
    ],
    destination: Annotated[
        Path,
        typer.Argument(metavar="DST", help="A new .parquet file, or the folder for several."),
    ],
    from_: Annotated[
        Kind | None, typer.Option("--from", help="What the inputs are, if their names do not tell.")
    ] = None,
    key_column: KeyColumnOption = None,
    value_column: ValueColumnOption = None,
    path_column: Annotated[
        str | None, typer.Option(help="The column of a CSV, TSV or JSONL with the paths: path.")
    ] = None,
    sort: SortOption = False,
    max_partition_bytes: PartitionOption = MAX_PARTITION_BYTES,
    cluster: ClusterOption = None,
    config: ConfigOption = None,
) -> None:
    """Write images as MIMIC-IT Parquet. A run that was killed goes on where it was."""
    settings = load_settings(config)
    options = ImageOptions(
        convert_limits(settings),
        kind=from_,
        key_column=key_column,
        value_column=value_column,
        path_column=path_column,
        is_sorted=sort,
        max_partition_bytes=max_partition_bytes,
    )
    run_conversion(inputs, destination, options, settings, cluster)


@convert.command()
def instructions(
    inputs: Annotated[
        list[str],
        typer.Argument(
            metavar="INPUT...",
            help="CSV, TSV or JSONL with a row for each instruction, or LLaVA's JSON list of "
            "conversations.",
        ),
    ],
    destination: Annotated[Path, typer.Argument(metavar="DST.json", help="A new file.")],
    from_: Annotated[
        Kind | None, typer.Option("--from", help="What the inputs are, if their names do not tell.")
    ] = None,
    id_column: Annotated[str, typer.Option(help="The column with the id.")] = "id",
    instruction_column: Annotated[
        str, typer.Option(help="The column with the instruction.")
    ] = "instruction",
    answer_column: Annotated[str, typer.Option(help="The column with the answer.")] = "answer",
    image_column: Annotated[
        str | None,
        typer.Option(
            help="The column with the image's id, or a JSON list of them: image_ids or image."
        ),
    ] = None,
    context_column: Annotated[
        str, typer.Option(help="The column with the ids of the context.")
    ] = "rel_ins_ids",
    keep_suffix: Annotated[
        bool, typer.Option("--keep-suffix", help="Leave .jpg and the like on the image ids.")
    ] = False,
    config: ConfigOption = None,
) -> None:
    """Write instructions as a MIMIC-IT instructions.json."""
    settings = load_settings(config)
    columns = InstructionColumns(
        id_column, instruction_column, answer_column, image_column, context_column, keep_suffix
    )
    console = Console(stderr=True, soft_wrap=True)
    with show_progress(console) as show:
        converted = convert_instructions(
            inputs, destination, columns, from_, convert_limits(settings), show
        )
    size = f"{converted.instructions:,} instructions, {converted.size_bytes:,} bytes"
    console.print(f"{converted.path}: {size}", highlight=False, markup=False)
    end_with(console, converted.rejected, converted.rejected_path)
