"""Tags as they stood at a moment, by their history here.

The upstream is never asked what a tag names, and no record is moved: only content is
brought, by digest, if it is not here any more. What had not been seen here by that
moment is unknown, and when it was first seen is said.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime

from proxy.cache.facts import Facts
from proxy.cache.history import Then
from proxy.cache.manifests import ManifestCache, Served, unfinishable
from proxy.cache.offline import OfflineImages
from proxy.errors import UnknownManifest
from proxy.oci.digest import Digest
from proxy.oci.names import Repository, Tag
from proxy.ports import Upstream

# How long an answer may be repeated without a look; history before then does not change,
# but somebody may remove it.
REPEATED_S = 60.0


class AsOf:
    """Answers by history. May raise `StorageUnavailable`."""

    def __init__(self, *, manifests: ManifestCache, facts: Facts, offline: OfflineImages) -> None:
        self._manifests = manifests
        self._facts = facts
        self._offline = offline

    async def serve(
        self, upstream: Upstream, repository: Repository, tag: Tag, when: float, *, body: bool
    ) -> Served:
        """What the tag named at `when` (seconds since the epoch).

        Raises `UnknownManifest`, `AccessDenied`, `UpstreamUnavailable`.
        """
        then = await self._at(upstream, repository, tag, when)
        named = then.named
        if named is None:
            raise UnknownManifest(_unknown(f"{upstream.name}/{repository}:{tag}", then, when))
        if upstream.offline:
            name = f"{upstream.name}/{repository}:{tag} as of {spelled(when)}"
            return await self._offline.whole(upstream, repository, named.digest, name)
        held = await self._manifests.held(upstream, repository, named.digest)
        if held is not None:
            if not await self._manifests.finishable(upstream, repository, held):
                raise unfinishable(upstream, repository)
            return Served(held.descriptor, held, "hit")
        if not body:
            return Served(named, None, "hit")
        manifest, outcome = await self._manifests.get(upstream, repository, named.digest)
        return Served(manifest.descriptor, manifest, outcome)

    async def named(
        self, upstream: Upstream, repository: Repository, tag: Tag, when: float | None
    ) -> Digest | None:
        """What the tag named at `when`, or names now as far as is known here (None)."""
        if when is not None:
            then = (await self._at(upstream, repository, tag, when)).named
            return None if then is None else then.digest
        record = await self._facts.tag(upstream, repository, tag)
        return None if record is None else record.current.digest

    async def tags(
        self, upstream: Upstream, repository: Repository, when: float, held: Iterable[str]
    ) -> list[str]:
        """Those that there were at `when`; `held`: those that there are records of."""
        names = set(held)
        async for tag in self._facts.history.tags(upstream.name, repository):
            names.add(tag)
        found: list[str] = []
        for name in sorted(names):
            then = await self._at(upstream, repository, Tag.parse(name), when)
            if then.named is not None:
                found.append(name)
        return found

    async def _at(self, upstream: Upstream, repository: Repository, tag: Tag, when: float) -> Then:
        known = await self._facts.tag(upstream, repository, tag)
        history = self._facts.history
        return await history.at(upstream.name, upstream.url, repository, tag, when, known=known)


def spelled(at: float) -> str:
    """A time in words, to the second, UTC."""
    return datetime.fromtimestamp(at // 1, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _unknown(name: str, then: Then, when: float) -> str:
    moment = f"tags are served here as of {spelled(when)}"
    if then.since is not None:
        return f"{name} was gone by {spelled(then.since)}; {moment}"
    if then.first_at is not None:
        return f"{name} was first seen here at {spelled(then.first_at)}; {moment}"
    return f"{name} was never seen here; {moment}"
