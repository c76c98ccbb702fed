"""A page's decoded bytes as a stream, so that a page of any size is read in windows."""

from collections.abc import Iterator

from app.errors import DamagedFileError, UnsupportedError


class Body:
    """The decoded bytes of a page, taken from the front.

    `position` is the offset of the next byte in the page and `left` how many are still to come.
    Holds one window of `windows`, or as many as one taken value needs.
    """

    __slots__ = ("_at", "_window", "_windows", "left", "position")

    def __init__(self, windows: Iterator[memoryview], length: int) -> None:
        self._windows = windows
        self._window = memoryview(b"")
        self._at = 0
        self.position = 0
        self.left = length

    def take(self, count: int) -> memoryview:
        """The next `count` bytes; raises DamagedFileError if there are not so many."""
        if count > self.left:
            raise DamagedFileError("a page ends in the middle of a value")
        end = self._at + count
        if end <= len(self._window):
            taken = self._window[self._at : end]
            self._at = end
        else:
            taken = self._join(count)
        self.position += count
        self.left -= count
        return taken

    def _join(self, count: int) -> memoryview:
        parts = [self._window[self._at :]]
        missing = count - len(parts[0])
        while missing > 0:
            self._next_window()
            parts.append(self._window[:missing])
            self._at = len(parts[-1])
            missing -= self._at
        return memoryview(b"".join(parts))

    def skip(self, count: int) -> None:
        """Pass over `count` bytes without holding them."""
        if count > self.left:
            raise DamagedFileError("a page ends in the middle of a value")
        self.position += count
        self.left -= count
        count -= len(self._window) - self._at
        while count > 0:
            self._next_window()
            count -= len(self._window)
        self._at = len(self._window) + count

    def finish(self) -> None:
        """Raise UnsupportedError if bytes are left; what comes after the last one is checked too.

        No known writer leaves any, and DuckDB reads a page that has some.
        """
        if self.left:
            raise UnsupportedError("a page has bytes after its last value")
        for _ in self._windows:
            raise DamagedFileError("a page is longer than its header says")

    def _next_window(self) -> None:
        try:
            self._window = next(self._windows)
        except StopIteration:
            raise DamagedFileError("a page ends before the length its header gives") from None
        self._at = 0
