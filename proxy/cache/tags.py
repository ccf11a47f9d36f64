"""Manifests by tag (and by digest, as the client asked): the order of work.

Fresh record: no upstream call. Otherwise one question for all who ask; what the
answer means is decided in `freshness`, asked and written down in `tag_questions`,
and what can be served without an answer is found in `tag_stale`.

A client's HEAD fetches no manifest by tag, since many clients only compare
digests and a GET costs quota on Docker Hub.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import assert_never

from proxy.cache.budget import answer_within
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
    before,
    fresh_window,
)
from proxy.cache.manifests import ManifestCache, Served, unfinishable
from proxy.cache.records import TagRecord
from proxy.cache.shared import Shared
from proxy.cache.standing import Standing
from proxy.cache.tag_answers import TagAnswers
from proxy.cache.tag_questions import Decision, TagQuestions
from proxy.cache.tag_stale import Reason, StaleTags
from proxy.errors import AccessDenied, UnknownManifest, UpstreamLimited, UpstreamUnavailable
from proxy.oci.digest import Digest
from proxy.oci.manifests import Manifest
from proxy.oci.names import Reference, Repository, Tag
from proxy.ports import Clock, Coordination, Observe, Upstream

_NOT_HAD = (UpstreamUnavailable, UnknownManifest, AccessDenied)


class TagCache:
    """Answers requests for manifests by any reference."""

    def __init__(
        self,
        *,
        manifests: ManifestCache,
        facts: Facts,
        exposure: ExposureGuard,
        shared: Shared,
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
        self._clock = clock
        self._policies = policies
        self._revalidate_budget_s = revalidate_budget_s
        self._header_budget_s = header_budget_s
        self._stale = StaleTags(manifests=manifests, observe=observe)
        self._questions = TagQuestions(
            manifests=manifests,
            answers=TagAnswers(shared=shared, manifests=manifests, policies=policies, clock=clock),
            facts=facts,
            coordination=coordination,
            observe=observe,
            clock=clock,
            policies=policies,
            negative_s=negative_s,
        )

    async def serve(
        self, upstream: Upstream, repository: Repository, reference: Reference, *, body: bool
    ) -> Served:
        """The manifest; without `body` the descriptor alone may do.

        Raises `UnknownManifest`, `AccessDenied`, `UpstreamUnavailable` (within
        the header budget, over everything that is asked).
        """
        async with answer_within(self._header_budget_s, upstream):
            await self._exposure.check(upstream, repository, "manifests", str(reference))
            match reference:
                case Digest():
                    return await self._by_digest(upstream, repository, reference)
                case Tag():
                    return await self._by_tag(upstream, repository, reference, body=body)

    async def held(
        self, upstream: Upstream, repository: Repository, reference: Reference
    ) -> Manifest | None:
        """What is here for a reference, however old; nobody is asked."""
        if isinstance(reference, Tag):
            record = await self._facts.tag(upstream, repository, reference)
            if record is None:
                return None
            reference = record.current.digest
        return await self._manifests.held(upstream, repository, reference)

    def standing(
        self, upstream: Upstream, repository: Repository, reference: Reference, served: Served
    ) -> Standing | None:
        """For how long `serve` would answer this again, at once; None if not now.

        Looks at what is remembered now, not at what was true when `served` came about.
        """
        shown = self._exposure.standing(upstream, repository)
        if shown is None or served.manifest is None or served.outcome != "hit" or served.warning:
            return None
        held = self._manifests.standing(upstream, repository, served.manifest)
        if held is None:
            return None
        if isinstance(reference, Digest):
            return held.on(shown) if served.descriptor.digest == reference else None
        known = self._facts.tag_life(upstream, repository, reference)
        if known is None or known[0].current.digest != served.descriptor.digest:
            return None
        window = fresh_window(known[0], self._policies[upstream.name])
        return held.on(Standing((known[1],), *window)).on(shown)

    async def aclose(self) -> None:
        """Stop asking."""
        await self._questions.aclose()

    async def _by_digest(
        self, upstream: Upstream, repository: Repository, digest: Digest
    ) -> Served:
        held = await self._manifests.held(upstream, repository, digest)
        if held is not None:
            if not await self._manifests.finishable(upstream, repository, held):
                raise unfinishable(upstream, repository)
            return Served(held.descriptor, held, "hit")
        manifest, outcome = await self._manifests.get(upstream, repository, digest)
        await self._questions.fetched(upstream, repository, manifest.descriptor)
        return Served(manifest.descriptor, manifest, outcome)

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
            return await self._questions.first(upstream, repository, tag, body=body)
        decision = await self._decide(upstream, repository, tag, record)
        match decision:
            case Served():
                return decision
            case Confirmed(confirmed):
                return await self._current(upstream, repository, confirmed, body=body)
            case Move(new):
                return await self._moved(upstream, repository, tag, new, body=body)
            case Stale(outdated, reason):
                return await self._stale.serve(upstream, repository, outdated, reason)
            case Gone():
                raise UnknownManifest(f"{upstream.name} has no tag {tag} in {repository}")
            case Fail(error):
                raise error
            case _:
                assert_never(decision)

    async def _decide(
        self, upstream: Upstream, repository: Repository, tag: Tag, record: TagRecord
    ) -> Decision | Served:
        """Ask, but not for long while something can be served."""
        try:
            async with asyncio.timeout(self._revalidate_budget_s):
                return await self._questions.revalidate(upstream, repository, tag)
        except TimeoutError:
            # The question goes on, and whoever comes next has its answer.
            known = await self._facts.latest_tag(upstream, repository, tag) or record
            stale = await self._stale.find(upstream, repository, known, "slow")
        if stale is not None:
            return stale
        return await self._questions.revalidate(upstream, repository, tag)

    async def _current(
        self, upstream: Upstream, repository: Repository, record: TagRecord, *, body: bool
    ) -> Served:
        """What the record names; from the upstream again if it was evicted."""
        held = await self._manifests.held(upstream, repository, record.current.digest)
        if held is not None:
            if not await self._manifests.finishable(upstream, repository, held):
                return await self._stale.serve(upstream, repository, record, "unreachable")
            return Served(held.descriptor, held, "hit")
        if not body:
            return Served(record.current, None, "hit")
        try:
            digest = record.current.digest
            manifest, outcome = await self._manifests.get(upstream, repository, digest)
        except _NOT_HAD as error:
            return await self._instead(upstream, repository, record, error)
        return Served(manifest.descriptor, manifest, outcome)

    async def _moved(
        self, upstream: Upstream, repository: Repository, tag: Tag, new: TagRecord, *, body: bool
    ) -> Served:
        """The new image; the old one, whose record has not moved, is better than none."""
        record = await self._facts.tag(upstream, repository, tag)
        try:
            async with asyncio.timeout(self._revalidate_budget_s):
                return await self._questions.follow(upstream, repository, tag, new, body=body)
        except TimeoutError:
            stale = None
            if record is not None:
                stale = await self._stale.find(upstream, repository, record, "slow")
            if stale is not None:
                return stale
        except _NOT_HAD as error:
            if record is None:
                raise
            return await self._instead(upstream, repository, record, error)
        return await self._questions.follow(upstream, repository, tag, new, body=body)

    async def _instead(
        self,
        upstream: Upstream,
        repository: Repository,
        record: TagRecord,
        error: UpstreamUnavailable | UnknownManifest | AccessDenied,
    ) -> Served:
        """What of the record can be served although `error`; raises it if nothing."""
        match error:
            case UpstreamLimited():
                reason: Reason = "limited"
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
