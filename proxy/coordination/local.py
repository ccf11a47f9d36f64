"""Coordination inside one process: the default, and the memory fake of the port."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from proxy.cache.lru import Lru

_VALUES_MAX = 50_000


class LocalLease:
    """A claim that nobody outside this process can take away."""

    lost = False


class LocalCoordination:
    """`ports.Coordination` in memory, bounded; `clock` is monotonic, in seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._held: set[str] = set()
        self._values: Lru[str, tuple[float, bytes]] = Lru(_VALUES_MAX)

    @asynccontextmanager
    async def try_hold(self, name: str) -> AsyncIterator[LocalLease | None]:
        """See `ports.Coordination`."""
        if name in self._held:
            yield None
            return
        self._held.add(name)
        try:
            yield LocalLease()
        finally:
            self._held.discard(name)

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
