"""Manifests by tag (and by digest, as the client asked): the order of work.

Fresh record: no upstream call. Otherwise one question for all who ask; what the
answer means is decided in `freshness`, asked and written down in `tag_questions`,
and what can be served without an answer is found in `tag_stale`.

A client's HEAD fetches no manifest by tag, since many clients only compare
digests and a GET costs quota on Docker Hub.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from typing import assert_never

from proxy.cache.as_of import AsOf
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
)
from proxy.cache.manifests import ManifestCache, Served, unfinishable
from proxy.cache.offline import OfflineImages
from proxy.cache.records import TagRecord
from proxy.cache.shared import Shared
from proxy.cache.standing import Standing
from proxy.cache.tag_answers import TagAnswers
from proxy.cache.tag_instead import Instead
from proxy.cache.tag_questions import Decision, TagQuestions
from proxy.cache.tag_stale import StaleTags
from proxy.cache.tag_standing import TagStanding
from proxy.cache.uses import ImageUses
from proxy.errors import AccessDenied, UnknownManifest, UpstreamUnavailable
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
        uses: ImageUses | None = None,
        pinned: Callable[[str], bool] = lambda _name: False,
    ) -> None:
        """`uses`: hears of every manifest that is served. `pinned`: whether an image, by
        its full name, is to stay whatever its upstream says.
        """
        self._uses = uses or ImageUses()
        self._manifests = manifests
        self._facts = facts
        self._exposure = exposure
        self._clock = clock
        self._policies = policies
        self._revalidate_budget_s = revalidate_budget_s
        self._header_budget_s = header_budget_s
        self._offline = OfflineImages(manifests=manifests, facts=facts)
        self._as_of = AsOf(manifests=manifests, facts=facts, offline=self._offline)
        self._standing = TagStanding(
            manifests=manifests, facts=facts, exposure=exposure, policies=policies, clock=clock
        )
        self._stale = StaleTags(manifests=manifests, observe=observe)
        self._instead = Instead(self._stale, policies=policies, clock=clock)
        self._questions = TagQuestions(
            manifests=manifests,
            answers=TagAnswers(shared=shared, manifests=manifests, policies=policies, clock=clock),
            facts=facts,
            coordination=coordination,
            observe=observe,
            clock=clock,
            policies=policies,
            negative_s=negative_s,
            pinned=pinned,
        )

    async def serve(
        self,
        upstream: Upstream,
        repository: Repository,
        reference: Reference,
        *,
        body: bool,
        as_of: float | None = None,
    ) -> Served:
        """The manifest; without `body` the descriptor alone may do. `as_of`: by a tag as
        it stood then (seconds since the epoch); None: as the upstream's policy says.

        Raises `UnknownManifest`, `AccessDenied`, `UpstreamUnavailable` (within
        the header budget, over everything that is asked), `StorageUnavailable`.
        """
        served = await self._serve(upstream, repository, reference, body=body, as_of=as_of)
        self._uses.note(upstream, repository, reference, served.manifest)
        return served

    async def held(
        self, upstream: Upstream, repository: Repository, reference: Reference
    ) -> Manifest | None:
        """What is here for a reference, however old; nobody is asked."""
        if isinstance(reference, Tag):
            when = self._policies[upstream.name].as_of
            named = await self._as_of.named(upstream, repository, reference, when)
            if named is None:
                return None
            reference = named
        return await self._manifests.held(upstream, repository, reference)

    async def tags_as_of(
        self, upstream: Upstream, repository: Repository, when: float, held: Iterable[str]
    ) -> list[str]:
        """See `AsOf.tags`."""
        return await self._as_of.tags(upstream, repository, when, held)

    def standing(
        self,
        upstream: Upstream,
        repository: Repository,
        reference: Reference,
        served: Served,
        *,
        as_of: float | None = None,
    ) -> Standing | None:
        """See `TagStanding.of`."""
        found = self._standing.of(upstream, repository, reference, served, as_of=as_of)
        manifest = served.manifest
        if found is None or manifest is None:
            return None

        def touch() -> None:
            self._uses.note(upstream, repository, reference, manifest)

        return Standing(touch=touch).on(found)

    async def aclose(self) -> None:
        """Stop asking."""
        await self._questions.aclose()

    async def _serve(
        self,
        upstream: Upstream,
        repository: Repository,
        reference: Reference,
        *,
        body: bool,
        as_of: float | None,
    ) -> Served:
        async with answer_within(self._header_budget_s, upstream):
            await self._exposure.check(upstream, repository, "manifests", str(reference))
            if isinstance(reference, Tag):
                when = self._policies[upstream.name].as_of if as_of is None else as_of
                if when is not None:
                    return await self._as_of.serve(upstream, repository, reference, when, body=body)
            if upstream.offline:
                return await self._offline.serve(upstream, repository, reference)
            match reference:
                case Digest():
                    return await self._by_digest(upstream, repository, reference)
                case Tag() if not self._policies[upstream.name].of(repository, reference).cached:
                    return await self._questions.uncached(
                        upstream, repository, reference, body=body
                    )
                case Tag():
                    return await self._by_tag(upstream, repository, reference, body=body)

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
        policy = self._policies[upstream.name].of(repository, tag)
        record = await self._facts.tag(upstream, repository, tag)
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
        spared = await self._instead.spared(upstream, repository, record, None)
        if spared is not None:
            return spared
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
            return await self._instead.of(upstream, repository, record, error)
        return Served(manifest.descriptor, manifest, outcome)

    async def _moved(
        self, upstream: Upstream, repository: Repository, tag: Tag, new: TagRecord, *, body: bool
    ) -> Served:
        """The new image; the old one, whose record has not moved, is better than none."""
        record = await self._facts.tag(upstream, repository, tag)
        if record is not None:
            spared = await self._instead.spared(upstream, repository, record, new.current)
            if spared is not None:
                return spared
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
            return await self._instead.of(upstream, repository, record, error)
        return await self._questions.follow(upstream, repository, tag, new, body=body)
