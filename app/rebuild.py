"""The catalog built again in a process of its own, which may fail, be killed or take too long."""

import multiprocessing
import os
import signal
import time
from collections.abc import Callable
from multiprocessing.connection import Connection

from app.catalog.manifest import Manifest
from app.errors import CatalogError, MimicitError
from app.processes import end_with_parent
from app.progress import Progress, Report
from app.settings import Settings

Build = Callable[[Settings, Report], Manifest]
"""Makes the catalog what the settings' data YAML calls for; a function of a module."""

_NICE = 10  # requests go first
_REPORT_SECONDS = 0.5
_POLL_SECONDS = 0.2


def rebuild(
    build: Build, settings: Settings, report: Report, is_over: Callable[[], bool]
) -> Manifest:
    """What `build` makes in a process of its own, which is killed when `is_over`.

    Raises CatalogError if it can not be made, or not within `reload_max_seconds`.
    """
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_build, args=(build, settings, sender), name="rebuild")
    process.start()
    sender.close()
    deadline = time.monotonic() + settings.reload_max_seconds
    try:
        while True:
            if is_over():
                raise CatalogError("the service was stopped while its data were indexed again")
            if time.monotonic() > deadline:
                raise CatalogError(
                    f"indexing took longer than {settings.reload_max_seconds} s (setting "
                    "reload_max_seconds)"
                )
            if not receiver.poll(_POLL_SECONDS):
                continue
            match receiver.recv():
                case Progress() as progress:
                    report(progress)
                case Manifest() as manifest:
                    return manifest
                case mistake:
                    raise CatalogError(str(mistake))
    except EOFError:
        process.join()
        raise CatalogError(
            f"the process that indexed ended with status {process.exitcode}; its log is above"
        ) from None
    finally:
        process.kill()  # its own processes end with it
        process.join()
        receiver.close()


def _build(build: Build, settings: Settings, sender: Connection) -> None:
    end_with_parent()
    for number in (signal.SIGINT, signal.SIGHUP):  # of a terminal: for the first process to take
        signal.signal(number, signal.SIG_IGN)
    os.nice(_NICE)
    last_seconds = 0.0

    def report(progress: Progress) -> None:
        nonlocal last_seconds
        if time.monotonic() - last_seconds >= _REPORT_SECONDS:
            last_seconds = time.monotonic()
            sender.send(progress)

    try:
        sender.send(build(settings, report))
    except MimicitError as error:
        sender.send(str(error))
