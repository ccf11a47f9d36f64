"""Pinning by name: what an image or a pattern means now, and what it means later.

A pin lists digests (`cache/pins.py`); here they are found, and found again when more of
an image has come or its tag has moved. Of a tag that moved the old image stays pinned
until whoever could be served with it can be served with the new one. A pattern is
expanded into pins of images, now and then and as soon as a tag that it matches is
pulled or moves, by whatever way; those of tags that are gone go with them.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass

from proxy.cache.assembly import Cache
from proxy.cache.globs import is_pattern, matches
from proxy.cache.pin_records import Pin, PinnedImage, Source, name_of
from proxy.cache.pin_store import Unwritten
from proxy.cache.records import TagRecord
from proxy.cache.uses import Use
from proxy.cache.vouching import group_of
from proxy.keeping.images import Named
from proxy.keeping.recorded import Recorded
from proxy.keeping.shelf import Shelf
from proxy.naming import Names
from proxy.oci.digest import Digest
from proxy.oci.listings import subject_of
from proxy.oci.manifests import Descriptor
from proxy.oci.names import Repository, Tag, parse_reference
from proxy.ports import Upstream


@dataclass(frozen=True, slots=True)
class Pinned:
    """What a command did: one pin, and what its name means here; None for a pattern, and
    for an image that was never seen. trouble: why it does not outlast a restart, if so.
    """

    pin: Pin
    named: Named | None
    trouble: str = ""


class Pinning:
    """Methods raise `StorageUnavailable`."""

    def __init__(
        self,
        cache: Cache,
        *,
        shelf: Shelf,
        recorded: Recorded,
        names: Names,
        upstreams: Mapping[str, Upstream],
    ) -> None:
        self._facts = cache.facts
        self.pins = cache.pins
        self._shelf = shelf
        self._recorded = recorded
        self._names = names
        self._upstreams = upstreams
        self._turn = asyncio.Lock()

    async def pin(self, text: str, *, source: Source) -> AsyncIterator[Pinned]:
        """An image or a pattern; of a pattern all that it means now. Raises
        `InvalidRequest`, `UnknownUpstream`.
        """
        if is_pattern(text):
            wanted = Pin(name=text, source=source, pinned_at=self.pins.now())
            yield await self._put(wanted, None)
            async for found in self._expand(text, source):
                yield found
            return
        route, _ = self._names.understood(text)
        upstream = self._upstreams[route.upstream]
        async with self._turn:
            yield await self._pin(upstream, route.repository, str(route.reference), source, "")

    async def unpin(self, text: str, *, sources: frozenset[Source]) -> list[Pin]:
        """The pins of an image or a pattern, with what the pattern had found; those that
        went. Raises `InvalidRequest`, `UnknownUpstream`.
        """
        name = text if is_pattern(text) else self.full_name(text)
        async with self._turn:
            going = [
                pin
                for pin in self.pins.all()
                if pin.source in sources
                and ((pin.name == name and not pin.pattern) or pin.pattern == name)
            ]
            await self.pins.remove(going)
        return [pin for pin in going if not pin.pattern]

    def full_name(self, text: str) -> str:
        """Of an image. Raises `InvalidRequest`, `UnknownUpstream`."""
        route, _ = self._names.understood(text)
        return name_of(route.upstream, route.repository, route.reference)

    async def configured(self, texts: tuple[str, ...]) -> None:
        """Make the pins of the configuration these. Raises `InvalidRequest`,
        `UnknownUpstream`.
        """
        wanted = {text if is_pattern(text) else self.full_name(text) for text in texts}
        has = {pin.name for pin in self.pins.all() if pin.source == "config" and not pin.pattern}
        for name in sorted(has - wanted):
            await self.unpin(name, sources=frozenset({"config"}))
        for name in sorted(wanted - has):
            async for _ in self.pin(name, source="config"):
                pass

    async def used(self, use: Use) -> None:
        """An image was pulled: follow its tag if it has moved, hear of a new one."""
        if isinstance(use.reference, Tag) and use.manifest is not None:
            root = use.manifest.descriptor.digest
            await self._named(use.upstream, use.repository, use.reference, root)

    async def moved(self, upstream: str, repository: Repository, tag: Tag) -> None:
        """As `used`, of a tag that came or moved, for whomever that was."""
        one = self._upstreams.get(upstream)
        named = None if one is None else await self._recorded.named(one, repository, tag)
        if named is not None:
            await self._named(named.upstream, repository, tag, named.current.digest)

    async def _named(
        self, upstream: Upstream, repository: Repository, tag: Tag, root: Digest
    ) -> None:
        if subject_of(tag) is not None:
            return
        name = name_of(upstream.name, repository, tag)
        where = (upstream, repository, str(tag))
        async with self._turn:
            known = self.pins.of(name)
            for pin in known:
                if [image.root for image in pin.images] != [root]:
                    await self._pin(*where, pin.source, pin.pattern)
            patterns = {pin.pattern for pin in known}
            for pin in self.pins.patterns():
                if pin.name not in patterns and matches(pin.name, name):
                    await self._pin(*where, pin.source, pin.name)

    async def follow(self, *, thorough: bool) -> None:
        """Bring all pins up to date: those whose tag has moved or of which more was still
        to come, or, `thorough`, every one, and what patterns mean now.
        """
        await self.pins.refresh()
        growth = self.pins.growth()
        for pin in self.pins.all():
            upstream = self._upstreams.get(pin.upstream)
            if upstream is None or pin.is_pattern:
                continue
            async with self._turn:
                if pin in self.pins.of(pin.name):
                    again = thorough or self.pins.has_grown(pin)
                    await self._follow(pin, upstream, thorough=again)
        self.pins.settled(growth)
        if thorough:
            for pin in self.pins.patterns():
                async for _ in self._expand(pin.name, pin.source):
                    pass

    async def _follow(self, pin: Pin, upstream: Upstream, *, thorough: bool) -> None:
        repository = Repository.parse(pin.repository)
        reference = parse_reference(pin.reference)
        if isinstance(reference, Tag):
            named = await self._recorded.named(upstream, repository, reference)
            if named is None:
                if pin.pattern:
                    await self.pins.remove([pin])
                return
            settled = [named.current.digest] == [image.root for image in pin.images]
        else:
            settled = bool(pin.images)
        if thorough or not settled:
            await self._pin(upstream, repository, pin.reference, pin.source, pin.pattern)

    async def _expand(self, pattern: str, source: Source) -> AsyncIterator[Pinned]:
        for upstream in self._upstreams.values():
            async for repository, tag in self._recorded.tags(upstream):
                name = name_of(upstream.name, repository, tag)
                if subject_of(tag) is not None or not matches(pattern, name):
                    continue
                # One at a time: meanwhile others are pinned, and this may be unpinned.
                async with self._turn:
                    if not any(pin.source == source for pin in self.pins.of(pattern)):
                        return
                    yield await self._pin(upstream, repository, str(tag), source, pattern)

    async def _pin(
        self, upstream: Upstream, repository: Repository, text: str, source: Source, pattern: str
    ) -> Pinned:
        """Pin what the name means now; what it meant before stays while that is not enough."""
        reference = parse_reference(text)
        before = [
            pin
            for pin in self.pins.of(name_of(upstream.name, repository, reference))
            if (pin.source, pin.pattern) == (source, pattern)
        ]
        named, closure = await self._now(upstream, repository, reference)
        old = [one for pin in before for one in pin.images]
        images = tuple(old)
        if named is not None:
            others = [one for one in old if one.root != named.current.digest]
            # What belongs to a digest belongs to it for ever, seen just now or not.
            same = [one for one in old if one.root == named.current.digest]
            closure = tuple(dict.fromkeys((*closure, *(d for one in same for d in one.closure))))
            images = (PinnedImage(closure),)
            if others and not await self._enough(upstream, named.current, others[-1]):
                # Of several moves the last whole one, and the newest.
                images = (*images, others[-1])
        pin = Pin(
            name=name_of(upstream.name, repository, reference),
            source=source,
            pattern=pattern,
            upstream=upstream.name,
            repository=repository,
            reference=text,
            group=group_of(upstream),
            url=upstream.url,
            pinned_at=self.pins.now(),
            images=images,
        )
        return await self._put(pin, named)

    async def _put(self, pin: Pin, named: Named | None) -> Pinned:
        try:
            return Pinned(await self.pins.put(pin), named)
        except Unwritten as error:
            # It holds all the same, and is written as soon as that can be done.
            return Pinned(pin, named, str(error))

    async def _now(
        self, upstream: Upstream, repository: Repository, reference: Tag | Digest
    ) -> tuple[Named | None, tuple[Digest, ...]]:
        if isinstance(reference, Tag):
            named = await self._recorded.named(upstream, repository, reference)
        else:
            named = await self._by_digest(upstream, repository, reference)
        if named is None:
            return None, ()
        image = await self._shelf.whole(named, named.current)
        digests = dict.fromkeys(part.key.digest for part in image.parts)
        for about in await self._recorded.about(upstream, repository, image.root):
            for key in await self._shelf.closure(upstream, about.current):
                digests.setdefault(key.digest)
        return named, tuple(digests)

    async def _by_digest(
        self, upstream: Upstream, repository: Repository, digest: Digest
    ) -> Named | None:
        link = await self._facts.link(upstream, repository, digest)
        if link is None or not link.media_type:
            return None
        current = Descriptor(media_type=link.media_type, digest=digest, size=link.size or 0)
        record = TagRecord(
            url=upstream.url, current=current, previous=None, fetched_at=0, checked_at=0
        )
        # No tag is spelled so; it is nowhere written.
        return Named(upstream=upstream, repository=repository, tag=Tag("@"), record=record)

    async def _enough(self, upstream: Upstream, new: Descriptor, old: PinnedImage) -> bool:
        """Whether the new image can take the old one's place."""
        # Of what kind the old one was its manifest tells.
        before = await self._shelf.image(
            upstream, Descriptor(media_type="", digest=old.root, size=0)
        )
        return (await self._shelf.image(upstream, new)).covers(before)
