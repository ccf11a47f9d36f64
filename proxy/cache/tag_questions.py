"""Asking an upstream what a tag names, and writing down what it said.

Once for all who ask at the same time. A tag record moves only after its manifest
is stored, so it never names what can't be served; one that came by HEAD alone is
noted until somebody fetches the manifest. A schema 1 manifest can't be verified,
is not kept, and therefore moves no record.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from proxy.cache import noted
from proxy.cache.content import Outcome
from proxy.cache.facts import Facts
from proxy.cache.freshness import (
    Confirmed,
    Fail,
    Gone,
    Move,
    Policy,
    Stale,
    after,
    moved,
)
from proxy.cache.manifests import ManifestCache, Served
from proxy.cache.pin_records import name_of
from proxy.cache.records import TagRecord
from proxy.cache.single import SingleFlight
from proxy.cache.tag_answers import TagAnswers
from proxy.errors import (
    AccessDenied,
    QuotaKept,
    UnknownManifest,
    UpstreamLimited,
    UpstreamUnavailable,
)
from proxy.events import TagMoved
from proxy.oci.manifests import SCHEMA1_TYPES, Descriptor, Manifest
from proxy.oci.names import Repository, Tag
from proxy.ports import Clock, Coordination, Observe, Upstream

_ABSENT = b"absent"
Decision = Confirmed | Move | Stale | Gone | Fail
Answer = Descriptor | AccessDenied | UpstreamUnavailable | None


class TagQuestions:
    """All that is asked of upstreams about tags."""

    def __init__(
        self,
        *,
        manifests: ManifestCache,
        answers: TagAnswers,
        facts: Facts,
        coordination: Coordination,
        observe: Observe,
        clock: Clock,
        policies: Mapping[str, Policy],
        negative_s: float,
        pinned: Callable[[str], bool],
    ) -> None:
        self._pinned = pinned
        self._manifests = manifests
        self._answers = answers
        self._facts = facts
        self._coordination = coordination
        self._observe = observe
        self._clock = clock
        self._policies = policies
        self._negative_s = negative_s
        self._flights = SingleFlight()

    async def revalidate(self, upstream: Upstream, repository: Repository, tag: Tag) -> Decision:
        """What to do with a record that is no longer fresh, now that it was asked."""
        try:
            return await self._flights.join(
                ("tag", upstream.name, repository, tag),
                lambda: self._revalidate(upstream, repository, tag),
            )
        except QuotaKept as error:
            record = await self._facts.latest_tag(upstream, repository, tag)
            name = name_of(upstream.name, repository, tag)
            return self._decision(upstream, name, record, error, self._clock())

    async def first(
        self, upstream: Upstream, repository: Repository, tag: Tag, *, body: bool
    ) -> Served:
        """A tag of which nothing is known.

        Raises `UnknownManifest`, `AccessDenied`, `UpstreamUnavailable`.
        """
        absence = f"absent/{upstream.name}/{repository}/manifests/{tag}"
        unknown = UnknownManifest(f"{upstream.name} has no tag {tag} in {repository}")
        if await self._coordination.get(absence) is not None:
            raise unknown
        key = ("first", upstream.name, repository, tag, body)
        joined = self._flights.running(key)
        found = await self._flights.join(
            key, lambda: self._first(upstream, repository, tag, body=body)
        )
        if found is None:
            await self._coordination.put(absence, _ABSENT, ttl_s=self._negative_s)
            raise unknown
        outcome: Outcome = "join" if joined else "miss"
        if isinstance(found, Manifest):
            return Served(found.descriptor, found, outcome)
        return Served(found, None, outcome)

    async def uncached(
        self, upstream: Upstream, repository: Repository, tag: Tag, *, body: bool
    ) -> Served:
        """A tag of which nothing is to be written down; what it names is content as any.

        Raises `UnknownManifest`, `AccessDenied`, `UpstreamUnavailable`.
        """
        key = ("uncached", upstream.name, repository, tag)
        joined = self._flights.running(key)
        told = await self._flights.join(
            key, lambda: self._answers.resolve(upstream, repository, tag)
        )
        found: Descriptor | Manifest | None = told.found
        outcome: Outcome = "join" if joined else "miss"
        if found is None:
            raise UnknownManifest(f"{upstream.name} has no tag {tag} in {repository}")
        if isinstance(found, Descriptor):
            if not body:
                return Served(found, None, outcome)
            found, _ = await self._manifests.get(upstream, repository, found.digest)
        return Served(found.descriptor, found, outcome)

    async def follow(
        self, upstream: Upstream, repository: Repository, tag: Tag, new: TagRecord, *, body: bool
    ) -> Served:
        """The tag names something new: first the manifest, then the record.

        Raises as `ManifestCache.get`; then the record has not moved.
        """
        digest = new.current.digest
        if not body and await self._manifests.held(upstream, repository, digest) is None:
            await noted.note(self._coordination, upstream, repository, tag, digest)
            return Served(new.current, None, "miss")
        manifest, outcome = await self._manifests.get(upstream, repository, digest)
        await self._move(upstream, repository, tag, new)
        return Served(manifest.descriptor, manifest, outcome)

    async def fetched(
        self, upstream: Upstream, repository: Repository, current: Descriptor
    ) -> None:
        """A manifest was stored: move the tags that were waiting for it."""
        for tag in await noted.take(self._coordination, upstream, repository, current.digest):
            record = await self._facts.tag(upstream, repository, tag)
            new = moved(record, current, url=upstream.url, now=self._clock())
            await self._move(upstream, repository, tag, new)

    async def aclose(self) -> None:
        """Stop asking."""
        await self._flights.aclose()

    async def _revalidate(self, upstream: Upstream, repository: Repository, tag: Tag) -> Decision:
        record = await self._facts.tag(upstream, repository, tag)
        answer: Answer
        found: Descriptor | Manifest | None = None
        now = self._clock()
        try:
            told = await self._answers.resolve(upstream, repository, tag)
            found, now = told.found, told.at
            answer = found.descriptor if isinstance(found, Manifest) else found
        except QuotaKept:
            raise  # No answer to who joined and is more urgent: they ask once more.
        except (AccessDenied, UpstreamUnavailable) as error:
            answer = error
            # Another replica may have had an answer that never came here.
            record = await self._facts.latest_tag(upstream, repository, tag)
        name = name_of(upstream.name, repository, tag)
        decision = self._decision(upstream, name, record, answer, now)
        match decision:
            case Confirmed():
                await self._facts.confirm_tag(upstream, repository, tag, now)
            case Gone():
                await self._facts.forget_tag(upstream, repository, tag, now)
            case Move(new) if isinstance(found, Manifest):
                await self._manifests.keep(upstream, repository, found)
                await self._move(upstream, repository, tag, new)
            case _:
                pass
        return decision

    def _decision(
        self,
        upstream: Upstream,
        name: str,
        record: TagRecord | None,
        answer: Answer,
        now: float,
    ) -> Decision:
        return after(
            record,
            answer,
            url=upstream.url,
            now=now,
            policy=self._policies[upstream.name],
            limited=isinstance(answer, UpstreamLimited),
            pinned=self._pinned(name),
        )

    async def _first(
        self, upstream: Upstream, repository: Repository, tag: Tag, *, body: bool
    ) -> Descriptor | Manifest | None:
        ask = self._answers.fetch if body else self._answers.resolve
        told = await ask(upstream, repository, tag)
        found = told.found
        if isinstance(found, Descriptor):
            held = await self._manifests.held(upstream, repository, found.digest)
            if held is None and not body:
                await noted.note(self._coordination, upstream, repository, tag, found.digest)
                return found
            if held is None:
                held, _ = await self._manifests.get(upstream, repository, found.digest)
            found = held
        if found is None:
            return None
        await self._manifests.keep(upstream, repository, found)
        record = moved(None, found.descriptor, url=upstream.url, now=told.at)
        await self._move(upstream, repository, tag, record)
        return found

    async def _move(
        self, upstream: Upstream, repository: Repository, tag: Tag, new: TagRecord
    ) -> None:
        """Write the record, once for all who heard of the same move."""
        if new.current.media_type in SCHEMA1_TYPES:
            return
        known = await self._facts.tag(upstream, repository, tag)
        if known is not None:
            # While our manifest was on its way, a later answer may have moved it
            # on. (A time that lies ahead was written under a wrong clock.)
            overtaken = new.checked_at < known.checked_at <= self._clock()
            if overtaken or known.current.digest == new.current.digest:
                return
        before = None if known is None else known.previous
        await self._facts.move_tag(upstream, repository, tag, new)
        self._observe(
            TagMoved(
                upstream=upstream.name,
                repository=repository,
                tag=tag,
                digest=str(new.current.digest),
                back=before is not None and before.digest == new.current.digest,
            )
        )
