"""What a tag named, and when: for `entrepot history`.

What changed with a move is read off the manifests of both sides, where they are still
here. Nothing is fetched for it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from proxy.cache.assembly import Cache
from proxy.cache.pin_records import name_of
from proxy.errors import BadUpstreamAnswer, InvalidTag
from proxy.naming import Names, for_platform, own_platform
from proxy.oci.digest import Digest
from proxy.oci.manifests import INDEX_TYPES, Descriptor, children
from proxy.oci.names import Repository
from proxy.ports import Upstream

MOVES_MAX = 100


class Historian:
    """Answers for one running replica. May raise `StorageUnavailable`."""

    def __init__(self, names: Names, cache: Cache, upstreams: Mapping[str, Upstream]) -> None:
        self._names = names
        self._facts = cache.facts
        self._manifests = cache.manifests
        self._upstreams = upstreams

    async def document(
        self, image: str, *, platform: str | None = None, newest: int = MOVES_MAX
    ) -> dict[str, Any]:
        """The newest moves, oldest first; times in seconds since the epoch.

        Raises `InvalidRequest` (`InvalidTag` for a digest), `UnknownUpstream`.
        """
        route, _ = self._names.understood(image)
        tag, upstream = route.reference, self._upstreams[route.upstream]
        if isinstance(tag, Digest):
            raise InvalidTag("a digest names the same for ever; only tags have a history")
        known = await self._facts.tag(upstream, route.repository, tag)
        moves = await self._facts.history.moves(
            upstream.name,
            upstream.url,
            route.repository,
            tag,
            known=known,
            newest=newest + 1,
        )
        platform = platform or own_platform()
        return {
            "image": name_of(upstream.name, route.repository, tag),
            "platform": platform,
            "earlier": len(moves) > newest,
            "moves": [
                {
                    "at": move.at,
                    "before": _digest(move.before),
                    "after": _digest(move.after),
                    "changed": await self._changed(
                        upstream, route.repository, move.before, move.after, platform
                    ),
                }
                for move in moves[-newest:]
            ],
        }

    async def _changed(
        self,
        upstream: Upstream,
        repository: Repository,
        before: Descriptor | None,
        after: Descriptor | None,
        platform: str,
    ) -> dict[str, int] | None:
        """By layers and configs of one platform; None if not both sides are known."""
        if before is None or after is None:
            return None
        old = await self._blobs(upstream, repository, before.digest, platform)
        new = await self._blobs(upstream, repository, after.digest, platform)
        if old is None or new is None:
            return None
        added, removed = new.keys() - old.keys(), old.keys() - new.keys()
        return {
            "layers_added": len(added),
            "layers_removed": len(removed),
            "layers_kept": len(new.keys() & old.keys()),
            "bytes_added": sum(new[one] for one in added),
            "bytes_removed": sum(old[one] for one in removed),
        }

    async def _blobs(
        self, upstream: Upstream, repository: Repository, digest: Digest, platform: str
    ) -> dict[Digest, int] | None:
        """The layers' sizes by digest, as far as their manifest is here."""
        held = await self._manifests.held(upstream, repository, digest)
        if held is None:
            return None
        try:
            if held.descriptor.media_type in INDEX_TYPES:
                chosen = for_platform(held.body, platform)
                if chosen is None or chosen == digest:
                    return None
                held = await self._manifests.held(upstream, repository, chosen)
                if held is None:
                    return None
            needed = children(held)
        except (BadUpstreamAnswer, ValueError, KeyError, TypeError):
            return None
        return {one.digest: one.size for one in needed.blobs[1:]}


def _digest(descriptor: Descriptor | None) -> str | None:
    return None if descriptor is None else str(descriptor.digest)
