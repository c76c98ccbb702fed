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
from mimicit_client.processes import HAS_TORCH, find_rank, find_worker, share_numbers
from mimicit_client.retries import DEFAULT_RETRIES, Retries
from mimicit_client.state import Order, Position
from mimicit_client.transport import DEFAULT_TIMEOUTS, Timeouts

if TYPE_CHECKING or HAS_TORCH:
    from torch.utils.data import IterableDataset as _Base
else:

    class _Base(Generic[TypeVar("T")]):
        """Stands in for torch's, which DataLoader asks for."""


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
        self._start = share_numbers(epoch, 0)
        self._loaded: Position | None = None
        self._position: Position | None = None

    @property
    def revision(self) -> str:
        """The catalog's revision that every batch comes from."""
        return self._order.revision

    @property
    def epoch(self) -> int:
        """The epoch that the next iterator is of."""
        return int(self._start[0])

    def __len__(self) -> int:
        """The steps of an epoch: the same number for every rank."""
        return self.plan.steps

    def set_epoch(self, epoch: int) -> None:
        """Have the next iterators, also those of persistent workers, begin that epoch.

        The epoch that it is at already changes nothing: a resumed loop may begin with it.
        """
        if epoch != self.epoch:
            self._start[0], self._start[1] = epoch, 0
            self._position = None

    def __iter__(self) -> "EpochIterator":
        worker, workers = find_worker()
        position, self._loaded = self._loaded, None
        if position is None:
            epoch, step = map(int, self._start)
            position = Position(epoch, step + (worker or 0), worker, workers)
        return EpochIterator(self, position)

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
        return state.save(self._order, self._position or Position(*map(int, self._start)))

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Have the next iterators go on from there; raises StateError for other data or order.

        The number of workers may be another, and the world size too at the same global batch.
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
        self._start[0], self._start[1] = position.epoch, position.step
        self._position = None

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
    """The batches of an epoch from a position on."""

    def __init__(self, dataset: MimicITDataset, position: Position) -> None:
        self._dataset = dataset
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
                self._dataset._position = Position(self._position.epoch + 1, 0)
            raise
        self._position = replace(self._position, step=batch.step + self._stride)
        self._dataset._position = self._position
        return batch

    def close(self) -> None:
        """End the threads that fetch ahead, as the end of the epoch and of this object do."""
        self._ahead.close()


def _close_client(clients: dict[int, Client]) -> None:
    if client := clients.pop(os.getpid(), None):
        client.close()
