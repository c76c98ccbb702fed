"""What is to be done with each of many items, and what does it."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Protocol, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")
Item_contra = TypeVar("Item_contra", contravariant=True)
Result_co = TypeVar("Result_co", covariant=True)

Advance = Callable[[int], None]  # takes how many bytes more are done
Watch = Callable[[int, int], None]  # takes how many items, and how many bytes, are done by now


class Job(Protocol[Item_contra, Result_co]):
    """Work on one kind of item. It is pickled to where it is done, and so are items and results."""

    def open(self) -> AbstractContextManager[Callable[[Item_contra, Advance], Result_co]]:
        """What does the work on an item, with the tools it needs, until the context ends."""


class Runner(Protocol):
    """Does a job on many items."""

    def run(self, job: Job[Item, Result], items: Sequence[Item], watch: Watch) -> Iterator[Result]:
        """The results, in the order in which they are done; what a job raises ends it all."""


ChooseRunner = Callable[[Sequence[int]], Runner]  # takes how many bytes each of the items has
