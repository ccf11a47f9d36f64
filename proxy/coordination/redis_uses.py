"""When blobs were last used, fleet-wide: one sorted set for each sharing group.

A use is noted at most once an hour for each blob and replica, in memory, and
sent in batches; a hot blob costs nothing. The wall clock is only used as the
score: `GT` keeps the latest, and a clock that is off moves an eviction by as much.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import Final

from proxy.cache.lru import Lru
from proxy.coordination.redis_link import Link, RedisAway
from proxy.ports import BlobKey, Clock

THROTTLE_S: Final = 3600.0
USES_MAX: Final = 1_000_000
"""Members of a group's set; the least recently used go first."""
_THROTTLED_MAX: Final = 100_000
_WAITING_MAX: Final = 20_000
_BATCH: Final = 500
_TRIM_EVERY: Final = 10_000


class Uses:
    """`touch` and `last_used` of `ports.Coordination`. Nothing here raises."""

    def __init__(
        self,
        link: Link,
        *,
        prefix: str,
        flush_s: float,
        clock: Clock,
        monotonic: Callable[[], float],
        uses_max: int = USES_MAX,
    ) -> None:
        self._link = link
        self._prefix = prefix
        self._flush_s = flush_s
        self._clock = clock
        self._monotonic = monotonic
        self._uses_max = uses_max
        self._noted: Lru[BlobKey, float] = Lru(_THROTTLED_MAX)
        self._waiting: dict[BlobKey, float] = {}
        # Full at first: a replica that restarts often would never trim otherwise.
        self._since_trim: defaultdict[str, int] = defaultdict(lambda: _TRIM_EVERY)

    def touch(self, key: BlobKey) -> None:
        """See `ports.Coordination`."""
        now = self._monotonic()
        noted_at = self._noted.get(key)
        if noted_at is not None and now - noted_at < THROTTLE_S:
            return
        if len(self._waiting) >= _WAITING_MAX:
            return  # Redis is away for long: the files' own times must do.
        self._noted.put(key, now)
        self._waiting[key] = self._clock()

    async def last_used(self, keys: Sequence[BlobKey]) -> list[float | None]:
        """See `ports.Coordination`."""
        found: dict[BlobKey, float] = {}
        for group, asked in _by_group(keys).items():
            for batch in _batches(asked):
                members = [str(key.digest) for key in batch]
                try:
                    scores = await self._link.run(
                        "last_used", "ZMSCORE", self._key(group), *members
                    )
                except RedisAway:
                    continue
                found |= {
                    key: float(score)
                    for key, score in zip(batch, scores, strict=True)
                    if score is not None
                }
        return [_latest(found.get(key), self._waiting.get(key)) for key in keys]

    async def flush_forever(self) -> None:
        """Send what was noted, every few seconds. Runs until cancelled."""
        while True:
            await asyncio.sleep(self._flush_s)
            await self.flush()

    async def flush(self) -> None:
        """Send what was noted; what can't be sent waits."""
        try:
            for group, keys in _by_group(list(self._waiting)).items():
                for batch in _batches(keys):
                    await self._send(group, batch)
        except RedisAway:
            return

    async def _send(self, group: str, batch: list[BlobKey]) -> None:
        used_at = {key: self._waiting[key] for key in batch}
        words: list[str | float] = []
        for key, at in used_at.items():
            words += [at, str(key.digest)]
        await self._link.run("touch", "ZADD", self._key(group), "GT", *words)
        for key, at in used_at.items():
            if self._waiting.get(key) == at:
                del self._waiting[key]
        self._since_trim[group] += len(batch)
        if self._since_trim[group] >= _TRIM_EVERY:
            self._since_trim[group] = 0
            await self._link.run(
                "touch", "ZREMRANGEBYRANK", self._key(group), 0, -self._uses_max - 1
            )

    def _key(self, group: str) -> str:
        return f"{self._prefix}:used:{group}"


def _by_group(keys: Sequence[BlobKey]) -> dict[str, list[BlobKey]]:
    groups: dict[str, list[BlobKey]] = {}
    for key in keys:
        groups.setdefault(key.group, []).append(key)
    return groups


def _batches(keys: list[BlobKey]) -> Iterator[list[BlobKey]]:
    waiting = iter(keys)
    while batch := list(islice(waiting, _BATCH)):
        yield batch


def _latest(one: float | None, other: float | None) -> float | None:
    if one is None or other is None:
        return other if one is None else one
    return max(one, other)
