"""mimicit reload: have the services that run look at their data again."""

import os
import signal
import socket
import time
from pathlib import Path

from rich.console import Console

from app.cli.options import CatalogOption, ConfigOption, DataArgument, PublishedOption
from app.errors import MimicitError
from app.mounted import mounted_folder
from app.orders import Orders, OrdersFolder, Reload
from app.running import Running, list_running
from app.settings import load_settings

_POLL_SECONDS = 0.1
# A worker looks 5 times a second; one that hangs is replaced after 20 s, and the new one has it.
_TELL_SECONDS = 30.0


class ReloadError(MimicitError):
    """A service goes on with the catalog it had."""

    code = "reload"


def reload(
    data: DataArgument = None,
    catalog_dir: CatalogOption = None,
    catalog: PublishedOption = None,
    config: ConfigOption = None,
) -> None:
    """Have the services of this data on this machine take up what has changed."""
    settings = load_settings(config, data_yaml=data, catalog=catalog, catalog_dir=catalog_dir)
    console = Console(stderr=True, soft_wrap=True)
    folder = mounted_folder(settings)
    found = list_running(folder)
    here = [service for service in found if service.host == socket.gethostname()]
    for service in found:
        if service not in here:
            console.print(f"left alone: {service.host} runs one; reload it there", highlight=False)
    if not here:
        raise ReloadError(
            f"no service of {settings.catalog or settings.data_yaml} runs here with its catalog in "
            f"{folder}; one whose catalog folder can only be read takes SIGHUP"
        )
    numbers = [_read(service).reload.number for service in here]
    for service in here:
        try:
            os.kill(service.pid, signal.SIGHUP)
        except ProcessLookupError:
            continue  # which is seen below
        except PermissionError as error:
            raise ReloadError(
                f"process {service.pid} is of another user; reload it as that one"
            ) from error
    mistakes = []
    for service, number in zip(here, numbers, strict=True):
        done = _wait(folder, service, number)
        console.print(f"process {service.pid}: {done.outcome}", highlight=False, markup=False)
        if done.outcome == "failed":
            mistakes.append(done.message)
        else:
            console.print(f"  {done.message}", highlight=False, markup=False)
    if mistakes:
        raise ReloadError("\n".join(["the catalog before is served still:", *mistakes]))


def _wait(folder: Path, service: Running, number: int) -> Reload:
    """What came of the reload after that number, once all workers tell it at /readyz."""
    while True:
        orders = _read(service)
        if orders.reload.number > number and orders.reload.outcome != "running":
            break
        if service not in list_running(folder):
            raise ReloadError(f"process {service.pid} ended")
        time.sleep(_POLL_SECONDS)
    told = OrdersFolder(Path(service.orders))
    deadline = time.monotonic() + _TELL_SECONDS
    while time.monotonic() < deadline:
        if told.are_followed(orders.number, told.list_followers()):
            break
        time.sleep(_POLL_SECONDS)
    return orders.reload


def _read(service: Running) -> Orders:
    try:
        return OrdersFolder(Path(service.orders)).read()
    except FileNotFoundError as error:
        raise ReloadError(f"process {service.pid} ended") from error
