"""How many descriptors this process may have, and which of them say that most are in use.

A kernel gives the lowest number that is free, so that a high one tells how many there are.
"""

import resource
import sys

# More than any system's default, and far less than a kernel minds.
_MOST = 65_536


def raise_limit() -> None:
    """Let this process and those it starts have as many descriptors as they may: a worker keeps
    some 20, and 10 for each dataset, and common limits are 256 and 1,024."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _MOST if hard == resource.RLIM_INFINITY else min(hard, _MOST)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def first_beyond(share: float) -> int:
    """The first descriptor beyond that share of those that this process may have."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return sys.maxsize if soft == resource.RLIM_INFINITY else int(soft * share)
