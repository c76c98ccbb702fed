"""Lines on their way to standard error, written by a thread: no event loop waits for who reads."""

import os
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from select import POLLOUT, poll
from typing import Generic, TypeVar

T = TypeVar("T")

# 3 s of requests at full speed, which take 10 MB; a reader that hangs for longer misses lines, and
# no request does.
_MAX_WAITING = 16_000
_TOGETHER_SECONDS = 0.05
_LAST_SECONDS = 2.0


class LineWriter(Generic[T]):
    """Writes lines to a descriptor in their order, some together; `close` it when done.

    `render` makes each out of what is to be written, on the thread. Hundreds in a row take 3 us
    each: one by itself, after a picture that drove all else out of the processor's caches, 20.
    """

    def __init__(self, fd: int, render: Callable[[T], bytes]) -> None:
        self._fd = fd
        self._render = render
        self._waiting: deque[T] = deque()
        self._dropped = 0
        self._wake = threading.Event()
        self._is_closed = threading.Event()
        self._thread = threading.Thread(target=self._run, name="log", daemon=True)
        self._thread.start()

    @property
    def has_room(self) -> bool:
        """Whether a line would be written now."""
        return len(self._waiting) < _MAX_WAITING

    def write(self, line: T) -> None:
        """Have a line written, which ends with a line end; dropped if too many wait already."""
        if not self.has_room:
            self._dropped += 1
            return
        self._waiting.append(line)
        if not self._wake.is_set():
            self._wake.set()

    def close(self) -> None:
        """Write what waits, unless nobody takes it."""
        self._is_closed.set()
        self._wake.set()
        self._thread.join(_LAST_SECONDS)

    def take_dropped(self) -> int:
        """How many lines were dropped since this was asked last."""
        dropped, self._dropped = self._dropped, 0
        return dropped

    def _run(self) -> None:
        while not self._is_closed.is_set():
            self._wake.wait()
            self._is_closed.wait(_TOGETHER_SECONDS)
            self._wake.clear()
            self._write_waiting()
        self._write_waiting()

    def _write_waiting(self) -> None:
        lines = [self._waiting.popleft() for _ in range(len(self._waiting))]
        data = memoryview(b"".join(map(self._render, lines)))
        writable = poll()
        writable.register(self._fd, POLLOUT)
        with suppress(OSError):  # nobody is there any more
            while data:
                try:
                    data = data[os.write(self._fd, data) :]
                except BlockingIOError:  # somebody else who has it made it one that does not wait
                    writable.poll()
