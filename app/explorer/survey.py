"""The survey: every question of the check, asked once of a catalog, in the background."""

import logging
from concurrent.futures import ThreadPoolExecutor
from threading import Lock

from app.catalog.catalog import Catalog
from app.catalog.questions import Questions
from app.check.findings import Finding, find_problems
from app.errors import MimicitError
from app.progress import Progress

_log = logging.getLogger("mimicit.explorer")

_EXAMPLES = 5  # of a kind of a subject; the page of the kind has all of them


class _StoppedError(Exception):
    """Nobody will look at it any more."""


class Survey:
    """Finds what is wrong with a catalog; `start` it when somebody wants to know, and `close` it.

    `findings` grows until it `is_done`; `progress` says how far it is, and `failure` why it could
    not go on, if so.
    """

    def __init__(self, catalog: Catalog, questions: Questions) -> None:
        self.findings: list[Finding] = []
        self.is_done = False
        self.progress = Progress("starting")
        self.failure: str | None = None
        self._catalog = catalog
        self._questions = questions
        self._is_started = False
        self._is_stopped = False
        self._lock = Lock()
        self._thread = ThreadPoolExecutor(1, "survey")

    def start(self) -> None:
        """Begin, unless it has begun."""
        with self._lock:
            if not self._is_started:
                self._is_started = True
                self._thread.submit(self._run)

    def stop(self) -> None:
        """Have it end behind the question that is being asked."""
        self._is_stopped = True

    def close(self) -> None:
        """Stop it, and wait for that."""
        self.stop()
        self._thread.shutdown(cancel_futures=True)

    def _run(self) -> None:
        try:
            for finding in find_problems(self._catalog, self._questions, _EXAMPLES, self._tell):
                self.findings.append(finding)
        except _StoppedError:
            return
        except MimicitError as error:
            self.failure = str(error)
        except Exception:
            _log.exception("the survey failed")
            self.failure = "the survey failed; the service's log says how"
        self.is_done = True

    def _tell(self, progress: Progress) -> None:
        if self._is_stopped:
            raise _StoppedError
        self.progress = progress
