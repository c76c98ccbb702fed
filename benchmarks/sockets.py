"""The barest HTTP client: one connection, answers of known length into one buffer."""

import re
import socket
import threading
import time
from collections.abc import Callable
from typing import NamedTuple, Self

import numpy as np

_LONGEST_HEAD_BYTES = 8192
_LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)
_SECONDS = 60.0


class Connection:
    """A keep-alive connection; answers are of at most `max_bytes`."""

    def __init__(self, port: int, max_bytes: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=_SECONDS)
        # Not cleared first, as a bytearray is.
        self._buffer = memoryview(np.empty(max_bytes + _LONGEST_HEAD_BYTES, np.uint8).data)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def get(self, path: str) -> memoryview:
        """The body, until the next one is asked for; raises OSError if it is not 200 or whole."""
        self._socket.sendall(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())
        got, end = self._receive(0), -1
        while (end := bytes(self._buffer[: min(got, _LONGEST_HEAD_BYTES)]).find(b"\r\n\r\n")) < 0:
            got += self._receive(got)
        head = bytes(self._buffer[:end])
        length = _LENGTH.search(head)
        if not head.startswith(b"HTTP/1.1 200") or length is None:
            raise OSError(f"{path}: {head.decode(errors='replace')}")
        start, stop = end + 4, end + 4 + int(length[1])
        while got < stop:
            got += self._receive(got)
        return self._buffer[start:stop]

    def _receive(self, at: int) -> int:
        received = self._socket.recv_into(self._buffer[at:])
        if not received:
            raise OSError("the connection was closed in the middle of an answer")
        return received


class Pulled(NamedTuple):
    """What a client got, and when it had the last of it."""

    samples: int
    seconds: float


def pull(
    port: int, path_of: Callable[[int], str], *, in_flight: int, seconds: float, samples: int
) -> Pulled:
    """Ask for one path after the other, so many at a time, each on a thread and connection.

    Each answer counts as so many samples. Raises what a thread did.
    """
    counts = [0] * in_flight
    errors: list[BaseException] = []
    start = time.perf_counter()

    def work(worker: int) -> None:
        try:
            with Connection(port, 64 << 20) as connection:
                while time.perf_counter() - start < seconds:
                    connection.get(path_of(worker + counts[worker] * in_flight))
                    counts[worker] += 1
        except OSError as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(worker,)) for worker in range(in_flight)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
    return Pulled(sum(counts) * samples, time.perf_counter() - start)
