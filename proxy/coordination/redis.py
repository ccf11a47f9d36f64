"""Coordination between replicas over Redis: single, Sentinel or Cluster.

Redis holds only what can be forgotten, and may forget it at any moment. Nothing
here raises and nothing waits long: without Redis (`redis_link.py` decides that)
claims hold inside this process, values are those this replica itself has said,
and uses of blobs wait to be told.

| Key | Type | What |
|---|---|---|
| `<prefix>:lease:<name>` | string, `PX` 10 s | `{"owner": url, "token": …}` |
| `<prefix>:value:<key>` | string, `PX` | a shared value |
| `<prefix>:used:<group>` | sorted set | digest -> seconds since the epoch |
| `<prefix>:probe` | string, `PX` 1 s | whether Redis works |
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Self

import structlog

from proxy.coordination.redis_client import RedisConfig, new_client
from proxy.coordination.redis_leases import Leases
from proxy.coordination.redis_link import Link, Timings
from proxy.coordination.redis_uses import Uses
from proxy.coordination.redis_values import Values
from proxy.ports import BlobKey, Clock, Held, Lease, Observe

__all__ = ["RedisConfig", "RedisCoordination", "Timings"]

log = structlog.get_logger("entrepot")


class RedisCoordination:
    """`ports.Coordination` over Redis. `async with`, or `start` and `aclose`.

    `advertise_url` is where this replica's peer listener is reached; empty if it
    has none. `clock` dates uses of blobs and nothing else. Before `start` and
    after `aclose` it works as without Redis. Raises `ValueError` for a
    configuration that can't be; a Redis that can't be reached is none of those.
    """

    def __init__(
        self,
        config: RedisConfig,
        *,
        advertise_url: str,
        observe: Observe,
        clock: Clock = time.time,
        monotonic: Callable[[], float] = time.monotonic,
        timings: Timings | None = None,
    ) -> None:
        timings = timings or Timings()
        prefix = config.prefix
        self._link = Link(
            new_client(config),
            probe_key=f"{prefix}:probe",
            observe=observe,
            timings=timings,
            monotonic=monotonic,
        )
        self._leases = Leases(
            self._link,
            prefix=prefix,
            advertise_url=advertise_url,
            observe=observe,
            timings=timings,
            monotonic=monotonic,
        )
        self._values = Values(self._link, prefix=prefix, monotonic=monotonic)
        self._uses = Uses(
            self._link, prefix=prefix, flush_s=timings.flush_s, clock=clock, monotonic=monotonic
        )
        self._loops: list[asyncio.Task[None]] = []

    @property
    def up(self) -> bool:
        """Whether Redis is used at this moment."""
        return self._link.up

    async def start(self) -> None:
        """Try to reach Redis, for two seconds at most, and start renewing."""
        await self._link.start()
        self._loops = [
            asyncio.create_task(self._leases.renew_forever()),
            asyncio.create_task(self._uses.flush_forever()),
        ]

    async def __aenter__(self) -> Self:
        try:
            await self.start()
        except BaseException:
            await self.aclose()
            raise
        return self

    async def __aexit__(self, *_exc: object) -> None:
        await self.aclose()

    @asynccontextmanager
    async def try_hold(
        self, name: str, *, instead_of: Held | None = None
    ) -> AsyncIterator[Lease | Held]:
        """See `ports.Coordination`. A claim of this same process has no owner to be asked."""
        claim = await self._leases.hold(name, instead_of)
        if isinstance(claim, Held):
            yield claim
            return
        try:
            yield claim
        finally:
            await self._leases.release(claim)

    async def get(self, key: str) -> bytes | None:
        """See `ports.Coordination`."""
        return await self._values.get(key)

    async def put(self, key: str, value: bytes, *, ttl_s: float) -> None:
        """See `ports.Coordination`."""
        await self._values.put(key, value, ttl_s=ttl_s)

    async def delete(self, key: str) -> None:
        """See `ports.Coordination`."""
        await self._values.delete(key)

    def touch(self, key: BlobKey) -> None:
        """See `ports.Coordination`."""
        self._uses.touch(key)

    async def last_used(self, keys: Sequence[BlobKey]) -> list[float | None]:
        """See `ports.Coordination`."""
        return await self._uses.last_used(keys)

    async def aclose(self) -> None:
        """Tell Redis what it should still know, then close. Idempotent."""
        loops, self._loops = self._loops, []
        for task in loops:
            task.cancel()
        if loops:
            await asyncio.wait(loops)
        for task in loops:
            if not task.cancelled() and (error := task.exception()) is not None:
                log.error("a task of the coordination had ended", reason=repr(error))
        await self._uses.flush()
        await self._leases.release_all()
        await self._link.aclose()
