"""Bearer tokens by name, from a file that may change while the service runs, and from a setting.

A line is `name: token` or `name: sha256:HEX`, the SHA-256 of the token; `#` begins a comment.
"""

import hashlib
import logging
import re
import secrets
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from app.errors import MimicitError

_LINE = re.compile(r"(?P<name>[A-Za-z0-9._-]{1,64})\s*:\s*(?P<value>\S+)\Z")
_HASH = re.compile(r"sha256:([0-9a-fA-F]{64})\Z")
# 16 characters of letters and digits are 95 bits.
_TOKEN = re.compile(r"[!-~]{16,512}\Z")
_MAX_FILE_BYTES = 1 << 20
_LOOK_SECONDS = 1.0

_log = logging.getLogger("mimicit.tokens")


class TokensError(MimicitError):
    """The tokens can not be read, or not be used as they are."""

    code = "tokens"


class Holder(NamedTuple):
    """Who holds a token: its name, and the token's SHA-256."""

    name: str
    digest: bytes


class Tokens:
    """Those who may ask; without a file and a text everybody may.

    The file is looked at again once a second, when somebody asks. One that can not be used changes
    nothing, and the log says why: a slip of the pen must not stop a training run.
    """

    def __init__(
        self, file: Path | None, text: str | None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Raises TokensError, with every mistake."""
        self._file = file
        self._fixed = parse_tokens((text or "").replace(",", "\n"), "the setting tokens")
        self._clock = clock
        # Digests are looked up by a hash with a key that nobody knows: how long that takes says
        # nothing about the tokens there are.
        self._key = secrets.token_bytes(32)
        self._by_hash: dict[bytes, Holder] = {}
        self._by_name: dict[str, Holder] = {}
        self._stamp: object = None
        self._looked_at = clock()
        self._complaint = ""
        self.are_needed = file is not None or bool(self._fixed)
        if file is not None:
            self._stamp = _stamp(file)
        self._take(_read(file) if file is not None else [])

    def find(self, token: str) -> Holder | None:
        """Whose token that is."""
        self._look()
        return self._by_hash.get(self._hash(hashlib.sha256(token.encode()).digest()))

    def get(self, name: str) -> Holder | None:
        """The holder of that name, if there still is one."""
        self._look()
        return self._by_name.get(name)

    def _look(self) -> None:
        now = self._clock()
        if self._file is None or now - self._looked_at < _LOOK_SECONDS:
            return
        self._looked_at = now
        try:
            stamp = _stamp(self._file)
            if stamp == self._stamp:
                return
            self._take(_read(self._file))
            self._stamp = stamp  # not before: a file that can not be read is read again
        except TokensError as error:
            if str(error) != self._complaint:  # once, and not once a second
                _log.error("the tokens stay what they were: %s", error)
            self._complaint = str(error)
        else:
            self._complaint = ""
            _log.info("%s has changed: %d tokens", self._file, len(self._by_name))

    def _take(self, found: list[Holder]) -> None:
        holders = [*self._fixed, *found]
        counts = Counter(one.name for one in holders)
        twice = sorted(name for name, count in counts.items() if count > 1)
        if twice:
            raise TokensError(f"names that have two tokens: {', '.join(twice)}")
        self._by_name = {one.name: one for one in holders}
        self._by_hash = {self._hash(one.digest): one for one in holders}

    def _hash(self, digest: bytes) -> bytes:
        return hashlib.blake2b(digest, key=self._key, digest_size=32).digest()


def parse_tokens(text: str, where: str) -> list[Holder]:
    """The holders that the lines name; raises TokensError, which shows no token."""
    found, mistakes = [], []
    for number, line in enumerate(text.splitlines(), 1):
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        match = _LINE.match(line)
        if match is None:
            mistakes.append(f"  line {number}: write `name: token`, without blanks in either")
        elif hashed := _HASH.match(match["value"]):
            found.append(Holder(match["name"], bytes.fromhex(hashed[1])))
        elif match["value"].startswith("sha256:"):
            mistakes.append(f"  line {number}: sha256: is followed by 64 hexadecimal digits")
        elif not _TOKEN.match(match["value"]):
            mistakes.append(
                f"  line {number}: a token has 16 to 512 printable characters, such as "
                "`openssl rand -hex 16` makes"
            )
        else:
            digest = hashlib.sha256(match["value"].encode()).digest()
            found.append(Holder(match["name"], digest))
    if mistakes:
        raise TokensError("\n".join([f"{where} can not be used:", *mistakes]))
    return found


def _read(file: Path) -> list[Holder]:
    try:
        with file.open("rb") as opened:
            data = opened.read(_MAX_FILE_BYTES + 1)
        text = data.decode()
    except (OSError, UnicodeDecodeError) as error:
        raise TokensError(f"{file} can not be read ({error})") from error
    if len(data) > _MAX_FILE_BYTES:
        raise TokensError(f"{file} is larger than {_MAX_FILE_BYTES:,} bytes")
    return parse_tokens(text, str(file))


def _stamp(file: Path) -> object:
    try:
        stat = file.stat()
    except OSError as error:
        raise TokensError(f"{file} can not be read ({error.strerror or error})") from error
    return stat.st_mtime_ns, stat.st_ctime_ns, stat.st_size, stat.st_ino
