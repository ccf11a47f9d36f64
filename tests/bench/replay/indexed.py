"""Policies that remember something about every stored object, as their papers say.

Sizes are counted in bytes wherever a paper counts objects. What is larger than the
whole cache is not stored; that is the same for all policies.
"""

from __future__ import annotations

import heapq
from collections import OrderedDict, deque
from collections.abc import Callable
from typing import Protocol


class Policy(Protocol):
    """A cache of `capacity` bytes."""

    def access(self, blob: int, size: int, at: float) -> bool:
        """Whether it was a hit; after a miss the blob is stored."""


class ExactLru:
    """The least recently used goes."""

    def __init__(self, capacity: int) -> None:
        self._room = capacity
        self._capacity = capacity
        self._sizes: OrderedDict[int, int] = OrderedDict()

    def access(self, blob: int, size: int, at: float) -> bool:
        if blob in self._sizes:
            self._sizes.move_to_end(blob)
            return True
        if size <= self._capacity:
            while self._room < size:
                self._room += self._sizes.popitem(last=False)[1]
            self._sizes[blob] = size
            self._room -= size
        return False


class Sieve:
    """SIEVE (NSDI '24): a hand from the oldest to the newest, sparing once what was used."""

    def __init__(self, capacity: int) -> None:
        self._room = capacity
        self._capacity = capacity
        # Oldest first; what the hand has passed waits in `_passed`, older than the rest.
        self._passed: OrderedDict[int, int] = OrderedDict()
        self._ahead: OrderedDict[int, int] = OrderedDict()
        self._visited: set[int] = set()

    def access(self, blob: int, size: int, at: float) -> bool:
        if blob in self._ahead or blob in self._passed:
            self._visited.add(blob)
            return True
        if size <= self._capacity:
            while self._room < size:
                self._evict()
            self._ahead[blob] = size
            self._room -= size
        return False

    def _evict(self) -> None:
        while True:
            if not self._ahead:
                self._ahead, self._passed = self._passed, self._ahead
            blob, size = self._ahead.popitem(last=False)
            if blob not in self._visited:
                self._room += size
                return
            self._visited.discard(blob)
            self._passed[blob] = size


class S3Fifo:
    """S3-FIFO (SOSP '23): a small queue for newcomers, a main one, and a ghost of names."""

    SMALL_SHARE = 0.1
    FREQUENCY_MAX = 3

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._small_max = int(capacity * self.SMALL_SHARE)
        self._small: deque[int] = deque()
        self._main: deque[int] = deque()
        self._sizes: dict[int, int] = {}
        self._frequency: dict[int, int] = {}
        self._small_bytes = self._main_bytes = self._ghost_bytes = 0
        self._ghost: OrderedDict[int, int] = OrderedDict()

    def access(self, blob: int, size: int, at: float) -> bool:
        if blob in self._sizes:
            self._frequency[blob] = min(self.FREQUENCY_MAX, self._frequency[blob] + 1)
            return True
        if size > self._capacity:
            return False
        remembered = self._ghost.pop(blob, None)
        while self._small_bytes + self._main_bytes + size > self._capacity:
            if self._small and (self._small_bytes > self._small_max or not self._main):
                self._evict_small()
            else:
                self._evict_main()
        self._sizes[blob] = size
        self._frequency[blob] = 0
        if remembered is None:
            self._small.append(blob)
            self._small_bytes += size
        else:
            self._ghost_bytes -= remembered
            self._to_main(blob)
        return False

    def _to_main(self, blob: int) -> None:
        self._main.append(blob)
        self._main_bytes += self._sizes[blob]

    def _evict_small(self) -> None:
        blob = self._small.popleft()
        size = self._sizes[blob]
        self._small_bytes -= size
        if self._frequency[blob] > 1:
            self._frequency[blob] = 0
            self._to_main(blob)
            return
        del self._sizes[blob], self._frequency[blob]
        self._ghost[blob] = size
        self._ghost_bytes += size
        while self._ghost_bytes > self._capacity - self._small_max:
            self._ghost_bytes -= self._ghost.popitem(last=False)[1]

    def _evict_main(self) -> None:
        blob = self._main.popleft()
        if self._frequency[blob] > 0:
            self._frequency[blob] -= 1
            self._main.append(blob)
            return
        self._main_bytes -= self._sizes.pop(blob)
        del self._frequency[blob]


class GreedyDual:
    """Greedy dual with frequency: what goes sets the age that newcomers start from.

    `value(hits, size)` is what an object is worth; 1/size a hit is GDSF, 1 a hit LFU-DA.
    """

    def __init__(self, capacity: int, value: Callable[[int, int], float]) -> None:
        self._capacity = capacity
        self._room = capacity
        self._value = value
        self._age = 0.0
        self._hits: dict[int, int] = {}
        self._sizes: dict[int, int] = {}
        self._worth: dict[int, float] = {}
        self._heap: list[tuple[float, int]] = []

    def access(self, blob: int, size: int, at: float) -> bool:
        hit = blob in self._sizes
        if size > self._capacity:
            return False
        if not hit:
            while self._room < size:
                self._evict()
            self._sizes[blob] = size
            self._hits[blob] = 0
            self._room -= size
        self._hits[blob] += 1
        self._worth[blob] = self._age + self._value(self._hits[blob], size)
        heapq.heappush(self._heap, (self._worth[blob], blob))
        return hit

    def _evict(self) -> None:
        while True:
            worth, blob = heapq.heappop(self._heap)
            if self._worth.get(blob) == worth:
                break
        self._age = worth
        self._room += self._sizes.pop(blob)
        del self._worth[blob], self._hits[blob]


def gdsf(capacity: int) -> Policy:
    return GreedyDual(capacity, lambda hits, size: hits / size)


def lfu_da(capacity: int) -> Policy:
    return GreedyDual(capacity, lambda hits, _size: float(hits))
