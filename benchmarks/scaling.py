"""How many replicas a training cluster takes: a simulation whose parameters are measured figures.

python -m benchmarks.scaling

Ranks train step after step, each with a batch of its own, which it asks for some steps ahead.
Replicas answer in turn: each is a queue before as many processes as it has cores, and behind them a
network link that sends one answer after the other. The simulation is checked against a case whose
answer is known: no asking ahead, random times, no link, which is the machine repairman's problem.
"""

import heapq
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import count
from random import Random

from rich.console import Console

from benchmarks.report import Goal, Result, show

# docs/benchmarks.md: samples a second of one process, two batches in flight, pictures of 75 KB.
SAMPLES_PER_SECOND = 7_611.0
RESIZED_PER_SECOND = 177.0
SAMPLE_BYTES = 75_000
_AGREEMENT = 0.02
_WARM_UP = 0.2  # of the steps: everybody begins at once


@dataclass(frozen=True, slots=True)
class Cluster:
    """Ranks that train, and replicas that serve them; times in seconds."""

    ranks: int = 1000
    batch_samples: int = 32
    step_seconds: float = 0.5
    ahead: int = 2
    """Batches a rank asks for before it wants them; 0 is asking when it wants one."""
    is_synchronous: bool = True
    """Whether a step ends for all when it ends for the last, as with an all-reduce."""
    replicas: int = 4
    processes: int = 8
    samples_per_second: float = SAMPLES_PER_SECOND
    link_bytes: float = 25e9 / 8
    """What a replica sends a second; 0 is no limit."""
    is_random: bool = False
    """Whether times are exponential; else steps are equal, and batches by 10 % more or less."""

    @property
    def batch_seconds(self) -> float:
        """What a batch takes of a process."""
        return self.batch_samples / self.samples_per_second


@dataclass(slots=True)
class Outcome:
    """What came of it: shares of the time that ranks compute and that replicas work, the seconds
    that a rank waited for its batch at each step, and batches a second."""

    training: float
    serving: float
    sending: float
    waits: list[float]
    batches_per_second: float

    def wait(self, share: float) -> float:
        """The wait that this share of all steps did not exceed."""
        return sorted(self.waits)[min(len(self.waits) - 1, int(share * len(self.waits)))]


@dataclass(slots=True)
class _Replica:
    queue: deque[tuple[int, int]] = field(default_factory=deque)
    busy: int = 0
    link_free: float = 0.0
    worked: float = 0.0
    sent: float = 0.0


@dataclass(slots=True)
class _Rank:
    step: int = -1  # that it computes, or wants
    wanted: float = 0.0
    is_waiting: bool = False
    asked: int = 0
    ready: set[int] = field(default_factory=set)
    turn: int = 0


class Simulation:
    """Events in the order of their times; `run` it once."""

    def __init__(self, cluster: Cluster, steps: int, seed: int = 0) -> None:
        self._cluster = cluster
        self._steps = steps
        self._random = Random(seed)
        self._events: list[tuple[float, int, str, tuple[int, ...]]] = []
        self._order = count()
        self._replicas = [_Replica() for _ in range(cluster.replicas)]
        self._ranks = [
            _Rank(turn=self._random.randrange(cluster.replicas)) for _ in range(cluster.ranks)
        ]
        self._first = int(steps * _WARM_UP)
        self._began: float | None = None
        self._is_over = False
        self._computed = 0.0
        self._waits: list[float] = []
        self._at_barrier = 0

    def run(self) -> Outcome:
        """What happens until the first rank has done its steps."""
        for rank in range(len(self._ranks)):
            self._want(0.0, rank)
        now = 0.0
        while not self._is_over:
            now, _, what, about = heapq.heappop(self._events)
            getattr(self, what)(now, *about)
        seconds = now - (self._began or 0.0)
        cluster = self._cluster
        done = len(self._waits)
        return Outcome(
            training=self._computed / (seconds * cluster.ranks),
            serving=sum(one.worked for one in self._replicas)
            / (seconds * cluster.replicas * cluster.processes),
            sending=sum(one.sent for one in self._replicas) / (seconds * cluster.replicas),
            waits=self._waits,
            batches_per_second=done / seconds,
        )

    def _at(self, time: float, what: str, *about: int) -> None:
        heapq.heappush(self._events, (time, next(self._order), what, about))

    def _draw(self, mean: float, spread: float = 0.0) -> float:
        if self._cluster.is_random:
            return self._random.expovariate(1 / mean)
        return mean * self._random.uniform(1 - spread, 1 + spread)

    def _want(self, now: float, number: int) -> None:
        """The rank's next step begins, if its batch is there."""
        rank = self._ranks[number]
        rank.step += 1
        if rank.step == self._steps:
            self._is_over = True
            return
        if rank.step == self._first and self._began is None:
            self._forget(now)
        rank.wanted = now
        self._ask_up_to(now, number, rank.step)
        if rank.step in rank.ready:
            self._compute(now, number)
        else:
            rank.is_waiting = True

    def _forget(self, now: float) -> None:
        self._began = now
        for replica in self._replicas:
            replica.worked = replica.sent = 0.0

    def _ask_up_to(self, now: float, number: int, step: int) -> None:
        rank = self._ranks[number]
        while rank.asked <= step:
            at = rank.turn % len(self._replicas)
            rank.turn += 1
            self._replicas[at].queue.append((number, rank.asked))
            rank.asked += 1
            self._serve(now, at)

    def _serve(self, now: float, at: int) -> None:
        replica = self._replicas[at]
        while replica.queue and replica.busy < self._cluster.processes:
            number, step = replica.queue.popleft()
            seconds = self._draw(self._cluster.batch_seconds, 0.1)
            replica.busy += 1
            replica.worked += seconds
            self._at(now + seconds, "_made", at, number, step)

    def _made(self, now: float, at: int, number: int, step: int) -> None:
        replica = self._replicas[at]
        replica.busy -= 1
        sent = now
        if self._cluster.link_bytes:
            seconds = self._cluster.batch_samples * SAMPLE_BYTES / self._cluster.link_bytes
            sent = replica.link_free = max(now, replica.link_free) + seconds
            replica.sent += seconds
        self._at(sent, "_arrived", number, step)
        self._serve(now, at)

    def _arrived(self, now: float, number: int, step: int) -> None:
        rank = self._ranks[number]
        rank.ready.add(step)
        if rank.is_waiting and rank.step == step:
            rank.is_waiting = False
            self._compute(now, number)

    def _compute(self, now: float, number: int) -> None:
        rank = self._ranks[number]
        rank.ready.remove(rank.step)
        seconds = self._draw(self._cluster.step_seconds)
        if self._began is not None:
            self._waits.append(now - rank.wanted)
            self._computed += seconds
        self._ask_up_to(now, number, rank.step + self._cluster.ahead)
        self._at(now + seconds, "_computed_step", number)

    def _computed_step(self, now: float, number: int) -> None:
        if not self._cluster.is_synchronous:
            self._want(now, number)
            return
        self._at_barrier += 1
        if self._at_barrier == len(self._ranks):
            self._at_barrier = 0
            for other in range(len(self._ranks)):
                self._want(now, other)


