"""What processes are given, and that none outlives the one that started it."""

import multiprocessing
import os
import resource
import threading
from multiprocessing.process import BaseProcess

# More than any system's default, and far less than a kernel minds.
_MAX_OPEN_FILES = 65_536


def raise_open_files() -> None:
    """Let this process and those it starts open as many files as they may: a worker keeps some 10
    for each dataset, and common limits are 256 and 1,024."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _MAX_OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, _MAX_OPEN_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def end_with_parent() -> None:
    """End this process when its parent ends, also when that is killed and can not say so."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_end_after, args=(parent,), daemon=True).start()


def _end_after(parent: BaseProcess) -> None:
    parent.join()
    os._exit(1)
