"""What to drop from the durable store: by age since the last use, by a byte budget.

Two walks over the inventory and memory that does not grow with it: the first
counts bytes by age, the second removes what is older than the age that makes
the rest fit. Nothing is remembered between rounds, so a round that is killed is
simply repeated. One replica at a time does it.

The time of use is what replicas have told each other; where that is forgotten,
the time of storing, which errs on the side of dropping what is old.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import asdict, dataclass, field

from proxy.events import Evicted
from proxy.ports import BlobKey, Blobs, Clock, Coordination, Held, Observe, StoredBlob

_BATCH = 500
_AGE_STEP_S = 600.0
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
class Ages:
    """Bytes by age in steps; bounded by the oldest age, not by the number of blobs."""

    steps: dict[int, int] = field(default_factory=dict)
    total: int = 0

    def add(self, age_s: float, size: int) -> None:
        """Count one blob."""
        step = max(0, int(age_s // _AGE_STEP_S))
        self.steps[step] = self.steps.get(step, 0) + size
        self.total += size

    def cutoff_s(self, bytes_max: int | None, expire_s: float | None) -> float | None:
        """Blobs at least this old go; None: nothing does."""
        cutoffs = [] if expire_s is None else [expire_s]
        if bytes_max is not None and self.total > bytes_max:
            excess = self.total - int(bytes_max * _FULL_SHARE)
            for step in sorted(self.steps, reverse=True):
                excess -= self.steps[step]
                if excess <= 0:
                    cutoffs.append(step * _AGE_STEP_S)
                    break
        return min(cutoffs) if cutoffs else None


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
    ) -> None:
        self._durable = durable
        self._groups = groups
        self._bytes_max = bytes_max
        self._expire_s = expire_s
        self._coordination = coordination
        self._observe = observe
        self._clock = clock

    async def round(self, *, dry_run: bool = False) -> Round:
        """One round; with `dry_run` nothing is removed."""
        result = Round(dry_run=dry_run)
        async with self._coordination.try_hold("expiry") as claim:
            if isinstance(claim, Held):
                result.elsewhere = True
                return result
            now = self._clock()
            ages = Ages()
            async for blob, used_at in self._uses():
                claim.progress()
                ages.add(now - used_at, blob.size)
                result.kept += 1
            result.kept_bytes = ages.total
            cutoff_s = ages.cutoff_s(self._bytes_max, self._expire_s)
            if cutoff_s is None:
                return result
            async for blob, used_at in self._uses():
                claim.progress()
                young = now - blob.stored_at < _YOUNG_S and self._expire_s is None
                if (
                    now - used_at < cutoff_s
                    or young
                    or self._enough(result, cutoff_s, now, used_at)
                ):
                    continue
                if not dry_run:
                    await self._durable.delete(blob.key)
                result.kept -= 1
                result.kept_bytes -= blob.size
                result.dropped += 1
                result.dropped_bytes += blob.size
        if result.dropped and not dry_run:
            self._observe(Evicted(count=result.dropped, size=result.dropped_bytes))
        return result

    def _enough(self, result: Round, cutoff_s: float, now: float, used_at: float) -> bool:
        """Whether the last, only partly needed step of ages has given enough."""
        if self._expire_s is not None and now - used_at >= self._expire_s:
            return False
        in_last_step = now - used_at < cutoff_s + _AGE_STEP_S
        bytes_max = self._bytes_max
        fits = bytes_max is not None and result.kept_bytes <= bytes_max * _FULL_SHARE
        return in_last_step and fits

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
