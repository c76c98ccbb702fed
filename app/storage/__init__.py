"""Byte ranges of the user's files, local or in an object store, as long as they are unchanged."""

from app.storage.address import is_address
from app.storage.limits import ObjectLimits
from app.storage.local import LocalStorage, check_still, read_exactly, stamp_file
from app.storage.objects import Objects
from app.storage.stamp import FileStamp, Read, Storage, WouldBlockError, changed_while_indexed

__all__ = [
    "FileStamp",
    "LocalStorage",
    "ObjectLimits",
    "Objects",
    "Read",
    "Storage",
    "WouldBlockError",
    "changed_while_indexed",
    "check_still",
    "is_address",
    "read_exactly",
    "stamp_file",
]
