"""Manifests by tag (and by digest, as the client asked): the order of work.

Fresh record: no upstream call. Otherwise one question for all who ask; what the
answer means is decided in `freshness`. A tag record moves only after its
manifest is stored, so it never names what can't be served.

A client's HEAD fetches no manifest, since many clients only compare digests and
a GET costs quota on Docker Hub. Then the tag is noted under the digest, and the
record moves when somebody fetches that digest.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Mapping
from contextlib import AbstractAsyncContextManager

from proxy.cache import noted
from proxy.cache.budget import answer_within
from proxy.cache.content import Outcome
from proxy.cache.exposure import ExposureGuard
from proxy.cache.facts import Facts
from proxy.cache.freshness import (
    Ask,
    Confirmed,
    Fail,
    Fresh,
    Gone,
    Move,
    Policy,
    Stale,
    after,
    before,
    moved,
)
from proxy.cache.manifests import ManifestCache, Served, down, unfinishable
from proxy.cache.records import TagRecord
from proxy.cache.single import SingleFlight
from proxy.errors import (
    AccessDenied,
    UnknownManifest,
    UpstreamLimited,
    UpstreamUnavailable,
)
from proxy.events import ServedStale, TagMoved
from proxy.oci.digest import Digest
from proxy.oci.manifests import SCHEMA1_TYPES, Descriptor, Manifest
from proxy.oci.names import Reference, Repository, Tag
from proxy.ports import Clock, Coordination, Observe, Upstream

_ABSENT = b"absent"
Decision = Confirmed | Move | Stale | Gone | Fail


class TagCache:
    """Answers requests for manifests by any reference."""

    def __init__(
        self,
        *,
        manifests: ManifestCache,
        facts: Facts,
        exposure: ExposureGuard,
        coordination: Coordination,
        observe: Observe,
        clock: Clock,
        policies: Mapping[str, Policy],
        negative_s: float,
        revalidate_budget_s: float,
        header_budget_s: float,
    ) -> None:
        self._manifests = manifests
        self._facts = facts
        self._exposure = exposure
        self._coordination = coordination
        self._observe = observe
        self._clock = clock
        self._policies = policies
        self._negative_s = negative_s
        self._revalidate_budget_s = revalidate_budget_s
        self._header_budget_s = header_budget_s
        self._flights = SingleFlight()

    async def serve(
        self, upstream: Upstream, repository: Repository, reference: Reference, *, body: bool
    ) -> Served:
        """The manifest; without `body` the descriptor alone may do.

        Raises `UnknownManifest`, `AccessDenied`, `UpstreamUnavailable` (within
        the header budget).
        """
        await self._exposure.check(upstream, repository, "manifests", str(reference))
        match reference:
            case Digest():
                return await self._by_digest(upstream, repository, reference)
            case Tag():
                return await self._by_tag(upstream, repository, reference, body=body)

    async def aclose(self) -> None:
        """Stop asking."""
        await self._flights.aclose()

    # --- by digest ---------------------------------------------------------------------

    async def _by_digest(
        self, upstream: Upstream, repository: Repository, digest: Digest
    ) -> Served:
        held = await self._manifests.held(upstream, repository, digest)
        if held is not None:
            if down(upstream) and not await self._manifests.complete(upstream, repository, held):
                raise unfinishable(upstream, repository)
            return Served(held.descriptor, held, "hit")
        async with self._budget(upstream):
            manifest, outcome = await self._manifests.get(upstream, repository, digest)
            await self._move_noted(upstream, repository, manifest.descriptor)
        return Served(manifest.descriptor, manifest, outcome)

    def _budget(self, upstream: Upstream) -> AbstractAsyncContextManager[None]:
        return answer_within(self._header_budget_s, upstream)

    # --- by tag ------------------------------------------------------------------------

    async def _by_tag(
        self, upstream: Upstream, repository: Repository, tag: Tag, *, body: bool
    ) -> Served:
        record = await self._facts.tag(upstream, repository, tag)
        policy = self._policies[upstream.name]
        match before(record, now=self._clock(), policy=policy):
            case Fresh(fresh):
                return await self._current(upstream, repository, fresh, body=body)
            case Ask():
                pass
        if record is None:
            async with self._budget(upstream):
                return await self._cold(upstream, repository, tag, body=body)
        decision = await self._decide(upstream, repository, tag, record)
        match decision:
            case Served():
                return decision
            case Confirmed(confirmed):
                return await self._current(upstream, repository, confirmed, body=body)
            case Move(new):
                return await self._moved(upstream, repository, tag, new, body=body)
            case Stale(outdated, reason):
                return await self._stale(upstream, repository, outdated, reason)
            case Gone():
                raise UnknownManifest(f"{upstream.name} has no tag {tag} in {repository}")
            case Fail(error):
                raise error

    async def _decide(
        self, upstream: Upstream, repository: Repository, tag: Tag, record: TagRecord
    ) -> Decision | Served:
        """Ask, but not for long while something can be served."""
        try:
            async with asyncio.timeout(self._revalidate_budget_s):
                return await self._question(upstream, repository, tag)
        except TimeoutError:
            # The question goes on, and whoever comes next has its answer.
            stale = await self._finishable(upstream, repository, record, "slow")
        if stale is not None:
            return stale
        async with self._budget(upstream):
            return await self._question(upstream, repository, tag)

    def _question(
        self, upstream: Upstream, repository: Repository, tag: Tag
    ) -> Awaitable[Decision]:
        return self._flights.join(
            ("tag", upstream.name, repository, tag),
            lambda: self._revalidate(upstream, repository, tag),
        )

    async def _current(
        self, upstream: Upstream, repository: Repository, record: TagRecord, *, body: bool
    ) -> Served:
        """What the record names; from the upstream again if it was evicted."""
        held = await self._manifests.held(upstream, repository, record.current.digest)
        if held is not None:
            if down(upstream) and not await self._manifests.complete(upstream, repository, held):
                return await self._stale(upstream, repository, record, "unreachable")
            return Served(held.descriptor, held, "hit")
        if not body:
            return Served(record.current, None, "hit")
        async with self._budget(upstream):
            digest = record.current.digest
            manifest, outcome = await self._manifests.get(upstream, repository, digest)
        return Served(manifest.descriptor, manifest, outcome)

    async def _revalidate(self, upstream: Upstream, repository: Repository, tag: Tag) -> Decision:
        record = await self._facts.tag(upstream, repository, tag)
        answer: Descriptor | AccessDenied | UpstreamUnavailable | None
        found: Descriptor | Manifest | None = None
        try:
            found = await upstream.resolve(repository, tag)
            answer = found.descriptor if isinstance(found, Manifest) else found
        except (AccessDenied, UpstreamUnavailable) as error:
            answer = error
        now = self._clock()
        policy = self._policies[upstream.name]
        limited = isinstance(answer, UpstreamLimited)
        decision = after(record, answer, url=upstream.url, now=now, policy=policy, limited=limited)
        match decision:
            case Confirmed():
                await self._facts.confirm_tag(upstream, repository, tag, now)
            case Gone():
                await self._facts.forget_tag(upstream, repository, tag)
            case Move(new) if isinstance(found, Manifest):
                await self._manifests.keep(upstream, repository, found)
                await self._move(upstream, repository, tag, new)
            case _:
                pass
        return decision

    async def _moved(
        self, upstream: Upstream, repository: Repository, tag: Tag, new: TagRecord, *, body: bool
    ) -> Served:
        """The tag names something new: first the manifest, then the record."""
        digest = new.current.digest
        if not body and await self._manifests.held(upstream, repository, digest) is None:
            await noted.note(self._coordination, upstream, repository, tag, digest)
            return Served(new.current, None, "miss")
        try:
            async with self._budget(upstream):
                manifest, outcome = await self._manifests.get(upstream, repository, digest)
        except UpstreamUnavailable as error:
            # The old one is better than none, and its record has not moved.
            record = await self._facts.tag(upstream, repository, tag)
            if record is None:
                raise
            limited = isinstance(error, UpstreamLimited)
            reason = "limited" if limited else "unreachable"
            return await self._stale(upstream, repository, record, reason)
        await self._move(upstream, repository, tag, new)
        return Served(manifest.descriptor, manifest, outcome)

    async def _cold(
        self, upstream: Upstream, repository: Repository, tag: Tag, *, body: bool
    ) -> Served:
        """Nothing is known of the tag."""
        absence = f"absent/{upstream.name}/{repository}/manifests/{tag}"
        unknown = UnknownManifest(f"{upstream.name} has no tag {tag} in {repository}")
        if await self._coordination.get(absence) is not None:
            raise unknown
        key = ("cold", upstream.name, repository, tag, body)
        joined = self._flights.running(key)
        found = await self._flights.join(
            key, lambda: self._cold_ask(upstream, repository, tag, body=body)
        )
        if found is None:
            await self._coordination.put(absence, _ABSENT, ttl_s=self._negative_s)
            raise unknown
        outcome: Outcome = "join" if joined else "miss"
        if isinstance(found, Manifest):
            return Served(found.descriptor, found, outcome)
        return Served(found, None, outcome)

    async def _cold_ask(
        self, upstream: Upstream, repository: Repository, tag: Tag, *, body: bool
    ) -> Descriptor | Manifest | None:
        found: Descriptor | Manifest | None
        if body:
            # One round trip: a GET by tag counts no more than HEAD and GET by digest.
            found = await upstream.get_manifest(repository, tag)
        else:
            found = await upstream.resolve(repository, tag)
            if isinstance(found, Descriptor):
                held = await self._manifests.held(upstream, repository, found.digest)
                if held is None:
                    await noted.note(self._coordination, upstream, repository, tag, found.digest)
                    return found
                found = held
        if found is None or found.descriptor.media_type in SCHEMA1_TYPES:
            return found
        await self._manifests.keep(upstream, repository, found)
        record = moved(None, found.descriptor, url=upstream.url, now=self._clock())
        await self._move(upstream, repository, tag, record)
        return found

    # --- stale -------------------------------------------------------------------------

    async def _stale(
        self, upstream: Upstream, repository: Repository, record: TagRecord, reason: str
    ) -> Served:
        served = await self._finishable(upstream, repository, record, reason)
        if served is None:
            raise unfinishable(upstream, repository)
        return served

    async def _finishable(
        self, upstream: Upstream, repository: Repository, record: TagRecord, reason: str
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
            warning = f"served stale: {upstream.name} is {reason}"
            if descriptor is record.previous:
                warning += "; this is the previous image of the tag"
            return Served(held.descriptor, held, "stale", warning)
        return None

    # --- records -----------------------------------------------------------------------

    async def _move(
        self, upstream: Upstream, repository: Repository, tag: Tag, record: TagRecord
    ) -> None:
        await self._facts.move_tag(upstream, repository, tag, record)
        self._observe(
            TagMoved(
                upstream=upstream.name,
                repository=repository,
                tag=tag,
                digest=str(record.current.digest),
            )
        )

    async def _move_noted(
        self, upstream: Upstream, repository: Repository, current: Descriptor
    ) -> None:
        if current.media_type in SCHEMA1_TYPES:
            return
        for tag in await noted.take(self._coordination, upstream, repository, current.digest):
            record = await self._facts.tag(upstream, repository, tag)
            if record is None or record.current.digest != current.digest:
                new = moved(record, current, url=upstream.url, now=self._clock())
                await self._move(upstream, repository, tag, new)
