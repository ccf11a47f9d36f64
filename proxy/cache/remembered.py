"""Records with a bounded memory in front.

One process owns a `data_dir`, so what is remembered here is what the disk says;
a hot pull asks no disk. Only *found* records are remembered: absence is cheap to
ask again and must be noticed the moment it ends.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import TypeVar

from proxy.cache.lru import Lru
from proxy.cache.records import Exposure, Link, ReferrersRecord, TagRecord
from proxy.cache.standing import Life
from proxy.cache.unhurried import Unhurried
from proxy.errors import StorageUnavailable
from proxy.events import StorageFailed
from proxy.ports import Observe, Records

REMEMBERED_MAX = 20_000
_WRITE_PATIENCE_S = 1.0

Fact = TypeVar("Fact", TagRecord, Link, Exposure, ReferrersRecord)


class Remembered:
    """Facts by key. Failing storage reads as absence.

    Absence is the safe reading: the upstream is asked again. A write that fails
    is reported and otherwise ignored, because the answer in hand is good; one
    that takes long is not waited for.
    """

    def __init__(self, records: Records, observe: Observe) -> None:
        self._records = records
        self._observe = observe
        self.known: Lru[str, TagRecord | Link | Exposure | ReferrersRecord] = Lru(REMEMBERED_MAX)
        self.unhurried = Unhurried()

    def lived(self, key: str, url: str, kind: type[Fact]) -> tuple[Fact, Life] | None:
        """What is in memory, and its life."""
        fact, life = self.known.peek(key), self.known.life(key)
        if isinstance(fact, kind) and fact.url == url and life is not None:
            return fact, life
        return None

    async def get(
        self,
        key: str,
        url: str,
        kind: type[Fact],
        decode: Callable[[bytes, str], Fact | None],
    ) -> Fact | None:
        """From memory, else as recorded for that URL."""
        known = self.known.get(key)
        if isinstance(known, kind) and known.url == url:
            return known
        try:
            record = await self._records.get(key)
        except StorageUnavailable as error:
            self._observe(StorageFailed(operation="record read", reason=str(error)))
            return None
        known = self.known.get(key)
        if isinstance(known, kind) and known.url == url:
            return known  # Written while we read.
        fact = None if record is None else decode(record.value, url)
        if fact is not None:
            self.known.put(key, fact)
        return fact

    async def put(
        self, key: str, fact: TagRecord | Link | Exposure | ReferrersRecord, value: bytes
    ) -> None:
        """Know `fact` from now on, and record it as `value`."""
        self.known.put(key, fact)
        await self.writing(self._write(key, value))

    async def writing(self, write: Coroutine[None, None, None]) -> None:
        """Do it, and wait for it a little."""
        await self.unhurried.do(write, patience_s=_WRITE_PATIENCE_S)

    async def delete(self, key: str) -> None:
        """Forget it here and in the records."""
        self.known.pop(key)
        try:
            await self._records.delete(key)
        except StorageUnavailable as error:
            self._observe(StorageFailed(operation="record delete", reason=str(error)))

    async def aclose(self) -> None:
        """Wait for what was not waited for, a little; the rest is lost."""
        await self.unhurried.aclose()

    async def _write(self, key: str, value: bytes) -> None:
        try:
            await self._records.put(key, value)
        except StorageUnavailable as error:
            self._observe(StorageFailed(operation="record write", reason=str(error)))
