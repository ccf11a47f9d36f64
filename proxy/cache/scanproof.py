"""Bounded memory that one large scan can't flush: S3-FIFO.

New values stand in a short queue, a tenth of the budget; those that were used
twice there move on to the long one, the others go and leave only their key behind.
A key that comes back while it is remembered goes to the long queue at once. So what
is read once, however much of it, never pushes out what is read again and again. A
single use in the short queue proves nothing: a pull asks for the same manifest by
tag and by digest.

After the paper "FIFO queues are all you need for cache eviction" (SOSP 2023).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

from proxy.cache.lru import Lru

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")

_SHORT_SHARE = 10
_PROVEN_USES = 2
_USES_MAX = 3
_GHOSTS_MAX = 20_000


def _itself(weight: int) -> int:
    return weight


class _Place(Generic[K]):
    """Where a value stands, and how often it was used there."""

    __slots__ = ("queue", "uses", "weight")

    def __init__(self, queue: OrderedDict[K, _Place[K]], weight: int) -> None:
        self.queue = queue
        self.weight = weight
        self.uses = 0


class ScanProof(Lru[K, V]):
    """As `Lru`, but which value goes is decided as told above."""

    def __init__(
        self,
        budget: int,
        *,
        weigh: Callable[[V], int],
        dropped: Callable[[V], None] | None = None,
        heaviest: int | None = None,
    ) -> None:
        super().__init__(budget, weigh=weigh, dropped=dropped, heaviest=heaviest)
        self._places: dict[K, _Place[K]] = {}
        self._short: OrderedDict[K, _Place[K]] = OrderedDict()
        self._long: OrderedDict[K, _Place[K]] = OrderedDict()
        self._short_weight = 0
        # Keys that left the short queue, for as long as a whole memory takes to pass.
        self._ghosts: Lru[K, int] = Lru(budget, weigh=_itself)

    def get(self, key: K) -> V | None:
        """The value, used once more; None if absent."""
        place = self._places.get(key)
        if place is None:
            return None
        place.uses = min(_USES_MAX, place.uses + 1)
        return self._items[key]

    def put(self, key: K, value: V) -> None:
        """Keep `value`, forgetting others as needed; one that is too heavy is not kept.

        What replaces a value stands where that stood.
        """
        before = self._places.get(key)
        proven = key in self._ghosts or (before is not None and before.queue is self._long)
        self.pop(key)
        weight = self._weigh(value)
        if weight > self._heaviest:
            if self._dropped is not None:
                self._dropped(value)
            return
        self._ghosts.pop(key)
        self._items[key] = value
        self.weight += weight
        self._stand(key, weight, self._long if proven else self._short)
        while self.weight > self._budget:
            self._make_room()

    def pop(self, key: K) -> None:
        """Forget one; nothing happens if it is not there."""
        self._leave(key)
        super().pop(key)

    def _make_room(self) -> None:
        if self._short and (not self._long or self._short_weight * _SHORT_SHARE > self._budget):
            key, place = next(iter(self._short.items()))
            if place.uses >= _PROVEN_USES:
                self._leave(key)
                self._stand(key, place.weight, self._long)
            else:
                self.pop(key)
                # Small things leave more keys than they are worth.
                self._ghosts.put(key, max(place.weight, self._budget // _GHOSTS_MAX))
            return
        key, place = next(iter(self._long.items()))
        if place.uses:
            place.uses -= 1
            self._long.move_to_end(key)
        else:
            self.pop(key)

    def _stand(self, key: K, weight: int, queue: OrderedDict[K, _Place[K]]) -> None:
        self._places[key] = queue[key] = _Place(queue, weight)
        if queue is self._short:
            self._short_weight += weight

    def _leave(self, key: K) -> None:
        place = self._places.pop(key, None)
        if place is not None:
            del place.queue[key]
            if place.queue is self._short:
                self._short_weight -= place.weight
