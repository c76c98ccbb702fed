"""How far the tasks on a cluster are, told by them to one actor, which is asked now and then."""

from contextlib import suppress
from typing import Any


class Board:
    """The bytes done of every item, as the process that gave out the tasks knows them.

    Raises RayError, when it is made, if the cluster can not start an actor.
    """

    def __init__(self) -> None:
        import ray
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        # On the head, without which there is no cluster; other machines may die.
        nodes: list[dict[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call]
        head = next(
            node["NodeID"]
            for node in nodes
            if node["Alive"] and "node:__internal_head__" in node["Resources"]
        )
        pinned = NodeAffinitySchedulingStrategy(head, soft=False)
        actor: Any = ray.remote(_Latest)
        self.actor = actor.options(num_cpus=0, scheduling_strategy=pinned).remote()
        self._asked: Any = None
        self._done_bytes: dict[int, int] = {}

    def note(self, number: int, done_bytes: int) -> None:
        """The item of that number is done."""
        self._done_bytes[number] = done_bytes

    def sum_bytes(self) -> int:
        """The bytes done by all items, as of when the actor last answered."""
        import ray
        from ray.exceptions import RayError

        if self._asked is None:
            self._asked = self.actor.take.remote()
        if ray.wait([self._asked], timeout=0)[0]:
            with suppress(RayError):  # it is only progress
                for number, done_bytes in ray.get(self._asked).items():
                    # A task that is done again begins at nothing again.
                    self.note(number, max(done_bytes, self._done_bytes.get(number, 0)))
            self._asked = None
        return sum(self._done_bytes.values())

    def close(self) -> None:
        """End the actor."""
        import ray

        ray.kill(self.actor)


class _Latest:
    """Runs as an actor: the latest report of each item since it was last asked."""

    def __init__(self) -> None:
        self._done_bytes: dict[int, int] = {}

    def report(self, number: int, done_bytes: int) -> None:
        self._done_bytes[number] = done_bytes

    def take(self) -> dict[int, int]:
        taken, self._done_bytes = self._done_bytes, {}
        return taken
