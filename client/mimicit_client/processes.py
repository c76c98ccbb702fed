"""What torch knows of this process: its rank, its DataLoader worker, and memory they share."""

from array import array
from typing import Any

try:
    import torch
except ImportError:
    HAS_TORCH = False
else:
    HAS_TORCH = True


def find_rank(rank: int | None, world_size: int | None) -> tuple[int, int]:
    """Those given, else torch.distributed's if it is initialized, else 0 of 1.

    Raises ValueError for only one of them, and for a rank that there is not.
    """
    if (rank is None) != (world_size is None):
        raise ValueError("rank and world_size go together: give both or none")
    if rank is None or world_size is None:
        rank, world_size = 0, 1
        if HAS_TORCH and torch.distributed.is_available() and torch.distributed.is_initialized():
            rank, world_size = torch.distributed.get_rank(), torch.distributed.get_world_size()
    if not 0 <= rank < world_size:
        raise ValueError(f"rank {rank} of world size {world_size}: it is 0 to world size - 1")
    return rank, world_size


def find_worker() -> tuple[int | None, int | None]:
    """This process' number among DataLoader's workers, and how many those are; or None twice."""
    info = torch.utils.data.get_worker_info() if HAS_TORCH else None
    return (info.id, info.num_workers) if info else (None, None)


def find_worker_set() -> int:
    """The number that torch drew for the workers of this loader's iterator; 0 in none of them."""
    info = torch.utils.data.get_worker_info() if HAS_TORCH else None
    return info.seed - info.id if info else 0


def share_numbers(*numbers: int) -> Any:
    """A mutable sequence of those, whose changes persistent workers see."""
    if not HAS_TORCH:
        return array("q", numbers)
    shared: Any = torch.tensor(numbers, dtype=torch.int64)
    return shared.share_memory_()
