"""What could not be converted, one JSON object a line, and how many for each reason."""

from collections import Counter
from pathlib import Path

import msgspec

# The first six are the catalog's problems, with its names.
REASONS = {
    "unnamed_image": "its key is null, empty or not text",
    "long_key": "its key is longer than 1,000 bytes",
    "null_image": "its value is null",
    "empty_image": "it is empty",
    "undecodable_image": "its value is not base64",
    "large_image": "it is over max_value_bytes, or over what a partition may hold",
    "duplicate_image": "its key is there more than once, and another one is kept",
    "no_picture": "its bytes are not a picture of a known kind",
    "missing_file": "there is no file at its path, or none that can be read",
    "no_plain_file": "it is a link, a sparse file or no file",
    "foreign_name": "its name is not UTF-8",
    "invalid_row": "it is not a row of a key and a path",
    "invalid_record": "it does not make an instruction",
    "foreign_text": "it has text that is not UTF-8",
    "duplicate_instruction": "its id is there more than once, and the first one is kept",
}


class RejectWriter:
    """Writes them as they come, each with its key or id, as `name` says; `counts` are by reason."""

    def __init__(self, path: Path, name: str = "key") -> None:
        self._name = name
        self.counts: Counter[str] = Counter()
        self._file = open(path, "wb")  # noqa: SIM115

    def add(self, reason: str, source: str, key: str | None, **where: int | str) -> None:
        """Note what could not be converted, and where in its source it is."""
        self.counts[reason] += 1
        said = {"source": source, "reason": reason, "detail": REASONS[reason]}
        row = {self._name: key, **said, **where}
        self._file.write(msgspec.json.encode(row) + b"\n")

    def __enter__(self) -> "RejectWriter":
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()


def show_name(name: str) -> str:
    """A name that may not be UTF-8, as text."""
    return name.encode(errors="surrogateescape").decode(errors="backslashreplace")
