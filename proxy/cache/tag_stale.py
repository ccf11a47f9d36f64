"""What of a tag can be served when its upstream can't say what it names now.

Only an image whose pull can be finished from what is held: a client that gets a
manifest here may be bound to us for all its blobs (containers/image is), so half
an image is worse than none. If the newest is incomplete, the one before it will
do, and says so.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Literal

from proxy.cache import traffic
from proxy.cache.manifests import ManifestCache, Served, unfinishable
from proxy.cache.records import TagRecord
from proxy.cache.traffic import Urgency
from proxy.events import ServedStale
from proxy.oci.manifests import Descriptor
from proxy.oci.names import Repository
from proxy.ports import Observe, Upstream

Reason = Literal["unreachable", "limited", "refused", "slow", "quota", "gone"]
_WORDS: Mapping[Reason, str] = {
    "unreachable": "can't be reached",
    "limited": "limits our requests",
    "refused": "refuses our requests",
    "slow": "is slow to answer",
    "quota": "has few pulls left for us",
    "gone": "no longer has the tag",
}
# These are on manifests; the blobs can be had.
_LIMITS = frozenset({"limited", "quota"})


class StaleTags:
    """Finds the image that a record can still be answered with."""

    def __init__(self, *, manifests: ManifestCache, observe: Observe) -> None:
        self._manifests = manifests
        self._observe = observe

    async def serve(
        self, upstream: Upstream, repository: Repository, record: TagRecord, reason: Reason
    ) -> Served:
        """As `find`. Raises `UpstreamUnavailable` when there is nothing."""
        served = await self.find(upstream, repository, record, reason)
        if served is None:
            raise unfinishable(upstream, repository)
        return served

    async def spared(
        self,
        upstream: Upstream,
        repository: Repository,
        record: TagRecord,
        new: Descriptor | None,
        *,
        oldest: float,
    ) -> Served | None:
        """The record's image, instead of spending one of few pulls on a newer one.

        `new` is what the tag names now; None: that is not known, and asking may cost a
        pull itself. A record that was confirmed before `oldest` will not do.
        Nor is it for work that nobody waits for: it had better be told.
        """
        health = upstream.health()
        costs = new is not None or health.asking_costs
        if not (health.saving and costs) or record.checked_at < oldest:
            return None
        if traffic.current().urgency is not Urgency.WAITING:
            return None
        if new is not None and await self._manifests.held(upstream, repository, new.digest):
            return None
        return await self.find(upstream, repository, replace(record, previous=None), "quota")

    async def find(
        self, upstream: Upstream, repository: Repository, record: TagRecord, reason: Reason
    ) -> Served | None:
        """The record's image if a pull of it can be finished; else the one before it."""
        for descriptor in (record.current, record.previous):
            if descriptor is None:
                continue
            held = await self._manifests.held(upstream, repository, descriptor.digest)
            if held is None or (
                reason not in _LIMITS
                and not await self._manifests.complete(upstream, repository, held)
            ):
                continue
            self._observe(ServedStale(upstream=upstream.name, reason=reason))
            warning = f"served stale: {upstream.name} {_WORDS[reason]}"
            if descriptor is record.previous:
                warning += "; this is the previous image of the tag"
            return Served(held.descriptor, held, "stale", warning)
        return None
