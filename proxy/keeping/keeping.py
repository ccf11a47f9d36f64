"""The parts of keeping put together, with their lifetimes, and what commands ask of them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Self

import structlog

from proxy.backing import Backing
from proxy.cache.assembly import Cache
from proxy.cache.expiry import Expiry
from proxy.config import Settings
from proxy.errors import EntrepotError
from proxy.keeping.background import Background
from proxy.keeping.commands import Commands
from proxy.keeping.evicting import Evicting
from proxy.keeping.listing import Listing
from proxy.keeping.notices import Notices
from proxy.keeping.pinning import Pinning
from proxy.keeping.pulls import Pulls
from proxy.keeping.recorded import Recorded
from proxy.keeping.removal import Removal
from proxy.keeping.retaining import Retaining
from proxy.keeping.shelf import Shelf
from proxy.keeping.usage import Usage
from proxy.naming import Names
from proxy.ports import PUBLIC, BlobKey, Clock, Observe, Upstream
from proxy.upstreams import policies

# A store that is away must not keep the proxy from serving.
_START_PATIENCE_S = 5.0

log = structlog.get_logger("entrepot")


class Keeping:
    """`async with` makes pins count and starts what goes on in the background."""

    def __init__(
        self,
        settings: Settings,
        cache: Cache,
        backing: Backing,
        upstreams: Mapping[str, Upstream],
        names: Names,
        *,
        observe: Observe,
        clock: Clock,
        hand_on: Callable[[], None],
    ) -> None:
        """`hand_on`: see `Background`."""
        groups = [PUBLIC, *(name for name, one in upstreams.items() if one.credentialed)]
        self._cache = cache
        self._backing = backing
        self._recorded = recorded = Recorded(backing.records, upstreams)
        self._shelf = shelf = Shelf(
            cache, backing, recorded, manifest_bytes_max=settings.manifest_bytes_max
        )
        pulls = Pulls(backing.records, backing.coordination, clock)
        self._notices: Notices | None = None
        if backing.fleet.durable is not None:
            self._notices = Notices(
                backing.records,
                local=backing.local.records,
                blobs=backing.local.blobs,
                memory=cache.memory,
                facts=cache.facts,
                upstreams=upstreams,
                clock=clock,
            )
        self.removal = removal = Removal(
            cache, backing, shelf=shelf, recorded=recorded, notices=self._notices
        )
        self.pinning = pinning = Pinning(
            cache, shelf=shelf, recorded=recorded, names=names, upstreams=upstreams
        )
        self._retaining = retaining = Retaining(
            settings.keep.retention,
            pins=cache.pins,
            pulls=pulls,
            recorded=recorded,
            upstreams=upstreams,
            clock=clock,
        )
        listing = Listing(
            shelf=shelf,
            recorded=recorded,
            pulls=pulls,
            pins=cache.pins,
            names=names,
            policies=policies(settings),
            clock=clock,
        )
        self.commands = Commands(
            pins=cache.pins,
            pinning=pinning,
            listing=listing,
            removal=removal,
            recorded=recorded,
            pulls=pulls,
            shelf=shelf,
        )
        self.usage = Usage(
            backing,
            shelf=shelf,
            recorded=recorded,
            folder=settings.data_dir / "tmp",
            groups=groups,
        )
        self.evicting = Evicting(
            backing,
            groups=groups,
            expiry=_expiry(settings, cache, backing, groups=groups, observe=observe, clock=clock),
            removal=removal,
            retaining=retaining,
            pins=cache.pins,
            pulls=pulls,
            shelf=shelf,
            recorded=recorded,
            clock=clock,
        )
        self.background = Background(
            cache,
            backing,
            pinning=pinning,
            shelf=shelf,
            pulls=pulls,
            notices=self._notices,
            evicting=self.evicting,
            commands=self.commands,
            hand_on=hand_on,
            configured=settings.keep.pins,
            retaining=bool(settings.keep.retention),
        )

    async def __aenter__(self) -> Self:
        try:
            await self._cache.pins.refresh(self._backing.local.records)
            async with asyncio.timeout(_START_PATIENCE_S):
                await self._cache.pins.refresh()
                if self._notices is not None:
                    await self._notices.apply()
        except (TimeoutError, EntrepotError) as error:
            log.warning("pins can't all be read now; going on", reason=str(error))
        blobs, pinned = self._backing.local.blobs, self._cache.pins.pinned
        before = blobs.pinned

        def stays(key: BlobKey) -> bool:
            return before(key) or pinned(key)

        blobs.pinned = stays
        self.background.start()
        return self

    async def __aexit__(self, *_exc: object) -> None:
        await self.background.aclose()
        self._shelf.close()


def _expiry(
    settings: Settings,
    cache: Cache,
    backing: Backing,
    *,
    groups: list[str],
    observe: Observe,
    clock: Clock,
) -> Expiry | None:
    s3 = settings.storage.s3
    if s3 is None or backing.fleet.durable is None:
        return None
    return Expiry(
        backing.fleet.durable,
        groups=groups,
        bytes_max=s3.bytes_max,
        expire_s=s3.expire_s,
        coordination=backing.coordination,
        observe=observe,
        clock=clock,
        pins=cache.pins,
    )
