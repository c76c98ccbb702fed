"""What a worker answers with at the moment, and how that becomes another catalog.

A request keeps the service that it began with. What nobody refers to any more goes by that: the old
catalog is unmapped when the last request of it is over, and never under one.
"""

import asyncio
import gc
import logging
from weakref import ref

from app.catalog.catalog import Catalog
from app.catalog.manifest import Manifest
from app.orders import Orders, OrdersSource, Reload
from app.service import Service

_LOOK_SECONDS = 0.2  # a stat of 2 µs each time
# A catalog that was let go may hang in a cycle of an error and its traceback.
_COLLECT_LOOKS = 25

_log = logging.getLogger("mimicit.reload")


class Live:
    """The service of the catalog that is served now; `reload` is how it came to be."""

    def __init__(self, service: Service, manifest: Manifest, orders: OrdersSource | None) -> None:
        self.service = service
        self.reload = Reload()
        self._manifest = manifest
        self._source = orders
        self._seen: tuple[int, int] | None = None
        self._said = ""
        self._left: list[ref[Catalog]] = []

    async def follow(self) -> None:
        """Follow the orders until cancelled; the first of them at once."""
        if self._source is None:
            return
        looks = 0
        while True:
            await self._look(self._source)
            self._left = [left for left in self._left if left() is not None]
            looks += 1
            if self._left and not looks % _COLLECT_LOOKS:
                gc.collect()
            await asyncio.sleep(_LOOK_SECONDS)

    def close(self) -> None:
        """Finish what is in flight and unmap the catalog."""
        self.service.close()

    async def _look(self, source: OrdersSource) -> None:
        seen = self._seen
        try:
            seen = source.look()
            if seen is None or seen == self._seen:
                return
            orders = source.read()
            await self._do(orders)
            source.follow(orders.number)
        except Exception as error:  # whatever it is: tried again at the next look
            if str(error) != self._said:
                _log.error("the catalog before is served still: %s", error)
                self._said = str(error)
        else:
            self._seen, self._said = seen, ""

    async def _do(self, orders: Orders) -> None:
        if orders.manifest != self._manifest:
            before = self.service
            self.service = await asyncio.to_thread(before.reopen, orders.manifest)
            self._manifest = orders.manifest
            self._left.append(ref(before.catalog))
        self.reload = orders.reload
