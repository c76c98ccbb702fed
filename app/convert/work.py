"""The folder beside the output in which it is made, so that what a kill leaves can be used.

DST.converting/
  lock          one process at a time
  units/        a folder for each source: where its pictures are
  plan-…/       PlanFolder: what is to be written, for these sources and options
  scratch/      what processes at work need
"""

import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from app.catalog.lock import build_lock
from app.catalog.units import UnitStore, sync
from app.errors import ConvertError


@dataclass(frozen=True, slots=True)
class PlanFolder:
    """A plan, and what is written by it.

    plan.json, plan.arrow, plan.rejected     as `app.convert.plan` has them
    output/part.N.parquet                    partitions, each whole
    parts/N.json, parts/N.rejected           what is known of each
    """

    path: Path
    scratch: Path

    @property
    def rows(self) -> Path:
        """The rows to write, a record batch for each row group."""
        return self.path / "plan.arrow"

    @property
    def plan_rejected(self) -> Path:
        """What is not written, and why."""
        return self.path / "plan.rejected"

    @property
    def output(self) -> Path:
        """The folder of the partitions."""
        return self.path / "output"

    def part(self, number: int) -> Path:
        """The file of a partition, named as Dask names them."""
        return self.output / f"part.{number}.parquet"

    def facts_of(self, number: int) -> Path:
        """What is known of a partition that is written."""
        return self.path / "parts" / f"{number}.json"

    def rejected_of(self, number: int) -> Path:
        """What of a partition could not be converted."""
        return self.path / "parts" / f"{number}.rejected"

    def create(self) -> None:
        """Make the folders."""
        self.output.mkdir(parents=True, exist_ok=True)
        (self.path / "parts").mkdir(exist_ok=True)


class WorkFolder:
    """The folder in which `destination` is made."""

    def __init__(self, destination: Path) -> None:
        if not destination.name:
            raise ConvertError(f"{destination} is there already: name another destination")
        self.destination = destination
        self.path = destination.with_name(f"{destination.name}.converting")
        self.units = UnitStore(self.path / "units")
        self.scratch = self.path / "scratch"

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Be the one process that works in it.

        Raises ConvertError if the destination is there, and CatalogError if another process works.
        """
        self._refuse_existing()
        self.destination.parent.mkdir(parents=True, exist_ok=True)
        with build_lock(self.path, lambda _: None, 0):
            self._refuse_existing()  # the other process may have ended just now
            shutil.rmtree(self.scratch, ignore_errors=True)
            yield

    def _refuse_existing(self) -> None:
        if self.destination.exists() or self.destination.is_symlink():
            raise ConvertError(
                f"{self.destination} is there already: remove it, or name another destination"
            )

    def plan(self, name: str) -> PlanFolder:
        """The folder of the plan of that name."""
        return PlanFolder(self.path / f"plan-{name}", self.scratch)

    def remove_other_plans(self, name: str) -> int:
        """Remove what was made by other plans; how many finished partitions that were."""
        parts = 0
        for path in self.path.glob("plan-*"):
            if path.name != f"plan-{name}":
                parts += sum(1 for _ in path.glob("output/part.*.parquet"))
                shutil.rmtree(path)
        return parts

    def put_rejected(self, lists: Iterable[Path]) -> Path | None:
        """Join the lists of what was rejected beside the destination, where that is not empty."""
        path = self.destination.with_name(f"{self.destination.name}.rejected.jsonl")
        joined = self.path / "rejected.jsonl"
        with open(joined, "wb") as out:
            for one in lists:
                with open(one, "rb") as file:
                    shutil.copyfileobj(file, out)
        if not joined.stat().st_size:
            path.unlink(missing_ok=True)  # of an earlier run
            return None
        sync(joined)
        joined.replace(path)
        return path

    def publish(self, made: Path) -> None:
        """Give a file or folder that is made, and synced, its final name, and remove the rest."""
        sync(made)
        self._refuse_existing()  # somebody may have put it there meanwhile
        made.rename(self.destination)
        sync(self.destination.parent)
        self.remove()

    def remove(self) -> None:
        """Remove the folder."""
        shutil.rmtree(self.path, ignore_errors=True)
