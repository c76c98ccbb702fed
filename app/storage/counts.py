"""What is told of reading objects, for metrics."""

from typing import Protocol


class StoreCounts(Protocol):
    """Counts what becomes of reads of objects; threads call it."""

    def count_range(self, *, is_kept: bool) -> None:
        """A range was looked for among those kept on disk."""

    def count_asked(self, *, is_answered: bool, size_bytes: int) -> None:
        """A store was asked once, and answered with so many bytes of an object, or failed."""


class NoCounts:
    """Counts nothing."""

    def count_range(self, *, is_kept: bool) -> None:
        pass

    def count_asked(self, *, is_answered: bool, size_bytes: int) -> None:
        pass
