"""What commands ask of keeping: pins, lists and removals, a document for each image."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable

from proxy.cache.globs import is_pattern
from proxy.cache.pin_records import Pin, Source
from proxy.cache.pins import Pins
from proxy.errors import InvalidRequest, UnknownUpstream
from proxy.keeping.images import Named
from proxy.keeping.listing import Listing
from proxy.keeping.pinning import Pinned, Pinning
from proxy.keeping.pulls import Pulls
from proxy.keeping.recorded import Recorded
from proxy.keeping.removal import Removal, Target
from proxy.keeping.shelf import Shelf

_BY_HAND: frozenset[Source] = frozenset({"cli", "import"})

Lines = AsyncGenerator[dict[str, object], None]
"""The last has `done` and the sums."""


class Commands:
    """Raise `StorageUnavailable`."""

    def __init__(
        self,
        *,
        pins: Pins,
        pinning: Pinning,
        listing: Listing,
        removal: Removal,
        recorded: Recorded,
        pulls: Pulls,
        shelf: Shelf,
    ) -> None:
        self._pins = pins
        self._pinning = pinning
        self._listing = listing
        self._removal = removal
        self._recorded = recorded
        self._pulls = pulls
        self._shelf = shelf
        # Awaited before images are listed or go, so that the last pulls are known.
        self.before: Callable[[], Awaitable[None]] = _nothing

    async def pin(self, texts: list[str]) -> Lines:
        """Pin images and patterns, a line each. Those that mean nothing are told, too."""
        count = failed = 0
        for text in texts:
            try:
                async for pinned in self._pinning.pin(text, source="cli"):
                    count += 1
                    failed += bool(pinned.trouble)
                    yield await self._pinned(pinned)
            except (InvalidRequest, UnknownUpstream) as error:
                failed += 1
                yield {"image": text, "failed": str(error)}
        yield {"done": True, "pinned": count, "failures": failed}

    async def unpin(self, texts: list[str]) -> Lines:
        """The pins of people and imports; those of the configuration stay."""
        count = failed = 0
        for text in texts:
            try:
                gone = await self._pinning.unpin(text, sources=_BY_HAND)
            except (InvalidRequest, UnknownUpstream) as error:
                gone, reason = [], str(error)
            else:
                name = text if is_pattern(text) else self._pinning.full_name(text)
                reason = self._why_not(name)
            count += len(gone)
            failed += not gone
            yield {"image": text, "unpinned": len(gone), **({} if gone else {"failed": reason})}
        yield {"done": True, "unpinned": count, "failures": failed}

    async def pinned(self) -> Lines:
        """All pins: those that were asked for, and what patterns have found."""
        await self._pins.refresh()
        count = 0
        for pin in self._pins.all():
            count += 1
            yield _pin(pin)
        yield {"done": True, "pins": count}

    async def images(self, text: str) -> Lines:
        """See `Listing.images`."""
        await self.before()
        count = 0
        async for line in self._listing.images(text):
            count += 1
            yield line
        yield {"done": True, "images": count}

    async def remove(self, texts: list[str], *, dry_run: bool, force: bool) -> Lines:
        """Remove what is meant; what is pinned only by `force`. Raises `InvalidRequest`,
        `UnknownUpstream` before anything has gone.
        """
        meant = {text: self._listing.wanted(text) for text in texts}
        unmet = dict.fromkeys(texts)
        refused: list[dict[str, object]] = []
        await self.before()
        await self._pins.refresh()

        async def targets() -> AsyncIterator[Target]:
            async for named in self._recorded.all(
                wanted=lambda name: any(one(name) for one in meant.values()), latest=True
            ):
                for text in [text for text in unmet if meant[text](named.name)]:
                    del unmet[text]
                reason = await self._keeps(named, dry_run=dry_run, force=force)
                if reason:
                    refused.append({"image": named.name, "failed": reason})
                else:
                    yield Target(named, "asked for")

        count = freed = 0
        async for gone in self._removal.remove(targets(), dry_run=dry_run):
            count += 1
            freed += gone.freed_bytes
            if not dry_run:
                await self._pulls.forget(gone.target.named)
            yield {
                "image": gone.target.named.name,
                "digest": str(gone.target.named.current.digest),
                "freed_bytes": gone.freed_bytes,
                "of_bytes": gone.of_bytes,
                "blobs": gone.blobs,
            }
        for line in refused:
            yield line
        for text in unmet:
            yield {"image": text, "failed": "no such image here"}
        yield {
            "done": True,
            "dry_run": dry_run,
            "removed": count,
            "freed_bytes": freed,
            "refused": len(refused),
            "unknown": len(unmet),
        }

    async def _keeps(self, named: Named, *, dry_run: bool, force: bool) -> str:
        """Why it must stay; `force` unpins it, unless the configuration pins it."""
        pins = self._pins.keeping(named.name)
        if not pins:
            return ""
        if any(pin.source == "config" for pin in pins):
            return f"pinned by {_sources(pins)}"
        if not force:
            return f"pinned by {_sources(pins)}; --force removes it"
        if not dry_run:
            # A pattern goes on meaning all others.
            await self._pins.remove(pin for pin in pins if not pin.is_pattern)
        return ""

    async def _pinned(self, pinned: Pinned) -> dict[str, object]:
        image = None
        if pinned.named is not None:
            image = await self._shelf.image(pinned.named.upstream, pinned.named.current)
        state = "absent" if image is None else image.state
        told = {**_pin(pinned.pin), "state": None if pinned.pin.is_pattern else state}
        return {**told, "failed": pinned.trouble} if pinned.trouble else told

    def _why_not(self, name: str) -> str:
        pins = self._pins.of(name)
        return f"pinned by {_sources(pins)}" if pins else "is not pinned"


async def _nothing() -> None:
    pass


def _sources(pins: list[Pin]) -> str:
    words: dict[Source, str] = {
        "cli": "`pin`",
        "import": "an import",
        "config": "the configuration",
    }
    by = [(words[pin.source], pin.name if pin.is_pattern else pin.pattern) for pin in pins]
    said = [f"{who} ({pattern})" if pattern else who for who, pattern in by]
    return ", ".join(dict.fromkeys(said))


def _pin(pin: Pin) -> dict[str, object]:
    return {
        "image": pin.name,
        "source": pin.source,
        "pattern": pin.pattern or None,
        "is_pattern": pin.is_pattern,
        "pinned_at": pin.pinned_at,
        "digests": [str(image.root) for image in pin.images],
    }
