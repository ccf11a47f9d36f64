"""What of a tag is served in place of an answer that can't be had, or had better not be."""

from __future__ import annotations

from collections.abc import Mapping

from proxy.cache import traffic
from proxy.cache.freshness import Policy
from proxy.cache.manifests import Served
from proxy.cache.records import TagRecord
from proxy.cache.tag_stale import Reason, StaleTags
from proxy.cache.traffic import Urgency
from proxy.errors import (
    AccessDenied,
    QuotaKept,
    UnknownManifest,
    UpstreamLimited,
    UpstreamUnavailable,
)
from proxy.oci.manifests import Descriptor
from proxy.oci.names import Repository
from proxy.ports import Clock, Upstream


class Instead:
    """Decides what reason it is, and whether that allows what is held."""

    def __init__(self, stale: StaleTags, *, policies: Mapping[str, Policy], clock: Clock) -> None:
        self._stale = stale
        self._policies = policies
        self._clock = clock

    async def spared(
        self,
        upstream: Upstream,
        repository: Repository,
        record: TagRecord,
        new: Descriptor | None,
    ) -> Served | None:
        """What is held, where that spares one of few pulls."""
        oldest = self._clock() - self._policies[upstream.name].stale_max_s
        return await self._stale.spared(upstream, repository, record, new, oldest=oldest)

    async def of(
        self,
        upstream: Upstream,
        repository: Repository,
        record: TagRecord,
        error: UpstreamUnavailable | UnknownManifest | AccessDenied,
    ) -> Served:
        """What of the record can be served although `error`; raises it if nothing."""
        match error:
            case QuotaKept() if traffic.current().urgency is not Urgency.WAITING:
                raise error  # Nobody waits; who would bring it up to date had better be told.
            case QuotaKept():
                reason: Reason = "quota"
            case UpstreamLimited():
                reason = "limited"
            case AccessDenied():
                policy = self._policies[upstream.name]
                if self._clock() - record.checked_at > policy.stale_max_s:
                    raise error
                reason = "refused"
            case _:
                reason = "unreachable"
        stale = await self._stale.find(upstream, repository, record, reason)
        if stale is None:
            raise error
        return stale
