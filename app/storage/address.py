"""Addresses of objects: s3://bucket/key, gs://bucket/key, az://container/key, https://host/path."""

import re
from fnmatch import fnmatchcase
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

SCHEMES = ("s3", "gs", "az", "https")
_HIDDEN_SLASH = re.compile("%2f", re.IGNORECASE)
_WILDCARD = re.compile(r"[*?\[]")
# Beside parts writers leave folders of metadata, and checksums.
_SKIPPED = re.compile(r"^[._]|\.crc$")


class Address(NamedTuple):
    """Where an object is: `root` is the address of its bucket, container or host."""

    root: str
    key: str

    def __str__(self) -> str:
        return f"{self.root}/{self.key}"


def is_address(path: str) -> bool:
    """Whether it is the address of an object, and not a local path."""
    return "://" in path


def split_address(address: str) -> Address:
    """The bucket and the key; raises ValueError, saying what to write instead."""
    scheme, _, rest = address.partition("://")
    if scheme not in SCHEMES:
        raise ValueError(
            f"{address} is of no scheme that is read; write {', '.join(SCHEMES)}, or mount the file"
        )
    bucket, _, key = rest.partition("/")
    if not bucket or not key:
        raise ValueError(f"{address} names no object; write {scheme}://bucket/name")
    if scheme == "https":
        if "@" in bucket or (parts := urlsplit(address)).query or parts.fragment:
            raise ValueError(
                f"{scheme}://{bucket.rpartition('@')[2]}/… has a user, a query or a "
                "fragment, which would be in every log; write the plain address"
            )
        if _HIDDEN_SLASH.search(key):
            raise ValueError(f"{address} has a slash as %2F, which is not told from others")
        key = unquote(key)
    return Address(f"{scheme}://{bucket}", key)


def is_pattern(key: str) -> bool:
    """Whether the key has wildcards."""
    return _WILDCARD.search(key) is not None


def fixed_prefix(pattern: str) -> str:
    """What of the pattern stands before its first wildcard, up to a slash."""
    wildcard = _WILDCARD.search(pattern)
    fixed = pattern[: wildcard.start()] if wildcard else pattern
    return fixed.rpartition("/")[0]


def is_match(key: str, pattern: str) -> bool:
    """Whether the pattern matches: `*`, `?` and `[…]` inside a name, `**` for any folders."""
    return _match(key.split("/"), pattern.split("/"))


def _match(names: list[str], patterns: list[str]) -> bool:
    if not patterns or not names:
        return not names and not patterns
    if patterns[0] == "**":
        return _match(names, patterns[1:]) or _match(names[1:], patterns)
    return fnmatchcase(names[0], patterns[0]) and _match(names[1:], patterns[1:])


def is_skipped(name: str) -> bool:
    """Whether it is the name of a file that writers leave beside parts."""
    return _SKIPPED.search(name) is not None


def part_order(path: str) -> str:
    """What to sort parts by: part.2 comes before part.10."""
    return re.sub("[0-9]+", lambda number: number[0].zfill(255), path)
