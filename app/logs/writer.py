"""Lines on their way to standard error, written by a thread: no event loop waits for who reads."""

import os
import threading
from contextlib import suppress
from select import POLLOUT, poll

# 4 s of requests at full speed; a reader that hangs for longer misses lines, and no request does.
_MAX_WAITING_BYTES = 8 << 20
_TOGETHER_SECONDS = 0.05
_LAST_SECONDS = 2.0


class LineWriter:
    """Writes lines to a descriptor in their order, some together; `close` it when done."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._lines: list[bytes] = []
        self._waiting_bytes = 0
        self._dropped = 0
        self._wake = threading.Event()
        self._is_closed = threading.Event()
        self._thread = threading.Thread(target=self._run, name="log", daemon=True)
        self._thread.start()

    @property
    def has_room(self) -> bool:
        """Whether a line would be written now."""
        return self._waiting_bytes <= _MAX_WAITING_BYTES

    def write(self, line: bytes) -> None:
        """Have a line written, which ends with a line end; dropped if too much waits already."""
        if not self.has_room:
            self._dropped += 1
            return
        self._waiting_bytes += len(line)
        self._lines.append(line)
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
        lines, self._lines = self._lines, []
        data = memoryview(b"".join(lines))
        writable = poll()
        writable.register(self._fd, POLLOUT)
        with suppress(OSError):  # nobody is there any more
            while data:
                try:
                    data = data[os.write(self._fd, data) :]
                except BlockingIOError:  # somebody else who has it made it one that does not wait
                    writable.poll()
        self._waiting_bytes = sum(map(len, self._lines))
