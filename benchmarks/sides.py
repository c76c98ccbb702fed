"""Two or more sides of a comparison: they take turns, and each turn is counted in full."""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.processes import cpu_seconds, disk_bytes, own_disk_bytes, warm
from benchmarks.servers import Server
from benchmarks.sockets import Pulled


@dataclass(frozen=True, slots=True)
class Turn:
    """One round of one side; CPU seconds are of the server and of this process, its client."""

    samples: int
    seconds: float
    server_seconds: float
    client_seconds: float
    disk_bytes: int

    @property
    def rate(self) -> float:
        """Samples a second."""
        return self.samples / self.seconds


@dataclass(slots=True)
class Side:
    """Something that gives samples: `pull` takes them for so many seconds.

    `files` are what it reads. Without `is_client_here` it is another process that pulls.
    """

    name: str
    files: Path
    pull: Callable[[float], Pulled]
    server: Server | None = None
    is_client_here: bool = True
    turns: list[Turn] = field(default_factory=list)

    def take_turn(self, seconds: float) -> None:
        """Pull for so long, with the files in the page cache and the first answers not counted."""
        warm(self.files)
        self.pull(seconds / 10)
        disk = self._disk_bytes()
        server, client = self._server_seconds(), time.process_time()
        pulled = self.pull(seconds)
        self.turns.append(
            Turn(
                pulled.samples,
                pulled.seconds,
                self._server_seconds() - server,
                time.process_time() - client,
                self._disk_bytes() - disk,
            )
        )

    def median_rate(self) -> float:
        """Samples a second, the median of the rounds."""
        return statistics.median(turn.rate for turn in self.turns)

    def ratios(self, other: "Side") -> list[float]:
        """How many times the other's samples a second, round by round."""
        pairs = zip(self.turns, other.turns, strict=True)
        return [ours.rate / theirs.rate for ours, theirs in pairs]

    def median_ratio(self, other: "Side") -> float:
        """The median of `ratios`."""
        return statistics.median(self.ratios(other))

    def cpu_per_thousand(self) -> tuple[float | None, float | None]:
        """CPU seconds per 1,000 samples, of the server and of the client; None where none is."""
        samples = sum(turn.samples for turn in self.turns) / 1000
        server = sum(turn.server_seconds for turn in self.turns) / samples
        client = sum(turn.client_seconds for turn in self.turns) / samples
        return server if self.server else None, client if self.is_client_here else None

    def _server_seconds(self) -> float:
        return cpu_seconds(self.server.process) if self.server else 0.0

    def _disk_bytes(self) -> int:
        return disk_bytes(self.server.process) if self.server else own_disk_bytes()
