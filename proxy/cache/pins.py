"""What is kept on purpose: images and patterns that somebody pinned.

A pin is a durable record that lists every digest it keeps, so that whoever evicts need
not look at images, and a replica that has just started knows at once what must stay.
`pinned` is asked for every blob that might go, from a thread too, and answers from
memory; that grows with what is pinned and with nothing else.

The key of a record ends in the hash of its content. So one listing tells a replica what
has changed elsewhere, a changed pin is a new record before the old one goes (whoever is
killed in between leaves both, which keeps too much and nothing too little), and what
can't be read or is not what its key says is left alone and counts for nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from proxy.cache import keys
from proxy.cache.globs import matches
from proxy.cache.pin_records import Pin, PinnedImage, Source, encode_pin, name_of
from proxy.cache.pin_store import Unwritten, kept_by, key_of, read
from proxy.cache.vouching import group_of
from proxy.errors import StorageUnavailable
from proxy.events import StorageFailed
from proxy.oci.digest import Digest
from proxy.oci.names import Reference, Repository
from proxy.ports import BlobKey, Clock, Observe, Records, Upstream

_READS_AT_ONCE = 16
# By the length of a digest in bytes.
_ALGORITHMS = {32: "sha256", 64: "sha512"}


class Pins:
    """All pins of the store, as of the last `refresh`, and those made here since.

    `changed` is called with each that comes or goes.
    """

    def __init__(self, records: Records, observe: Observe, clock: Clock) -> None:
        self._records = records
        self._observe = observe
        self._clock = clock
        self._known: dict[str, Pin] = {}
        self._named: dict[str, set[str]] = {}
        self._patterns: dict[str, Pin] = {}
        self._unreadable: set[str] = set()
        # What hold although the store has them not yet.
        self._unwritten: dict[str, bytes] = {}
        # By group: how many images need a blob, under the bytes of its digest.
        self._needed: dict[str, dict[bytes, int]] = {}
        # What came below something that is needed, and that.
        self._grown: dict[str, dict[bytes, bytes]] = {}
        self._lock = asyncio.Lock()
        self.changed: Callable[[], None] = lambda: None
        # What must stay without a pin, for a while: an import needs it.
        self.held: Callable[[BlobKey], bool] = lambda _key: False

    def __len__(self) -> int:
        return len(self._known)

    def now(self) -> float:
        """In seconds since the epoch, by the clock that pins go by."""
        return self._clock()

    def all(self) -> list[Pin]:
        """In the order of their names."""
        return sorted(self._known.values(), key=lambda pin: (pin.name, pin.source))

    def of(self, name: str) -> list[Pin]:
        """Those under this name, of all sources."""
        return [self._known[key] for key in sorted(self._named.get(name, ()))]

    def named(self, name: str) -> bool:
        """Whether somebody pinned this very image, and not a pattern that it fits."""
        return any(not pin.pattern for pin in self.of(name))

    def keeping(self, name: str) -> list[Pin]:
        """Why an image must stay: those under its name, and the patterns that it fits,
        whether or not those have found it yet.
        """
        found = self.of(name)
        by = {(pin.source, pin.pattern) for pin in found}
        return found + [
            pin
            for pin in self._patterns.values()
            if (pin.source, pin.name) not in by and matches(pin.name, name)
        ]

    def patterns(self) -> list[Pin]:
        """Those that are patterns."""
        return list(self._patterns.values())

    def pinned(self, key: BlobKey) -> bool:
        """Whether a blob must stay. Never waits; may be called from a thread."""
        return self._needed_by(key) is not None or self.held(key)

    def blobs(self) -> list[BlobKey]:
        """All that is pinned."""
        return [
            BlobKey(group, Digest(_ALGORITHMS[len(digest)], digest.hex()))
            for group, needed in self._needed.items()
            for digest in needed
        ]

    async def refresh(self, copy: Records | None = None) -> None:
        """Learn what other replicas have pinned and unpinned.

        copy: this replica's own one of the records, to be asked instead; for a start
        without the store. Raises `StorageUnavailable`; then what was known stays.
        """
        records = copy or self._records
        async with self._lock:
            if copy is None:
                await self._write_late()
            listed = [key async for key in records.list(keys.PINS)]
            for key in self._known.keys() - set(listed) - self._unwritten.keys():
                self._forget(key)
            self._unreadable &= set(listed)
            new = [k for k in listed if k not in self._known and k not in self._unreadable]
            for start in range(0, len(new), _READS_AT_ONCE):
                batch = new[start : start + _READS_AT_ONCE]
                found = await asyncio.gather(*(read(records, key) for key in batch))
                for key, pin in zip(batch, found, strict=True):
                    if pin is not None:
                        self._learn(key, pin)
                    elif copy is None:
                        self._unreadable.add(key)
                        reason = f"{key} is not a pin that can be read"
                        self._observe(StorageFailed(operation="record read", reason=reason))

    async def pin(
        self,
        upstream: Upstream,
        repository: Repository,
        reference: Reference,
        *,
        source: Source,
        closure: Sequence[Digest],
        pattern: str = "",
    ) -> Pin:
        """Keep an image from now on.

        closure: all digests that belong to it, its own first; empty while none of it
        is here. pattern: the one that it was found by. A pin of the same name, source
        and pattern is replaced. Raises `Unwritten`: then it holds here all the same, for
        as long as this process runs; `StorageUnavailable`.
        """
        pin = Pin(
            name=name_of(upstream.name, repository, reference),
            source=source,
            pattern=pattern,
            upstream=upstream.name,
            repository=repository,
            reference=str(reference),
            group=group_of(upstream),
            url=upstream.url,
            pinned_at=self._clock(),
            images=(PinnedImage(tuple(closure)),) if closure else (),
        )
        return await self.put(pin)

    async def pin_pattern(self, pattern: str, *, source: Source) -> Pin:
        """Remember a pattern; which images it means is found out by others. Raises
        `StorageUnavailable` as `pin` does.
        """
        return await self.put(Pin(name=pattern, source=source, pinned_at=self._clock()))

    async def put(self, pin: Pin) -> Pin:
        """Write a pin in place of those that have its name, source and pattern; it is as
        old as the oldest of them. Raises `StorageUnavailable` as `pin` does.
        """
        times = [self._known[key].pinned_at for key in self._alike(pin)]
        pin = replace(pin, pinned_at=min([*times, pin.pinned_at]))
        value = encode_pin(pin)
        key = key_of(pin, value)
        async with self._lock:
            before = self._alike(pin)
            self._learn(key, pin)
            if key not in before or key in self._unwritten:
                self._unwritten[key] = value
                try:
                    await self._records.put(key, value)
                except StorageUnavailable as error:
                    raise Unwritten(error) from error
                self._unwritten.pop(key, None)
            for old in before - {key}:
                self._forget(old)
                await self._records.delete(old)
        return pin

    async def remove(self, pins: Iterable[Pin]) -> None:
        """They keep nothing any more. Raises `StorageUnavailable`; then they may be back
        with the next `refresh`.
        """
        async with self._lock:
            for pin in pins:
                for key in self._alike(pin):
                    self._forget(key)
                    await self._records.delete(key)

    def grow(self, key: BlobKey, below: Iterable[Digest]) -> None:
        """A manifest came, and needs these: if it is pinned, so are they, until
        `settled`.
        """
        needed_by = self._needed_by(key)
        if needed_by is not None:
            needed = self._needed[key.group]
            grown = self._grown.setdefault(key.group, {})
            for digest in below:
                if (one := bytes.fromhex(digest.hex)) not in needed:
                    grown[one] = needed_by

    def growth(self) -> dict[str, dict[bytes, bytes]]:
        """What has grown so far, by group: under its digest that which needs it."""
        return {group: dict(grown) for group, grown in self._grown.items()}

    def has_grown(self, pin: Pin) -> bool:
        """Whether more belongs to it than it lists."""
        grown = self._grown.get(pin.group)
        return grown is not None and not set(grown.values()).isdisjoint(kept_by(pin))

    def settled(self, growth: dict[str, dict[bytes, bytes]]) -> None:
        """The pins list it now."""
        for group, grown in growth.items():
            for digest in grown:
                self._grown[group].pop(digest, None)

    async def _write_late(self) -> None:
        """What could not be written when it was made."""
        for key, value in list(self._unwritten.items()):
            try:
                await self._records.put(key, value)
            except StorageUnavailable as error:
                self._observe(StorageFailed(operation="record write", reason=str(error)))
                return
            self._unwritten.pop(key, None)

    def _needed_by(self, key: BlobKey) -> bytes | None:
        """A digest in a pin that keeps it, its own perhaps."""
        digest, needed = bytes.fromhex(key.digest.hex), self._needed.get(key.group, {})
        if digest in needed:
            return digest
        above = self._grown.get(key.group, {}).get(digest)
        return above if above in needed else None

    def _alike(self, pin: Pin) -> set[str]:
        named = self._named.get(pin.name, ())
        return {key for key in named if self._known[key].identity == pin.identity}

    def _learn(self, key: str, pin: Pin) -> None:
        if key not in self._known:
            self._known[key] = pin
            self.changed()
            self._named.setdefault(pin.name, set()).add(key)
            if pin.is_pattern:
                self._patterns[key] = pin
            needed = self._needed.setdefault(pin.group, {})
            for digest in kept_by(pin):
                needed[digest] = needed.get(digest, 0) + 1

    def _forget(self, key: str) -> None:
        pin = self._known.pop(key)
        self.changed()
        self._patterns.pop(key, None)
        self._unwritten.pop(key, None)
        named = self._named[pin.name]
        named.remove(key)
        if not named:
            del self._named[pin.name]
        needed = self._needed[pin.group]
        for digest in kept_by(pin):
            needed[digest] -= 1
            if not needed[digest]:
                del needed[digest]