def repairman(ranks: int, processes: int, step_seconds: float, batch_seconds: float) -> float:
    """Batches a second of ranks that compute and wait in turn, both for exponential times, before
    one queue: the machine repairman's problem, whose states are how many wait or are served."""
    weights = [1.0]
    for waiting in range(ranks):
        rate_in = (ranks - waiting) / step_seconds
        rate_out = min(waiting + 1, processes) / batch_seconds
        weights.append(weights[-1] * rate_in / rate_out)
        if weights[-1] > 1e200:  # only their ratios count
            weights = [weight / 1e200 for weight in weights]
    served = sum(min(waiting, processes) * weight for waiting, weight in enumerate(weights))
    return served / sum(weights) / batch_seconds


def check(seed: int = 0) -> Iterator[tuple[str, float, float]]:
    """Known cases: what, batches a second as they must be, and as simulated."""
    for ranks, processes in ((5, 1), (40, 4), (400, 4)):
        cluster = Cluster(
            ranks=ranks,
            ahead=0,
            is_synchronous=False,
            replicas=1,
            processes=processes,
            samples_per_second=32 / 0.05,
            link_bytes=0,
            is_random=True,
        )
        expected = repairman(ranks, processes, cluster.step_seconds, cluster.batch_seconds)
        found = Simulation(cluster, 200_000 // ranks, seed).run().batches_per_second
        yield f"{ranks} ranks, {processes} processes", expected, found


def simulate(steps: int) -> Result:
    """The table of docs/scaling.md."""
    result = Result(
        "Replicas for a training cluster",
        "1,000 ranks, batches of 32 for steps of half a second: 64,000 samples a second, 4.8 GB/s. "
        "A replica has 8 processes, each as measured, and a link of 25 Gb/s.",
        (
            *("ranks", "pictures", "ahead", "replicas"),
            *("training", "wait p50 ms", "p99 ms", "processes busy", "links busy"),
        ),
    )
    for expected in check():
        what, known, found = expected
        goal = f"simulated, {what}: within {_AGREEMENT:.0%} of the known {known:.2f} batches/s"
        result.goals.append(Goal(goal, f"{found:.2f}", abs(found / known - 1) < _AGREEMENT))
    base = Cluster()
    resized = replace(base, samples_per_second=RESIZED_PER_SECOND, processes=64, link_bytes=0)
    cases = [replace(base, replicas=replicas) for replicas in (1, 2, 3, 4)]
    cases += [replace(base, replicas=2, ahead=ahead) for ahead in (0, 1, 4)]
    cases += [replace(base, replicas=3, ahead=0), replace(base, ranks=100, replicas=1)]
    cases += [replace(resized, replicas=replicas) for replicas in (4, 6, 8)]
    for cluster in cases:
        found_there = Simulation(cluster, steps).run()
        is_resized = cluster.samples_per_second == RESIZED_PER_SECOND
        result.rows.append(
            (
                f"{cluster.ranks:,}",
                "resized, 64 cores" if is_resized else "as stored",
                str(cluster.ahead),
                str(cluster.replicas),
                f"{found_there.training:.1%}",
                f"{found_there.wait(0.5) * 1e3:.0f}",
                f"{found_there.wait(0.99) * 1e3:.0f}",
                f"{found_there.serving:.0%}",
                f"{found_there.sending:.0%}",
            )
        )
    return result


if __name__ == "__main__":
    show(Console(width=130), simulate(60))
