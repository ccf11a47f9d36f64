"""Bounded memory: a mapping with a budget that forgets what was used least recently."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

from proxy.cache.standing import Life, Lives

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


def _one(_value: object) -> int:
    return 1


class Lru(Generic[K, V]):
    """At most `budget` in the sum of `weigh(value)` (default: entries).

    `dropped` hears of every value that leaves, replaced ones included.
    """

    def __init__(
        self,
        budget: int,
        *,
        weigh: Callable[[V], int] = _one,
        dropped: Callable[[V], None] | None = None,
        heaviest: int | None = None,
    ) -> None:
        """`heaviest`: a value above this weight is not kept at all."""
        self._budget = budget
        self._heaviest = budget if heaviest is None else min(heaviest, budget)
        self._weigh = weigh
        self._dropped = dropped
        self._items: OrderedDict[K, V] = OrderedDict()
        self._lives = Lives()
        self.weight = 0

    def __len__(self) -> int:
        return len(self._items)

    def __contains__(self, key: K) -> bool:
        return key in self._items

    def peek(self, key: K) -> V | None:
        """The value without counting as a use (safe to call from a thread)."""
        return self._items.get(key)

    def get(self, key: K) -> V | None:
        """The value, now the most recently used; None if absent."""
        value = self._items.get(key)
        if value is not None:
            self._items.move_to_end(key)
        return value

    def life(self, key: K) -> Life | None:
        """That of the present value: over when it leaves or is replaced. None if absent."""
        return self._lives.of(key, lambda: self.get(key)) if key in self else None

    def put(self, key: K, value: V) -> None:
        """Keep `value`, forgetting others as needed; one that is too heavy is not kept."""
        self.pop(key)
        weight = self._weigh(value)
        if weight > self._heaviest:
            if self._dropped is not None:
                self._dropped(value)
            return
        self._items[key] = value
        self.weight += weight
        while self.weight > self._budget:
            oldest = next(iter(self._items))
            self.pop(oldest)

    def pop(self, key: K) -> None:
        """Forget one; nothing happens if it is not there."""
        value = self._items.pop(key, None)
        if value is not None:
            self.weight -= self._weigh(value)
            self._lives.end(key)
            if self._dropped is not None:
                self._dropped(value)

    def clear(self) -> None:
        """Forget all."""
        while self._items:
            self.pop(next(iter(self._items)))
