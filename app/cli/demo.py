"""mimicit demo: a data set to try things with."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from app.demo import write_demo
from app.errors import MimicitError


def demo(
    folder: Annotated[Path, typer.Argument(help="The folder to make; it must not be there yet.")],
    images: Annotated[int, typer.Option(min=1, help="How many pictures to draw.")] = 120,
    seed: Annotated[int, typer.Option(help="Another seed draws other pictures.")] = 0,
) -> None:
    """Make a demo data set: pictures drawn here, and true questions and answers about them."""
    console = Console(stderr=True, soft_wrap=True)
    try:
        path = write_demo(folder, images=images, seed=seed)
    except OSError as error:
        raise MimicitError(str(error)) from error
    console.print(f"{path} is written; next: mimicit serve {path}", highlight=False)
