"""What goes on beside serving: expiry of the durable store, scrubs, trimming the mirror.

Nothing here may end the process or delay a request; what fails is logged and
tried again at its next turn. What concerns the durable store is done by one
replica for all, once a period; without coordination, by each.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable
from typing import Self

import structlog

from proxy.backing import Backing
from proxy.cache.expiry import Expiry, Round
from proxy.cache.pins import Pins
from proxy.cache.scrub import Scrub, Scrubbed
from proxy.config import Settings
from proxy.errors import EntrepotError, StorageUnavailable
from proxy.ports import PUBLIC, Coordination, Observe, Upstream
from proxy.storage.mirror import trim_blocking

_EXPIRY_EVERY_S = 600.0
_TRIM_EVERY_S = 3600.0
# Less than a period, or who did it last time would find its own note and wait another one.
_NOTED_SHARE = 0.9

log = structlog.get_logger("entrepot")


class Turns:
    """Work that one replica does for all. May be forgotten: then it is done again."""

    def __init__(self, coordination: Coordination) -> None:
        self._coordination = coordination

    async def due(self, name: str) -> bool:
        """Whether no replica has done it within its period."""
        return await self._coordination.get(_done(name)) is None

    async def done(self, name: str, *, every_s: float) -> None:
        """It was done here, for a period of `every_s`."""
        await self._coordination.put(_done(name), b"done", ttl_s=every_s * _NOTED_SHARE)


class Upkeep:
    """Owns the background tasks; `async with` starts and stops them."""

    def __init__(
        self,
        settings: Settings,
        backing: Backing,
        upstreams: dict[str, Upstream],
        observe: Observe,
        *,
        pins: Pins | None = None,
    ) -> None:
        """`pins`: what stays in the durable store whatever its age."""
        self._settings = settings
        groups = [PUBLIC, *(name for name, one in upstreams.items() if one.credentialed)]
        self._scrub = Scrub(
            backing.local.blobs,
            backing.fleet,
            local_path=backing.local.blobs.path,
            groups=groups,
            coordination=backing.coordination,
            observe=observe,
        )
        s3 = settings.storage.s3
        self._expiry: Expiry | None = None
        if s3 is not None and backing.fleet.durable is not None:
            self._expiry = Expiry(
                backing.fleet.durable,
                groups=groups,
                bytes_max=s3.bytes_max,
                expire_s=s3.expire_s,
                coordination=backing.coordination,
                observe=observe,
                clock=time.time,
                pins=pins,
            )
        self._bounded = s3 is not None and (s3.bytes_max is not None or s3.expire_s is not None)
        self._turns = Turns(backing.coordination)
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        if self._expiry is not None:
            self._every(_TRIM_EVERY_S, self._trim)
        if self._bounded:
            self._every(_EXPIRY_EVERY_S, self._expire_for_all)
        if self._settings.scrub_every_s is not None:
            every_s = self._settings.scrub_every_s
            self._every(every_s, lambda: self._scrub_in_turn(every_s))
        return self

    async def __aexit__(self, *_exc: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._scrub.aclose()

    async def expire(self, *, dry_run: bool = False) -> Round:
        """One round over the durable store. Raises `StorageUnavailable`."""
        if self._expiry is None:
            raise StorageUnavailable("there is no S3 store; the local disk keeps its own bounds")
        done = await self._expiry.round(dry_run=dry_run)
        log.info("expiry", **done.document())
        return done

    async def scrub(self, *, store: bool = True) -> Scrubbed:
        """Read everything that is kept, here and in the durable `store`. Raises
        `StorageUnavailable`.
        """
        done = await self._scrub.run(store=store)
        log.info("scrub", **done.document())
        return done

    async def _expire_for_all(self) -> None:
        if await self._turns.due("expiry") and not (await self.expire()).elsewhere:
            await self._turns.done("expiry", every_s=_EXPIRY_EVERY_S)

    async def _scrub_in_turn(self, every_s: float) -> None:
        """What is here each replica reads itself."""
        store = await self._turns.due("scrub")
        done = await self.scrub(store=store)
        if store and not done.elsewhere:
            await self._turns.done("scrub", every_s=every_s)

    async def _trim(self) -> None:
        with contextlib.suppress(OSError):
            await asyncio.to_thread(trim_blocking, self._settings.data_dir)

    def _every(self, interval_s: float, work: Callable[[], Awaitable[object]]) -> None:
        async def repeat() -> None:
            while True:
                await asyncio.sleep(interval_s)
                try:
                    await work()
                except (EntrepotError, OSError) as error:
                    log.warning("upkeep failed", reason=str(error))

        self._tasks.append(asyncio.create_task(repeat()))


def _done(name: str) -> str:
    return f"done/{name}"
