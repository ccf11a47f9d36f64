"""Tag lists, referrers and the catalog.

Lists change, so the upstream is asked, once for all who ask at the same time.
When it can't be: the tags that are held here; the referrers as last fetched. A
failing upstream never turns into "there are no signatures". One that is offline does:
then what is known here is all there is.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass

from proxy.cache import keys
from proxy.cache.budget import answer_within
from proxy.cache.content import Outcome
from proxy.cache.exposure import ExposureGuard
from proxy.cache.facts import Facts
from proxy.cache.freshness import Policy
from proxy.cache.records import ReferrersRecord
from proxy.cache.single import SingleFlight
from proxy.cache.tags import TagCache
from proxy.errors import (
    StorageUnavailable,
    UnknownManifest,
    UpstreamOffline,
    UpstreamUnavailable,
)
from proxy.events import ServedStale
from proxy.oci import listings, manifests
from proxy.oci.digest import Digest
from proxy.oci.names import Repository, Tag
from proxy.ports import Clock, Observe, Records, TagPage, Upstream

PAGE_MAX = 1000


@dataclass(frozen=True, slots=True)
class Listed:
    """A page of names; `more` follow after the last one."""

    names: list[str]
    more: bool
    outcome: Outcome
    warning: str | None = None


@dataclass(frozen=True, slots=True)
class Referrers:
    """Descriptors that refer to a digest, unfiltered."""

    descriptors: Sequence[dict[str, object]]
    outcome: Outcome
    warning: str | None = None


class Listings:
    """Answers what enumerates."""

    def __init__(
        self,
        *,
        tags: TagCache,
        facts: Facts,
        records: Records,
        exposure: ExposureGuard,
        observe: Observe,
        clock: Clock,
        policies: Mapping[str, Policy],
        header_budget_s: float,
    ) -> None:
        self._tags = tags
        self._facts = facts
        self._records = records
        self._exposure = exposure
        self._observe = observe
        self._clock = clock
        self._policies = policies
        self._header_budget_s = header_budget_s
        self._flights = SingleFlight()

    async def list_tags(
        self,
        upstream: Upstream,
        repository: Repository,
        n: int | None,
        last: str | None,
        *,
        as_of: float | None = None,
    ) -> Listed:
        """One page; `as_of` as in `TagCache.serve`: then of those seen here by then.

        Raises `UnknownManifest`, `AccessDenied`, `UpstreamUnavailable`, `StorageUnavailable`.
        """
        began = asyncio.get_running_loop().time()
        async with answer_within(self._header_budget_s, upstream):
            await self._exposure.check(upstream, repository, "tags", "")
        if n == 0:
            return Listed([], more=False, outcome="hit")
        # ECR errors above 1000, Renovate asks for 10,000: clamped, never refused.
        n = None if n is None else min(n, PAGE_MAX)
        when = self._policies[upstream.name].as_of if as_of is None else as_of
        if when is not None or upstream.offline:
            return await self._list_held(upstream, repository, n, last, when)
        try:
            async with answer_within(self._header_budget_s, upstream, since=began):
                page = await self._flights.join(
                    ("tags", upstream.name, repository, n, last),
                    lambda: self._ask_tags(upstream, repository, n, last),
                )
        except UpstreamUnavailable:
            held = [tag async for tag in self._held_tags(upstream, repository)]
            if not held:
                raise
            names, more = listings.page_tags(held, n, last)
            self._observe(ServedStale(upstream=upstream.name, reason="unreachable"))
            warning = f"{upstream.name} is unreachable; these are the tags held here"
            return Listed(names, more, "stale", warning)
        if page is None:
            raise UnknownManifest(f"{upstream.name} has no repository {repository}")
        names = list(page.tags)
        if n is not None and len(names) > n:
            return Listed(names[:n], more=True, outcome="miss")
        return Listed(names, page.more and bool(names), "miss")

    async def referrers(
        self, upstream: Upstream, repository: Repository, digest: Digest
    ) -> Referrers:
        """Who refers to `digest`. Raises `AccessDenied`, `UpstreamUnavailable`."""
        began = asyncio.get_running_loop().time()
        async with answer_within(self._header_budget_s, upstream):
            await self._exposure.check(upstream, repository, "manifests", str(digest))
        if upstream.offline:
            return Referrers(await self.known_referrers(upstream, repository, digest), "hit")
        known = await self._facts.referrers(upstream, repository, digest)
        fresh_s = self._policies[upstream.name].fresh_s
        if known is not None and 0 <= self._clock() - known.fetched_at < fresh_s:
            return Referrers(known.descriptors, "hit")
        try:
            async with answer_within(self._header_budget_s, upstream, since=began):
                found = await self._flights.join(
                    ("referrers", upstream.name, repository, digest),
                    lambda: self._ask_referrers(upstream, repository, digest),
                )
        except UpstreamUnavailable:
            if known is None:
                raise
            self._observe(ServedStale(upstream=upstream.name, reason="unreachable"))
            warning = f"{upstream.name} is unreachable; referrers as last seen"
            return Referrers(known.descriptors, "stale", warning)
        return Referrers(found, "miss")

    async def known_referrers(
        self, upstream: Upstream, repository: Repository, digest: Digest
    ) -> Sequence[dict[str, object]]:
        """As last fetched, or by the fallback tag that is held; nobody is asked."""
        known = await self._facts.referrers(upstream, repository, digest)
        if known is not None:
            return known.descriptors
        held = await self._tags.held(upstream, repository, listings.fallback_tag(digest))
        if held is None or held.descriptor.media_type != manifests.OCI_INDEX:
            return ()
        return listings.parse_referrers(manifests.OCI_INDEX, held.body) or ()

    async def _list_held(
        self,
        upstream: Upstream,
        repository: Repository,
        n: int | None,
        last: str | None,
        when: float | None,
    ) -> Listed:
        """Nobody is asked: the tags that are known here, now or at `when`."""
        held = [tag async for tag in self._held_tags(upstream, repository)]
        if when is not None:
            held = await self._tags.tags_as_of(upstream, repository, when, held)
        if not held and upstream.offline:
            raise UpstreamOffline(f"no tag of {upstream.name}/{repository} is here")
        if not held:
            raise UnknownManifest(f"no tag of {upstream.name}/{repository} was seen here by then")
        names, more = listings.page_tags(held, n, last)
        return Listed(names, more, "hit")

    async def catalog(
        self, upstreams: Sequence[Upstream], n: int | None, last: str | None, *, prefixed: bool
    ) -> Listed:
        """Repositories that were pulled through here and may be shown, in ASCII order.

        An upstream's own catalog is neither asked nor meant: public registries
        have none. `prefixed`: names as a client without `ns` would write them.
        """
        names: list[str] = []
        for upstream in upstreams:
            prefix = f"{upstream.name}/" if prefixed else ""
            names += [prefix + found async for found in self._repositories(upstream)]
        limit = PAGE_MAX if n is None else min(n, PAGE_MAX)
        page, more = listings.page_tags(names, limit, last)
        return Listed(page, more, "hit")

    async def aclose(self) -> None:
        """Stop asking."""
        await self._flights.aclose()

    async def _ask_tags(
        self, upstream: Upstream, repository: Repository, n: int | None, last: str | None
    ) -> TagPage | None:
        return await upstream.list_tags(repository, n=n, last=last)

    async def _ask_referrers(
        self, upstream: Upstream, repository: Repository, digest: Digest
    ) -> Sequence[dict[str, object]]:
        body = await upstream.referrers(repository, digest)
        found = None if body is None else listings.parse_referrers(manifests.OCI_INDEX, body)
        if found is None:
            found = await self._by_fallback_tag(upstream, repository, digest)
        if found or await self._facts.referrers(upstream, repository, digest) is not None:
            # "None" is not written down: anybody may ask for any digest, and
            # signatures appear later.
            record = ReferrersRecord(
                url=upstream.url, fetched_at=self._clock(), descriptors=tuple(found)
            )
            await self._facts.put_referrers(upstream, repository, digest, record)
        return found

    async def _by_fallback_tag(
        self, upstream: Upstream, repository: Repository, digest: Digest
    ) -> list[dict[str, object]]:
        """The tag schema, for upstreams without the API (distribution-spec)."""
        tag = listings.fallback_tag(digest)
        try:
            served = await self._tags.serve(upstream, repository, tag, body=True)
        except UnknownManifest:
            return []
        if served.manifest is None or served.descriptor.media_type != manifests.OCI_INDEX:
            return []
        return listings.parse_referrers(manifests.OCI_INDEX, served.manifest.body) or []

    async def _held_tags(self, upstream: Upstream, repository: Repository) -> AsyncIterator[str]:
        prefix = keys.tags(upstream.name, repository)
        try:
            async for key in self._records.list(prefix):
                tag = Tag.parse(key.rpartition("/")[2])
                # A record made for another URL is nobody's.
                if await self._facts.tag(upstream, repository, tag) is not None:
                    yield tag
        except StorageUnavailable:
            return

    async def _repositories(self, upstream: Upstream) -> AsyncIterator[Repository]:
        """In the order of keys, which is not that of names: `a-b/` is before `a/`."""
        prefix = keys.repositories(upstream.name)
        previous = ""
        async for key in self._records.list(prefix):
            name = key[len(prefix) + 1 :].partition("/_")[0]
            if name != previous:
                previous = name
                repository = Repository.parse(name)
                if await self._exposure.known(upstream, repository):
                    yield repository
