"""Looks at the data again when asked to, or from time to time, and has the workers serve what there
is then; a thread of the service's first process."""

import logging
import threading
import time
from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from app.catalog.build import clean_catalog
from app.catalog.holds import Hold
from app.catalog.manifest import Manifest
from app.errors import MimicitError
from app.orders import Orders, OrdersFolder, Outcome, Reload
from app.progress import Progress
from app.rebuild import Build, rebuild
from app.settings import Settings

# A worker looks 5 times a second and opens a catalog in 6 ms; one that starts takes seconds.
_FOLLOW_SECONDS = 60.0
_POLL_SECONDS = 0.1
# Units are left where a stream of the old catalog goes on, or another service has it open.
_CLEAN_SECONDS = 2.0
_MAX_CLEAN_SECONDS = 600.0
_MAX_MESSAGE = 4000
_CLOSE_SECONDS = 5.0  # a look at a store that hangs ends with the process

_log = logging.getLogger("mimicit.reload")


@dataclass(frozen=True, slots=True)
class Mounted:
    """What is served, as the reloader sees it.

    `look` gives what differs whenever the data YAML or a file it names does, and `seen` is what it
    gave before the catalog was built. Both are functions of modules.
    """

    folder: Path
    manifest: Manifest
    seen: object
    look: Callable[[Settings], object]
    build: Build


class Reloader(threading.Thread):
    """Posts orders for the workers; `ask` it to look, and `close` it when done."""

    def __init__(
        self,
        mounted: Mounted,
        settings: Settings,
        orders: OrdersFolder,
        list_workers: Callable[[], Collection[int]],
    ) -> None:
        super().__init__(name="reloader", daemon=True)
        self._mounted = mounted
        self._settings = settings
        self._orders = orders
        self._list_workers = list_workers
        self._woken = threading.Event()
        self._is_closed = False
        self._posting = threading.Lock()  # another thread has them kept posted
        self._posted = Orders(0, mounted.manifest)
        self._holds = [Hold(mounted.folder, mounted.manifest)]
        orders.post(self._posted)

    def ask(self) -> None:
        """Have it look at the data, once more if it is at it."""
        self._woken.set()

    def close(self) -> None:
        """End it, and what it builds."""
        self._is_closed = True
        self._woken.set()
        if self.ident is not None:
            self.join(_CLOSE_SECONDS)

    def keep_posted(self) -> None:
        """Post the orders again if something took them away, as what cleans temporary folders does:
        a worker that comes later needs them."""
        with self._posting, suppress(OSError):
            if self._orders.look() is None:
                self._orders.post(self._posted)

    def run(self) -> None:
        """Look whenever asked to, or when `watch_seconds` are over and the data are others, and
        have been the same for that long."""
        seen = last = self._mounted.seen
        clean_seconds: float | None = _CLEAN_SECONDS
        watch_seconds = self._settings.watch_seconds
        while not self._is_closed:
            waits = [one for one in (watch_seconds, clean_seconds) if one]
            is_asked = self._woken.wait(min(waits, default=None))
            self._woken.clear()
            if self._is_closed:
                return
            if is_asked or watch_seconds:
                found = self._look()
                if is_asked or (found == last != seen):
                    seen = found
                    try:
                        self._reload()
                    except OSError as error:  # orders could not be written: the disk may be full
                        _log.error("a reload could not be told of: %s", error)
                    clean_seconds = _CLEAN_SECONDS
                last = found
            if clean_seconds:
                is_clean = self._clean()
                clean_seconds = None if is_clean else min(2 * clean_seconds, _MAX_CLEAN_SECONDS)

    def _look(self) -> object:
        try:
            return self._mounted.look(self._settings)
        except Exception as error:  # whatever it is, building says it again
            return str(error)

    def _reload(self) -> None:
        number = self._posted.reload.number + 1
        before = self._posted.manifest
        began = time.time()

        def report(progress: Progress) -> None:
            self._say(before, Reload(number, "running", began, progress.doing))

        try:
            report(Progress("looking at the data"))
            manifest = rebuild(self._mounted.build, self._settings, report, lambda: self._is_closed)
            if manifest == before:
                self._end(before, number, "unchanged", f"revision {before.revision}")
                return
            self._holds.append(Hold(self._mounted.folder, manifest))
            self._say(manifest, Reload(number, "running", began, "opening the catalog"))
            self._wait_for_workers()
        except Exception as error:  # whatever it is: what is served goes on, and the thread too
            self._end(before, number, "failed", str(error)[:_MAX_MESSAGE])
            self._holds = self._holds[:1]
        else:
            self._holds = self._holds[-1:]
            self._end(manifest, number, "swapped", f"revision {manifest.revision}")

    def _wait_for_workers(self) -> None:
        number = self._posted.number
        deadline = time.monotonic() + _FOLLOW_SECONDS
        while not self._orders.are_followed(number, self._list_workers()):
            if time.monotonic() > deadline:
                raise MimicitError(
                    f"not all workers have opened the new catalog after {_FOLLOW_SECONDS:.0f} s; "
                    "what they said is in the log, and all go back to the one before"
                )
            if self._is_closed:
                raise MimicitError("the service was stopped before all workers had swapped")
            time.sleep(_POLL_SECONDS)

    def _end(self, manifest: Manifest, number: int, outcome: Outcome, message: str) -> None:
        level = logging.ERROR if outcome == "failed" else logging.INFO
        _log.log(level, "reload %d %s: %s", number, outcome, message)
        self._say(manifest, Reload(number, outcome, time.time(), message))

    def _say(self, manifest: Manifest, reload: Reload) -> None:
        with self._posting:
            self._posted = Orders(self._posted.number + 1, manifest, reload)
            self._orders.post(self._posted)

    def _clean(self) -> bool:
        """Remove what nobody uses any more; whether nothing is left to remove."""
        try:
            return not clean_catalog(self._mounted.folder)
        except OSError:  # a folder that can only be read
            return True
        except MimicitError:  # it is being built
            return False
