"""What to drop from the durable store: by age since the last use, by a byte budget.

Two walks over the inventory and memory that does not grow with it: the first
counts bytes by how idle they are (`eviction.idle_s`), the second removes what is
idler than makes the rest fit. Nothing is remembered between rounds, so a round that is killed is
simply repeated. One replica at a time does it.

The time of use is what replicas have told each other; where that is forgotten,
the time of storing, which errs on the side of dropping what is old.
"""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import asdict, dataclass, field

from proxy.cache.eviction import idle_s
from proxy.cache.pins import Pins
from proxy.events import Evicted
from proxy.ports import BlobKey, Blobs, Clock, Coordination, Held, Lease, Observe, StoredBlob

_BATCH = 500
# Idle times are told apart to about 1 %, the shortest to some seconds.
_STEPS_AN_OCTAVE = 64
_IDLE_UNIT_S = 600.0
# What was stored this recently may just be on its way to its first reader.
_YOUNG_S = 600.0
# Drop a little more than needed, so that not every round drops something.
_FULL_SHARE = 0.95


@dataclass(slots=True)
class Round:
    """What one round found and did; bytes and counts."""

    kept: int = 0
    kept_bytes: int = 0
    dropped: int = 0
    dropped_bytes: int = 0
    dry_run: bool = False
    elsewhere: bool = False
    """Another replica is at it."""

    def document(self) -> dict[str, object]:
        """For JSON."""
        return asdict(self)


@dataclass(slots=True)
class Plan:
    """What goes: all that is idle enough, and of a somewhat less idle step so many bytes."""

    expire_s: float | None
    whole_from: int | None = None
    part_bytes: int = 0

    @property
    def empty(self) -> bool:
        """Nothing goes."""
        return self.expire_s is None and self.whole_from is None

    def takes(self, age_s: float, idle: float, size: int, *, young: bool) -> bool:
        """Whether this blob goes, by the age of its last use and how idle it is, both in
        seconds; counts it if it is of the step that goes in part.
        """
        if self.expire_s is not None and age_s >= self.expire_s:
            return True
        if self.whole_from is None or young:
            return False
        step = _step(idle)
        if step == self.whole_from - 1 and self.part_bytes > 0:
            self.part_bytes -= size
            return True
        return step >= self.whole_from


@dataclass(slots=True)
class IdleBytes:
    """Bytes by idle time in steps: some thousand at most, however many blobs there are."""

    steps: dict[int, int] = field(default_factory=dict)
    total: int = 0

    def add_kept(self, size: int) -> None:
        """Count one blob that stays, however idle."""
        self.total += size

    def add(self, idle: float, size: int) -> None:
        """Count one blob, idle for so many seconds."""
        step = _step(idle)
        self.steps[step] = self.steps.get(step, 0) + size
        self.total += size

    def plan(self, bytes_max: int | None, expire_s: float | None) -> Plan:
        """What must go for the rest to fit; the most idle first."""
        plan = Plan(expire_s)
        if bytes_max is None or self.total <= bytes_max:
            return plan
        return self.freeing(self.total - int(bytes_max * _FULL_SHARE), plan)

    def freeing(self, excess: int, plan: Plan) -> Plan:
        """What must go for so many bytes to come free, added to `plan`."""
        for step in sorted(self.steps, reverse=True):
            if excess <= self.steps[step]:
                plan.whole_from, plan.part_bytes = step + 1, excess
                break
            excess -= self.steps[step]
        else:
            plan.whole_from = 0  # All that may go is not enough.
        return plan


class Expiry:
    """Runs rounds over the durable store. Raises `StorageUnavailable`."""

    def __init__(
        self,
        durable: Blobs,
        *,
        groups: Sequence[str],
        bytes_max: int | None,
        expire_s: float | None,
        coordination: Coordination,
        observe: Observe,
        clock: Clock,
        pins: Pins | None = None,
    ) -> None:
        """`pins`: what stays whatever its age, also for a running import; while they can't be
        read nothing goes.
        """
        self._pins = pins
        self._durable = durable
        self._groups = groups
        self._bytes_max = bytes_max
        self._expire_s = expire_s
        self._coordination = coordination
        self._observe = observe
        self._clock = clock

    async def round(
        self, *, dry_run: bool = False, dropped: Callable[[StoredBlob], None] | None = None
    ) -> Round:
        """One round; with `dry_run` nothing is removed. `dropped` hears of each that goes."""
        result = Round(dry_run=dry_run)
        async with self._coordination.try_hold("expiry") as claim:
            if isinstance(claim, Held):
                result.elsewhere = True
                return result
            if self._pins is not None:
                await self._pins.refresh()
            now = self._clock()
            plan = await self._plan(result, now, claim)
            if not plan.empty:
                try:
                    async for blob in self._drop(plan, result, now, claim):
                        if dropped is not None:
                            dropped(blob)
                finally:
                    if result.dropped and not dry_run:
                        self._observe(Evicted(count=result.dropped, size=result.dropped_bytes))
        return result

    async def _plan(self, result: Round, now: float, claim: Lease) -> Plan:
        idle_bytes = IdleBytes()
        async for blob, used_at in self._uses():
            claim.progress()
            if self._pinned(blob.key):
                idle_bytes.add_kept(blob.size)
            else:
                idle_bytes.add(_idle_s(blob, used_at, now), blob.size)
            result.kept += 1
        result.kept_bytes = idle_bytes.total
        return idle_bytes.plan(self._bytes_max, self._expire_s)

    async def _drop(
        self, plan: Plan, result: Round, now: float, claim: Lease
    ) -> AsyncIterator[StoredBlob]:
        async for blob, used_at in self._uses():
            claim.progress()
            if self._pinned(blob.key):
                continue
            young = now - blob.stored_at < _YOUNG_S
            idle = _idle_s(blob, used_at, now)
            if not plan.takes(now - used_at, idle, blob.size, young=young):
                continue
            if not result.dry_run:
                await self._durable.delete(blob.key)
            result.kept -= 1
            result.kept_bytes -= blob.size
            result.dropped += 1
            result.dropped_bytes += blob.size
            yield blob

    def _pinned(self, key: BlobKey) -> bool:
        return self._pins is not None and self._pins.pinned(key)

    async def _uses(self) -> AsyncIterator[tuple[StoredBlob, float]]:
        for group in self._groups:
            batch: list[StoredBlob] = []
            async for blob in self._durable.inventory(group):
                batch.append(blob)
                if len(batch) >= _BATCH:
                    for pair in await self._with_uses(batch):
                        yield pair
                    batch = []
            for pair in await self._with_uses(batch):
                yield pair

    async def _with_uses(self, batch: list[StoredBlob]) -> list[tuple[StoredBlob, float]]:
        keys: list[BlobKey] = [blob.key for blob in batch]
        used = await self._coordination.last_used(keys) if keys else []
        return [
            (blob, max(blob.stored_at, at or 0.0)) for blob, at in zip(batch, used, strict=True)
        ]


def _idle_s(blob: StoredBlob, used_at: float, now: float) -> float:
    return idle_s(stored_at=blob.stored_at, used_at=used_at, now=now)


def _step(idle: float) -> int:
    """Grows with the logarithm of the time in seconds."""
    return int(math.log2(1 + idle / _IDLE_UNIT_S) * _STEPS_AN_OCTAVE)
