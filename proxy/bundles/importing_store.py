"""What an import asks of storage and writes to it. Everything that is written is durable
when the call returns, or it raises `StorageUnavailable`.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager

from proxy.bundles import words
from proxy.bundles.contents import Contents, Place
from proxy.bundles.importing_closure import Brought
from proxy.cache import keys
from proxy.cache.exposure import Expose
from proxy.cache.facts import Facts
from proxy.cache.fleet import Fleet
from proxy.cache.local import LocalBlobs
from proxy.cache.pin_records import Pin, name_of
from proxy.cache.pins import Pins
from proxy.cache.records import Link, ReferrersRecord, encode_link, encode_referrers
from proxy.cache.small_store import SmallStore
from proxy.errors import BadBundle, EntrepotError, NoSpace, StorageUnavailable
from proxy.oci.digest import Digest
from proxy.ports import BlobKey, Clock, Records, Upstream

_AT_ONCE = 16


class ImportStore:
    """Reads and writes for `Importing`."""

    def __init__(
        self,
        *,
        local: LocalBlobs,
        lacking_bytes: Callable[[int], int],
        small: SmallStore,
        fleet: Fleet,
        records: Records,
        facts: Facts,
        pins: Pins,
        expose: Mapping[str, Expose],
        clock: Clock,
    ) -> None:
        """`lacking_bytes`: how many must go before so many more fit; may raise OSError."""
        self._local = local
        self._lacking_bytes = lacking_bytes
        self._small = small
        self._fleet = fleet
        self._records = records
        self._facts = facts
        self._pins = pins
        self._expose = expose
        self._clock = clock

    async def lacking(self, wanted: Mapping[BlobKey, int]) -> dict[BlobKey, int]:
        """Those that are neither here nor in the durable store. Raises `StorageUnavailable`."""
        found: dict[BlobKey, int] = {}

        async def look(key: BlobKey, size: int) -> None:
            if not await self._holds(key, size):
                found[key] = size

        await _all(look(key, size) for key, size in wanted.items())
        return {key: size for key, size in wanted.items() if key in found}

    async def reserve(self, size: int) -> None:
        """Set room aside. Raises `NoSpace`, telling how much is lacking."""
        try:
            await self._local.reserve(size)
        except NoSpace as error:
            try:
                lacking = self._lacking_bytes(size)
            except OSError:
                raise error from None
            raise NoSpace(
                f"the bundle brings {words.size(size)} that are not here, and there is no room "
                f"for {words.size(min(lacking, size))} of them: nothing was written"
            ) from error

    def unreserve(self, size: int) -> None:
        """Give room back."""
        self._local.unreserve(size)

    async def manifest(self, group: str, digest: Digest) -> bytes:
        """Its verified bytes. Raises `BadBundle`."""
        body = await self._small.get(BlobKey(group, digest))
        if body is None or not digest.matches(body):
            raise BadBundle(f"{digest} is not here, or is too long for a manifest")
        return body

    async def write(self, brought: Brought, upstreams: Mapping[Place, Upstream]) -> None:
        """What repositories may serve and what refers to what. Raises `StorageUnavailable`."""
        await _all(
            self._link(upstreams[place], place, digest, descriptor.media_type, descriptor.size)
            for place, links in brought.links.items()
            for digest, descriptor in links.items()
        )
        await _all(
            self._referrers(upstreams[place], place, subject, found)
            for (place, subject), found in brought.referrers.items()
        )

    @asynccontextmanager
    async def pinned(
        self, contents: Contents, brought: Brought, upstreams: Mapping[Place, Upstream]
    ) -> AsyncIterator[None]:
        """Keep every image from eviction and removal; where what is done within fails, pins
        are again what they were. Raises `StorageUnavailable`.
        """
        whole = [
            (image.place, image.descriptor.digest if image.tag is None else image.tag, closure)
            for image, closure in zip(contents.images, brought.closures, strict=True)
        ]
        names = {
            name_of(upstreams[place].name, place.repository, reference)
            for place, reference, _ in whole
        }
        before = self._imported(names)
        try:
            for place, reference, closure in whole:
                await self._pins.pin(
                    upstreams[place],
                    place.repository,
                    reference,
                    source="import",
                    closure=closure,
                )
            yield
        except EntrepotError:
            # What can't be undone keeps too much, and the next import replaces it.
            with contextlib.suppress(StorageUnavailable):
                old = {pin.identity for pin in before}
                new = [pin for pin in self._imported(names) if pin.identity not in old]
                await self._pins.remove(new)
                for pin in before:
                    await self._pins.put(pin)
            raise

    def _imported(self, names: Iterable[str]) -> list[Pin]:
        return [
            pin
            for name in names
            for pin in self._pins.of(name)
            if pin.source == "import" and not pin.pattern
        ]

    async def have(self, brought: Mapping[BlobKey, int]) -> set[Digest]:
        """What is here of all that came with bundles: is pinned, or was `brought` just now,
        with its size. Raises `StorageUnavailable`.
        """
        await self._pins.refresh()
        came = {
            BlobKey(pin.group, digest): -1
            for pin in self._pins.all()
            if pin.source == "import"
            for image in pin.images
            for digest in image.closure
        }
        came |= brought
        lacking = await self.lacking(came)
        return {key.digest for key in came} - {key.digest for key in lacking}

    async def hidden(self, upstreams: Mapping[Place, Upstream]) -> Sequence[str]:
        """What nobody will be shown, in words."""
        return [
            f"{name} has credentials here, so its images are shown only as far as it can be "
            "asked whether they are public; see its `expose`"
            for name in sorted({one.name for one in upstreams.values() if one.credentialed})
            if self._expose.get(name, "public") == "public"
        ]

    async def _holds(self, key: BlobKey, size: int) -> bool:
        """`size` -1: of any."""
        found = await self._local.stat(key)
        if found is None and self._fleet.durable is not None:
            # While that store is away, blobs are kept here and stored later.
            with contextlib.suppress(StorageUnavailable):
                found = await self._fleet.durable.stat(key)
        return found is not None and size in {found, -1}

    async def _link(
        self, upstream: Upstream, place: Place, digest: Digest, media_type: str, size: int
    ) -> None:
        known = await self._facts.link(upstream, place.repository, digest)
        if known is not None and (known.media_type or not media_type):
            return
        key = keys.link(upstream.name, place.repository, digest)
        link = Link(url=upstream.url, media_type=media_type, size=size)
        await self._records.put(key, encode_link(link))
        self._facts.forget(key)

    async def _referrers(
        self, upstream: Upstream, place: Place, subject: Digest, found: list[dict[str, object]]
    ) -> None:
        known = await self._facts.referrers(upstream, place.repository, subject)
        by_digest = {one.get("digest"): one for one in ([] if known is None else known.descriptors)}
        by_digest |= {one["digest"]: one for one in found}
        record = ReferrersRecord(
            url=upstream.url, fetched_at=self._clock(), descriptors=tuple(by_digest.values())
        )
        key = keys.referrers(upstream.name, place.repository, subject)
        await self._records.put(key, encode_referrers(record))
        self._facts.forget(key)


async def _all(work: Iterable[Coroutine[None, None, None]]) -> None:
    """All of it, some at a time. Raises what the first of them raises, when none runs on."""
    todo = iter(work)
    first: list[StorageUnavailable] = []

    async def some() -> None:
        for one in todo:
            if first:
                one.close()
                continue
            try:
                await one
            except StorageUnavailable as error:
                first.append(error)

    async with asyncio.TaskGroup() as group:
        for _ in range(_AT_ONCE):
            group.create_task(some())
    if first:
        raise first[0]
