"""`ls`: the images that are held, one document each; and what a word on it means."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping

from proxy.cache.freshness import Fresh, Policy, before
from proxy.cache.globs import is_pattern, matches
from proxy.cache.pin_records import name_of
from proxy.cache.pins import Pins
from proxy.errors import InvalidRequest
from proxy.keeping.images import Image, Named
from proxy.keeping.pulls import Pulls
from proxy.keeping.recorded import Recorded
from proxy.keeping.shelf import Shelf
from proxy.naming import Names
from proxy.oci.digest import Digest
from proxy.oci.listings import subject_of
from proxy.ports import Clock


class Listing:
    """Reads. Methods raise `StorageUnavailable`."""

    def __init__(
        self,
        *,
        shelf: Shelf,
        recorded: Recorded,
        pulls: Pulls,
        pins: Pins,
        names: Names,
        policies: Mapping[str, Policy],
        clock: Clock,
    ) -> None:
        self._shelf = shelf
        self._recorded = recorded
        self._pulls = pulls
        self._pins = pins
        self._names = names
        self._policies = policies
        self._clock = clock

    def wanted(self, text: str) -> Callable[[str], bool]:
        """Whether a full name is meant by `text`: nothing (all), a pattern, an image, or a
        repository without a tag (all of its tags). Raises `InvalidRequest`,
        `UnknownUpstream`.
        """
        if not text:
            return lambda _name: True
        if is_pattern(text):
            return lambda name: matches(text, name)
        route, _ = self._names.understood(text)
        if isinstance(route.reference, Digest):
            raise InvalidRequest("tags are listed and removed; name it without the digest")
        if ":" in text.rpartition("/")[2]:
            exact = name_of(route.upstream, route.repository, route.reference)
            return lambda name: name == exact
        stem = f"{route.upstream}/{route.repository}:"
        return lambda name: name.startswith(stem)

    async def images(self, text: str) -> AsyncIterator[dict[str, object]]:
        """Those that `text` means; signatures are with what they are of. Raises as `wanted`."""
        wanted = self.wanted(text)
        async for named in self._recorded.all(wanted=wanted):
            if subject_of(named.tag) is None:
                image = await self._shelf.image(named.upstream, named.current)
                yield await self._document(named, image)

    async def _document(self, named: Named, image: Image) -> dict[str, object]:
        policy = self._policies[named.upstream.name].of(named.repository, named.tag)
        now = self._clock()
        return {
            "image": named.name,
            "digest": str(image.root),
            "state": image.state,
            "platforms": image.platforms,
            "bytes": sum(part.size for part in image.parts),
            "here_bytes": image.here_bytes,
            "pulled_at": await self._pulls.last(named),
            "since": named.record.fetched_at,
            "fresh": isinstance(before(named.record, now=now, policy=policy), Fresh),
            "pinned": sorted({pin.source for pin in self._pins.keeping(named.name)}),
        }
