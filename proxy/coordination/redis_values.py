"""Short-lived values in Redis, with what this replica itself has said kept in mind.

Redis is right when it answers. What this replica has written is also kept here,
bounded, so that it goes on knowing it while Redis is away (a tag just found fresh
stays fresh); and what Redis has not heard yet is said to it at the next chance,
a deletion too, before Redis is asked about that key again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from proxy.cache.lru import Lru
from proxy.coordination.redis_link import Link, RedisAway

VALUES_MAX: Final = 50_000
_DELETION_S: Final = 3600.0
"""How long we remember to delete what Redis could not be told to."""


@dataclass(slots=True)
class _Said:
    value: bytes | None  # None: deleted
    ends_at: float
    heard: bool = False


class Values:
    """`get`, `put`, `delete` of `ports.Coordination`. Nothing here raises."""

    def __init__(self, link: Link, *, prefix: str, monotonic: Callable[[], float]) -> None:
        self._link = link
        self._prefix = prefix
        self._monotonic = monotonic
        self._said: Lru[str, _Said] = Lru(VALUES_MAX)

    async def get(self, key: str) -> bytes | None:
        """See `ports.Coordination`."""
        said = self._said.get(key)
        if said is not None and self._monotonic() >= said.ends_at:
            self._said.pop(key)
            said = None
        if said is not None and not said.heard:
            await self._tell(key, said)
            return said.value
        try:
            found: bytes | None = await self._link.run("get", "GET", self._key(key))
        except RedisAway:
            return None if said is None else said.value
        if found is None and said is not None and self._said.peek(key) is said:
            self._said.pop(key)  # Somebody deleted it, or Redis forgot it: so do we.
        return found

    async def put(self, key: str, value: bytes, *, ttl_s: float) -> None:
        """See `ports.Coordination`."""
        await self._say(key, _Said(value, self._monotonic() + ttl_s))

    async def delete(self, key: str) -> None:
        """See `ports.Coordination`."""
        await self._say(key, _Said(None, self._monotonic() + _DELETION_S))

    async def _say(self, key: str, said: _Said) -> None:
        self._said.put(key, said)
        await self._tell(key, said)

    async def _tell(self, key: str, said: _Said) -> None:
        left_ms = round((said.ends_at - self._monotonic()) * 1000)
        try:
            if said.value is None or left_ms <= 0:
                await self._link.run("delete", "DEL", self._key(key))
            else:
                await self._link.run("put", "SET", self._key(key), said.value, "PX", left_ms)
        except RedisAway:
            return
        said.heard = True
        if said.value is None and self._said.peek(key) is said:
            self._said.pop(key)

    def _key(self, key: str) -> str:
        return f"{self._prefix}:value:{key}"
