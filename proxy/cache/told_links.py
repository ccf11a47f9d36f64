"""Links told to other replicas as soon as one of them knows.

A blob that one replica has served is soon asked of the others, and each would read
the link record from the durable store once: one request in eight of a warm
production mix. A link never changes, so what one replica wrote or read another may
take from the coordination server, which may forget it at any moment.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Literal

from proxy.ports import Coordination, Record, Records

_TOLD_S = 6 * 3600.0


class ToldLinks:
    """`ports.Records` of a durable store; only links are told, all else goes through."""

    def __init__(self, durable: Records, coordination: Coordination) -> None:
        self._durable = durable
        self._coordination = coordination

    async def get(self, key: str) -> Record | None:
        """What another replica told, else the durable record."""
        if not _is_link(key):
            return await self._durable.get(key)
        told = await self._coordination.get(_name(key))
        if told is not None:
            # As one of ours: nobody writes a link on condition of its version.
            return Record(told, "told")
        record = await self._durable.get(key)
        if record is not None:
            await self._tell(key, record.value)
        return record

    async def latest(self, key: str) -> Record | None:
        """The durable record."""
        return await self._durable.latest(key)

    async def put(
        self, key: str, value: bytes, *, expect: Record | Literal["any"] | None = "any"
    ) -> bool:
        """Told, also when the durable store is away: it is true all the same."""
        if _is_link(key):
            await self._tell(key, value)
        return await self._durable.put(key, value, expect=expect)

    async def delete(self, key: str) -> None:
        """Told no longer, then deleted."""
        if _is_link(key):
            await self._coordination.delete(_name(key))
        await self._durable.delete(key)

    def list(self, prefix: str, *, after: str = "") -> AsyncIterator[str]:
        """The durable keys."""
        return self._durable.list(prefix, after=after)

    async def _tell(self, key: str, value: bytes) -> None:
        await self._coordination.put(_name(key), value, ttl_s=_TOLD_S)


def _is_link(key: str) -> bool:
    return "/_links/" in key


def _name(key: str) -> str:
    return f"record/{key}"
