"""What tags there are, by the records of this store; read without being remembered."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping

from proxy.cache import keys
from proxy.cache.pin_records import name_of
from proxy.cache.records import decode_referrers, decode_tag
from proxy.errors import InvalidRequest
from proxy.keeping.images import Named
from proxy.oci.digest import Digest
from proxy.oci.listings import fallback_tag, referrer_of, signature_tags
from proxy.oci.manifests import Descriptor
from proxy.oci.names import Repository, Tag
from proxy.ports import Records, Upstream

# Keys in a row that are no tags before it is worth asking for what lies behind them.
_SKIP_AFTER = 2000


class Recorded:
    """Reads. Methods raise `StorageUnavailable`."""

    def __init__(self, records: Records, upstreams: Mapping[str, Upstream]) -> None:
        self._records = records
        self._upstreams = upstreams

    async def tags(self, upstream: Upstream) -> AsyncIterator[tuple[Repository, Tag]]:
        """All tags that are recorded of an upstream, those of a repository together."""
        prefix, after = keys.repositories(upstream.name), ""
        while True:
            others, behind = 0, ""
            listing = self._records.list(prefix, after=after)
            async for key in listing:
                name, _, rest = key[len(prefix) + 1 :].partition("/_")
                kind, _, last = rest.partition("/")
                if kind == "tags":
                    others = 0
                    try:
                        found = Repository.parse(name), Tag.parse(last)
                    except InvalidRequest:
                        continue
                    yield found
                    continue
                others += 1
                if others >= _SKIP_AFTER:
                    # "0" is the character after "/".
                    behind = f"{prefix}/{name}/_{kind}0"
                    break
            if isinstance(listing, AsyncGenerator):
                await listing.aclose()
            if not behind:
                return
            after = behind

    async def named(
        self, upstream: Upstream, repository: Repository, tag: Tag, *, latest: bool = False
    ) -> Named | None:
        """What the tag names here; with `latest` past what this replica remembers."""
        read = self._records.latest if latest else self._records.get
        found = await read(keys.tag(upstream.name, repository, tag))
        record = None if found is None else decode_tag(found.value, upstream.url)
        if record is None:
            return None
        return Named(upstream=upstream, repository=repository, tag=tag, record=record)

    async def all(
        self, *, wanted: Callable[[str], bool] | None = None, latest: bool = False
    ) -> AsyncIterator[Named]:
        """Every tag of every upstream whose full name is `wanted`."""
        for upstream in self._upstreams.values():
            async for repository, tag in self.tags(upstream):
                if wanted is not None and not wanted(name_of(upstream.name, repository, tag)):
                    continue
                named = await self.named(upstream, repository, tag, latest=latest)
                if named is not None:
                    yield named

    async def about(
        self, upstream: Upstream, repository: Repository, digest: Digest
    ) -> list[Named]:
        """The tags that only say what they are about: a digest's signatures and the like."""
        tags = (fallback_tag(digest), *signature_tags(digest))
        found = [await self.named(upstream, repository, tag) for tag in tags]
        return [one for one in found if one is not None]

    async def referring(
        self, upstream: Upstream, repository: Repository, digest: Digest
    ) -> list[Descriptor]:
        """What refers to a digest (signatures, say), as last fetched."""
        found = await self._records.get(keys.referrers(upstream.name, repository, digest))
        record = None if found is None else decode_referrers(found.value, upstream.url)
        told = () if record is None else record.descriptors
        return [one for one in map(referrer_of, told) if one is not None]
