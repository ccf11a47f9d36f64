"""May this repository serve a digest whose bytes are here, or on their way, already?

Blobs are shared inside a group, rights are not: before a repository serves what
another one brought, it is asked for it once, by HEAD. A "yes" is a link record
and lasts; a "no" is remembered for seconds, because a push may follow.
"""

from __future__ import annotations

from proxy.cache.facts import Facts
from proxy.cache.flights import Source
from proxy.cache.records import Link
from proxy.cache.single import SingleFlight
from proxy.errors import UnknownBlob, UpstreamUnavailable
from proxy.oci.digest import Digest
from proxy.ports import PUBLIC, BlobStat, Coordination, Upstream

_ABSENT = b"absent"


def group_of(upstream: Upstream) -> str:
    """Where an upstream's blobs are shared: everybody's, or its own."""
    return upstream.name if upstream.credentialed else PUBLIC


class Vouching:
    """Asks and remembers, per repository and digest."""

    def __init__(self, facts: Facts, coordination: Coordination, *, negative_s: float) -> None:
        self._facts = facts
        self._coordination = coordination
        self._negative_s = negative_s
        self._questions = SingleFlight()

    async def vouch(self, source: Source, digest: Digest) -> None:
        """Return if it may. Raises `UnknownBlob`, `AccessDenied`, and, where rights
        count, `UpstreamUnavailable`.
        """
        upstream, repository = source.upstream, source.repository
        if self._facts.link_known(upstream, repository, digest) is not None:
            return
        if await self._facts.link(upstream, repository, digest) is not None:
            return
        try:
            await self.ask(source, digest)
        except UpstreamUnavailable:
            # Anybody may have these bytes anyway; only the group's own are guarded.
            if group_of(upstream) != PUBLIC:
                raise

    async def ask(self, source: Source, digest: Digest) -> BlobStat:
        """One HEAD for all who ask.

        Raises `UnknownBlob`, `AccessDenied`, `UpstreamUnavailable`.
        """
        await self.raise_if_known_absent(source, digest)
        return await self._questions.join((source, digest), lambda: self._head(source, digest))

    async def _head(self, source: Source, digest: Digest) -> BlobStat:
        upstream, repository = source.upstream, source.repository
        found = await upstream.stat_blob(repository, digest)
        if found is None:
            await self.remember_absent(source, digest)
            raise UnknownBlob(f"{upstream.name} has no blob {digest} in {repository}")
        link = Link(url=upstream.url, media_type="", size=found.size)
        await self._facts.put_link(upstream, repository, digest, link)
        return found

    async def raise_if_known_absent(self, source: Source, digest: Digest) -> None:
        """Raises `UnknownBlob` while a "no" is remembered."""
        if await self._coordination.get(_absence_key(source, digest)) is not None:
            raise UnknownBlob(f"{source.upstream.name} has no blob {digest} in {source.repository}")

    async def remember_absent(self, source: Source, digest: Digest) -> None:
        """The upstream said that it has no such blob there."""
        key = _absence_key(source, digest)
        await self._coordination.put(key, _ABSENT, ttl_s=self._negative_s)

    async def aclose(self) -> None:
        """Stop asking."""
        await self._questions.aclose()


def _absence_key(source: Source, digest: Digest) -> str:
    return f"absent/{source.upstream.name}/{source.repository}/blobs/{digest}"
