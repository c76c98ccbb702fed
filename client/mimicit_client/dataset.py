"""A dataset for training: the batches of an epoch, in order, for this rank and this worker."""

import os
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, TypeVar, Unpack

from mimicit_client import calls, state
from mimicit_client.ahead import Ahead, Wait
from mimicit_client.batch import Batch
from mimicit_client.calls import BatchOptions
from mimicit_client.client import Client
from mimicit_client.errors import StateError
from mimicit_client.processes import (
    HAS_TORCH,
    find_rank,
    find_worker,
    find_worker_set,
    share_numbers,
)
from mimicit_client.retries import DEFAULT_RETRIES, Retries
from mimicit_client.state import Order, Position
from mimicit_client.transport import DEFAULT_TIMEOUTS, Timeouts

if TYPE_CHECKING or HAS_TORCH:
    from torch.utils.data import IterableDataset as _Base
else:

    class _Base(Generic[TypeVar("T")]):
        """Stands in for torch's, which DataLoader asks for."""


# In place of the pass that has begun at a start, while none has: who said the start.
_LOADED, _SET = -1, -2


class MimicITDataset(_Base[Batch]):
    """Iterates over the batches of an epoch, each a Batch, from a service or its replicas.

    Each iterator keeps `prefetch` batches in flight, on as many threads. In a DataLoader
    (batch_size=None) worker w of k takes every k-th step, so that they come in order.
    """

    def __init__(
        self,
        url: str | Sequence[str],
        group: str | None = None,
        *,
        batch_size: int,
        seed: int = 0,
        epoch: int = 0,
        drop_last: bool = True,
        rank: int | None = None,
        world_size: int | None = None,
        prefetch: int = 2,
        revision: str | None = None,
        token: str | None = None,
        timeouts: Timeouts = DEFAULT_TIMEOUTS,
        retries: Retries = DEFAULT_RETRIES,
        **options: Unpack[BatchOptions],
    ) -> None:
        """Asks for the plan, and pins the catalog's revision, which is `revision` if given.

        `group` None mixes the groups, every batch of one. Rank and world size are those given, else
        torch.distributed's if it is initialized, else 0 of 1. Raises what Client.plan raises, and
        ValueError for numbers that can not be.
        """
        calls.check_options(options)
        if prefetch < 1:
            raise ValueError(f"prefetch is {prefetch}; one batch in flight is the least")
        self.rank, self.world_size = find_rank(rank, world_size)
        self.group = group
        self.batch_size = batch_size
        self._prefetch = prefetch
        self._options = options
        self._connect: dict[str, Any] = {
            "url": url if isinstance(url, str) else tuple(url),
            "token": token,
            "timeouts": timeouts,
            "retries": retries,
        }
        self._open()
        self.plan = self._client().plan(
            batch_size=batch_size,
            group=group,
            seed=seed,
            epoch=epoch,
            world_size=self.world_size,
            drop_last=drop_last,
            revision=revision,
        )
        self._order = Order(
            self.plan.revision, group, seed, batch_size * self.world_size, drop_last
        )
        # The pass that took it, epoch, step. The step is for that pass: the next one begins at 0.
        self._start = share_numbers(_LOADED, epoch, 0)
        self._passes = 0
        self._loaded: Position | None = None
        self._position: Position | None = None

    @property
    def revision(self) -> str:
        """The catalog's revision that every batch comes from."""
        return self._order.revision

    @property
    def epoch(self) -> int:
        """The epoch that the next iterator is of."""
        return int(self._start[1])

    def __len__(self) -> int:
        """The steps of an epoch: the same number for every rank."""
        return self.plan.steps

    def set_epoch(self, epoch: int) -> None:
        """Have the next iterators, also those of persistent workers, begin that epoch.

        The epoch of a state that was loaded, and that no iterator has begun at, changes nothing:
        a resumed loop may begin with it.
        """
        taker, here, step = map(int, self._start)
        if not (taker == _LOADED and epoch == here and step):
            self._begin_at(_SET, epoch, 0)
            self._position = None

    def __iter__(self) -> "EpochIterator":
        worker, workers = find_worker()
        # The same number in each worker of a pass, and in no other pass (but where torch is seeded
        # alike before each, and the workers are not persistent).
        self._passes += 1
        this = find_worker_set() + self._passes
        position, self._loaded = self._loaded, None
        taker, epoch, step = map(int, self._start)
        if position is not None and (taker not in (_SET, this) or epoch <= position.epoch):
            self._begin_at(this, position.epoch, 0)
            return EpochIterator(self, position)
        if taker in (_LOADED, _SET):
            self._start[0] = this
        elif taker != this:
            step = 0
        return EpochIterator(self, Position(epoch, step + (worker or 0), worker, workers))

    def state_dict(self, after: "Batch | Mapping[str, Any] | None" = None) -> dict[str, Any]:
        """Where to go on after what was yielded last; what was only prefetched is not counted.

        With DataLoader workers they iterate, and this dataset does not see it: give the last batch
        (or what `collate` made of it) as `after`.
        """
        if after is not None:
            epoch, step = (
                (after.epoch, after.step)
                if isinstance(after, Batch)
                else (after["epoch"], after["step"])
            )
            return state.save(self._order, Position(epoch, step + 1))
        taker, epoch, step = map(int, self._start)
        start = Position(epoch, step if taker in (_LOADED, _SET) else 0)
        return state.save(self._order, self._position or start)

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Have the next pass go on from there; raises StateError for other data or order.

        The number of workers may be another, and the world size too at the same global batch. A
        later epoch, set and not begun, stays: torchdata loads only as a pass begins.
        """
        position = state.load(state_dict, self._order)
        if position.workers is not None:
            # torchdata loads it in the worker that it is of, and _start is of all of them.
            here = find_worker()
            if here != (position.worker, position.workers):
                raise StateError(
                    f"the state is of worker {position.worker} of {position.workers}, and this is "
                    f"{here}: load the state of a whole dataset, such as state_dict(after=batch)"
                )
            self._loaded = position
            return
        if self._start[0] != _SET or self.epoch <= position.epoch:
            self._begin_at(_LOADED, position.epoch, position.step)
            self._position = None

    def _begin_at(self, taker: int, epoch: int, step: int) -> None:
        # The taker is written last and read first: who finds it finds what belongs to it.
        self._start[2], self._start[1], self._start[0] = step, epoch, taker

    def _fetch(self, epoch: int, step: int, wait: Wait) -> Batch:
        client = self._client()
        order = self._order
        flow = calls.batch(
            client,
            step,
            batch_size=self.batch_size,
            group=order.group,
            seed=order.seed,
            epoch=epoch,
            rank=self.rank,
            world_size=self.world_size,
            drop_last=order.drop_last,
            revision=order.revision,
            **self._options,
        )
        return client.run(flow, wait)

    def _open(self) -> None:
        self._clients: dict[int, Client] = {}
        weakref.finalize(self, _close_client, self._clients)
        if HAS_TORCH:
            from mimicit_client.shared_batch import share_batches

            share_batches()

    def _client(self) -> Client:
        """This process' client. A forked one leaves its parent's alone, which stays in the dict:
        to close it would take locks that threads of the parent may have held."""
        pid = os.getpid()
        client = self._clients.get(pid)
        if client is None:
            client = self._clients.setdefault(pid, Client(**self._connect))
        return client

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_clients"}

    def __setstate__(self, values: dict[str, Any]) -> None:
        self.__dict__.update(values)
        self._open()


class EpochIterator:
    """The batches of an epoch from a position on.

    Where it is, is where its dataset is, until that has another iterator, epoch or state.
    """

    def __init__(self, dataset: MimicITDataset, position: Position) -> None:
        self._dataset = dataset
        self._epoch = position.epoch
        self._position = dataset._position = position
        self._stride = position.workers or 1
        steps = range(position.step, len(dataset), self._stride)
        fetch = partial(dataset._fetch, position.epoch)
        self._ahead = Ahead(fetch, steps, dataset._prefetch, "mimicit-client")

    def __iter__(self) -> "EpochIterator":
        return self

    def __next__(self) -> Batch:
        """The next batch; raises what Client.batch raises for it, in its turn."""
        try:
            batch = next(self._ahead)
        except StopIteration:
            # Past its end an epoch is over; for one of many workers only when all are.
            if self._position.workers is None and self._position.step >= len(self._dataset):
                self._move(Position(self._epoch + 1, 0))
            raise
        self._move(replace(self._position, step=batch.step + self._stride))
        return batch

    def _move(self, position: Position) -> None:
        if self._dataset._position is self._position:
            self._dataset._position = position
        self._position = position

    def close(self) -> None:
        """End the threads that fetch ahead, as the end of the epoch and of this object do."""
        self._ahead.close()


def _close_client(clients: dict[int, Client]) -> None:
    if client := clients.pop(os.getpid(), None):
        client.close()
