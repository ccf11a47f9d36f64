"""Policies that look at a random sample when room is needed and remember no order.

What they may know of an object is what a file can carry: when it was stored, when it
was last used, its size, and a small count of uses. As in the proxy, a use is noted at
most once a minute (`TOUCH_S`), and a round drops at most a quarter of its sample.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

from proxy.cache.eviction import idle_s

TOUCH_S = 60.0
COUNT_MAX = 255


@dataclass(slots=True)
class Stored:
    """What the file of a blob tells."""

    blob: int
    size: int
    stored_at: float
    used_at: float
    uses: int = 0


# The higher, the sooner it goes.
Score = Callable[[Stored, float], float]


class Sampled:
    """Drops what scores highest among `sample` random objects."""

    def __init__(self, capacity: int, score: Score, *, sample: int = 64, seed: int = 0) -> None:
        self._capacity = capacity
        self._room = capacity
        self._score = score
        self._sample = sample
        self._random = random.Random(seed)
        self._stored: dict[int, Stored] = {}
        # For drawing at random in constant time.
        self._order: list[int] = []
        self._place: dict[int, int] = {}

    def access(self, blob: int, size: int, at: float) -> bool:
        one = self._stored.get(blob)
        if one is not None:
            if at - one.used_at >= TOUCH_S:
                one.used_at = at
                one.uses = min(COUNT_MAX, one.uses + 1)
            return True
        if size <= self._capacity:
            while self._room < size:
                self._make_room(size - self._room, at)
            self._stored[blob] = Stored(blob, size, at, at)
            self._place[blob] = len(self._order)
            self._order.append(blob)
            self._room -= size
        return False

    def _make_room(self, need: int, at: float) -> None:
        picks = self._random.sample(self._order, min(self._sample, len(self._order)))
        by_score = sorted(
            (self._stored[blob] for blob in picks),
            key=lambda one: self._score(one, at),
            reverse=True,
        )
        for one in by_score[: max(1, len(by_score) // 4)]:
            self._drop(one)
            need -= one.size
            if need <= 0:
                return

    def _drop(self, one: Stored) -> None:
        del self._stored[one.blob]
        self._room += one.size
        place, moved = self._place.pop(one.blob), self._order.pop()
        if moved != one.blob:
            self._order[place] = moved
            self._place[moved] = place


def lru(one: Stored, now: float) -> float:
    """Time since the last use."""
    return now - one.used_at


def hyperbolic(one: Stored, now: float) -> float:
    """Hyperbolic caching (ATC '17): uses a second since it was stored."""
    return (now - one.stored_at) / (1 + one.uses)


def hyperbolic_bytes(one: Stored, now: float) -> float:
    """The same a byte."""
    return (now - one.stored_at) * one.size / (1 + one.uses)


def idle_by_uses(one: Stored, now: float) -> float:
    """Time since the last use, over how often it was used (which some file would have
    to keep).
    """
    return (now - one.used_at) / (1 + one.uses)


def as_built(one: Stored, now: float) -> float:
    """What the proxy does: time since the last use, over the root of how long it was in
    use.
    """
    return idle_s(stored_at=one.stored_at, used_at=one.used_at, now=now)


def idle_by_life(one: Stored, now: float) -> float:
    """The same without the root."""
    return (now - one.used_at) / (TOUCH_S + one.used_at - one.stored_at)


def idle_bytes(one: Stored, now: float) -> float:
    """As built, and a byte."""
    return as_built(one, now) * one.size
