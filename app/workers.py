"""Keeps the workers running: the service's first process starts those again that die or hang."""

import logging
import socket
import time

import uvicorn
from uvicorn.config import STARTUP_FAILURE
from uvicorn.supervisors import Multiprocess
from uvicorn.supervisors.multiprocess import Process

from app.orders import OrdersFolder
from app.reloader import Mounted, Reloader
from app.settings import Settings

# A worker that does not answer for so long hangs, or is stopped, and is replaced. It has to import
# and open everything first: 1 s here, 6 s seen in a container on a busy machine.
_ANSWER_SECONDS = 20.0
# One that ended before it served is started again no sooner after its start, which takes 1 s of a
# core: what is in its way may stay.
_START_AGAIN_SECONDS = 5.0
# After its answers are sent or cut off a worker closes what it has open: 0.1 s.
_END_SECONDS = 5.0

_log = logging.getLogger("mimicit.workers")


class Worker(Process):
    """A worker's process, asked whether it is alive without waiting for its answer."""

    def __init__(self, config: uvicorn.Config, sockets: list[socket.socket]) -> None:
        super().__init__(config, sockets)
        self.has_served = False
        self.began = time.monotonic()
        self._asked: float | None = None  # when, if it has not answered

    def is_running(self) -> bool:
        """Whether it has not ended, and answers."""
        if self.exitcode is not None:
            return False
        now = time.monotonic()
        if self._asked is not None and self.parent_conn.poll():
            self.has_served = self.parent_conn.recv()
            self._asked = None
        if self._asked is None:
            self.parent_conn.send(b"ping")
            self._asked = now
        return now - self._asked < _ANSWER_SECONDS


class Workers(Multiprocess):
    """The workers of a service, over one socket; SIGHUP has the data looked at again.

    uvicorn's own are asked in turn, so that one that hangs, or dies meanwhile, keeps the next and
    every signal for as long as it may take; all of them end if one can not start again; and one
    that is stopped never ends.
    """

    processes: list[Worker]  # type: ignore[assignment]

    def __init__(
        self,
        config: uvicorn.Config,
        listening: socket.socket,
        mounted: Mounted,
        settings: Settings,
        orders: OrdersFolder,
    ) -> None:
        super().__init__(config, [listening])
        self.could_not_start = False
        self.reloader = Reloader(mounted, settings, orders, self._list_pids)

    def init_processes(self) -> None:
        """Start all."""
        self.processes += [self._start() for _ in range(self.processes_num)]

    def terminate_all(self) -> None:
        """Stop the workers, and refuse who connects from now on: as soon as they have, too."""
        for one in self.sockets:
            one.close()
        super().terminate_all()

    def join_all(self) -> None:
        """Wait until all have ended, and kill those that take longer than their answers may."""
        seconds = (self.config.timeout_graceful_shutdown or 0) + _END_SECONDS
        end = time.monotonic() + seconds
        for worker in self.processes:
            worker.process.join(max(0.0, end - time.monotonic()))
            if worker.exitcode is None:
                _log.error("worker %s hangs after %.0f s, and is killed", worker.pid, seconds)
                worker.kill()
                worker.process.join()

    def keep_subprocess_alive(self) -> None:
        """Start workers again that have ended, with the orders that they need; twice a second.

        All end if one can not start while none serves: another would not start either.
        """
        if self.should_exit.is_set():
            return
        self.reloader.keep_posted()
        for number, worker in enumerate(self.processes):
            if worker.is_running():
                continue
            if worker.exitcode is None:
                worker.kill()
                worker.join()
            if worker.exitcode == STARTUP_FAILURE and not any(map(_serves, self.processes)):
                self.could_not_start = True
                self.should_exit.set()
                return
            if worker.has_served or time.monotonic() - worker.began >= _START_AGAIN_SECONDS:
                _log.error(
                    "worker %s ended (%s), and is started again", worker.pid, worker.exitcode
                )
                self.processes[number] = self._start()

    def handle_hup(self) -> None:
        """Have the data looked at."""
        self.reloader.ask()

    def handle_ttin(self) -> None:
        """Start one more."""
        self.processes_num += 1
        self.processes.append(self._start())

    def _start(self) -> Worker:
        worker = Worker(self.config, self.sockets)
        worker.start()
        return worker

    def _list_pids(self) -> list[int]:
        return [one.pid for one in self.processes if one.pid is not None and one.exitcode is None]


def _serves(worker: Worker) -> bool:
    return worker.has_served and worker.exitcode is None
