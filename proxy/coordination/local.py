"""Coordination inside one process: the default, and the memory fake of the port."""

from __future__ import annotations

import itertools
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

from proxy.cache.lru import Lru
from proxy.ports import BlobKey, Held, Lease

_VALUES_MAX = 50_000


class LocalLease:
    """A claim that nobody outside this process can take away."""

    lost = False

    def progress(self) -> None:
        """Nothing to renew."""


class LocalCoordination:
    """`ports.Coordination` in memory, bounded; `clock` is monotonic, in seconds.

    Uses of blobs are not noted here: with one process, the files' own times say
    it all.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._held: dict[str, Held] = {}
        self._values: Lru[str, tuple[float, bytes]] = Lru(_VALUES_MAX)
        self._claims = itertools.count()

    @asynccontextmanager
    async def try_hold(
        self, name: str, *, instead_of: Held | None = None
    ) -> AsyncIterator[Lease | Held]:
        """See `ports.Coordination`."""
        held = self._held.get(name)
        if held is not None and held != instead_of:
            yield held
            return
        self._held[name] = ours = Held("", str(next(self._claims)))
        try:
            yield LocalLease()
        finally:
            if self._held.get(name) == ours:
                del self._held[name]

    async def get(self, key: str) -> bytes | None:
        """See `ports.Coordination`."""
        entry = self._values.get(key)
        if entry is None:
            return None
        ends_at, value = entry
        if self._clock() >= ends_at:
            self._values.pop(key)
            return None
        return value

    async def put(self, key: str, value: bytes, *, ttl_s: float) -> None:
        """See `ports.Coordination`."""
        self._values.put(key, (self._clock() + ttl_s, value))

    async def delete(self, key: str) -> None:
        """See `ports.Coordination`."""
        self._values.pop(key)

    def touch(self, key: BlobKey) -> None:
        """See `ports.Coordination`."""

    async def last_used(self, keys: Sequence[BlobKey]) -> list[float | None]:
        """See `ports.Coordination`: unknown, all of them."""
        return [None] * len(keys)

    async def aclose(self) -> None:
        """See `ports.Coordination`."""
