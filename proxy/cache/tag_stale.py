"""What of a tag can be served when its upstream can't say what it names now.

Only an image whose pull can be finished from what is held: a client that gets a
manifest here may be bound to us for all its blobs (containers/image is), so half
an image is worse than none. If the newest is incomplete, the one before it will
do, and says so.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from proxy.cache.manifests import ManifestCache, Served, unfinishable
from proxy.cache.records import TagRecord
from proxy.events import ServedStale
from proxy.oci.names import Repository
from proxy.ports import Observe, Upstream

Reason = Literal["unreachable", "limited", "refused", "slow"]
_WORDS: Mapping[Reason, str] = {
    "unreachable": "can't be reached",
    "limited": "limits our requests",
    "refused": "refuses our requests",
    "slow": "is slow to answer",
}


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

    async def find(
        self, upstream: Upstream, repository: Repository, record: TagRecord, reason: Reason
    ) -> Served | None:
        """The record's image if a pull of it can be finished; else the one before it."""
        for descriptor in (record.current, record.previous):
            if descriptor is None:
                continue
            held = await self._manifests.held(upstream, repository, descriptor.digest)
            # A limit is on manifests; the blobs of a limited upstream can be had.
            if held is None or (
                reason != "limited"
                and not await self._manifests.complete(upstream, repository, held)
            ):
                continue
            self._observe(ServedStale(upstream=upstream.name, reason=reason))
            warning = f"served stale: {upstream.name} {_WORDS[reason]}"
            if descriptor is record.previous:
                warning += "; this is the previous image of the tag"
            return Served(held.descriptor, held, "stale", warning)
        return None
