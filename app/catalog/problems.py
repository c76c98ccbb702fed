"""Problems: what was found wrong in a source, each with its kind and the id or key it is of."""

from pathlib import Path

import pyarrow as pa

SCHEMA = pa.schema([("kind", pa.string()), ("name", pa.string()), ("detail", pa.string())])
_BATCH_ROWS = 8192


class ProblemWriter:
    """Writes problems to an Arrow file as they are found, a few thousand held at a time."""

    def __init__(self, path: Path) -> None:
        self.counts: dict[str, int] = {}
        self._held: list[tuple[str, str, str]] = []
        self._file = pa.ipc.new_file(str(path), SCHEMA)

    def add(self, kind: str, name: str, detail: str) -> None:
        """Note a problem of the instruction or image called `name`."""
        self.counts[kind] = self.counts.get(kind, 0) + 1
        self._held.append((kind, name, detail))
        if len(self._held) == _BATCH_ROWS:
            self._flush()

    def __enter__(self) -> "ProblemWriter":
        return self

    def __exit__(self, *_: object) -> None:
        self._flush()
        self._file.close()

    def _flush(self) -> None:
        columns = [list(column) for column in zip(*self._held, strict=True)] or [[], [], []]
        self._file.write_batch(pa.record_batch(columns, schema=SCHEMA))
        self._held = []
