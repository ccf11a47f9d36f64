"""The keys of most weight in a stream that has more keys than there is memory for.

SpaceSaving: `capacity` keys are counted; a key that is not among them takes the place
of the lightest and inherits its weight. So a weight is never less than the truth, too
large by at most the lightest, which is at most a `capacity`-th of all weight, and a key
that has more than that is always here. After "Efficient Computation of Frequent and
Top-k Elements in Data Streams" (ICDT 2005).

Time is forgotten by halving: call `halve` once in a half-life.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterator
from typing import Any, TypeGuard


class HeavyHitters:
    """At most `capacity` (at least 1) keys with their weights."""

    def __init__(self, capacity: int) -> None:
        if capacity < 1:
            raise ValueError("a capacity of at least 1")
        self.capacity = capacity
        self.total = 0.0
        """All weight that was ever added, halved with the rest."""
        # Key -> [weight, how much of it was inherited].
        self._kept: dict[str, list[float]] = {}
        # One entry for each key, with a weight that it had once: never more than it has.
        self._lightest: list[tuple[float, str]] = []

    def __len__(self) -> int:
        return len(self._kept)

    def __contains__(self, key: object) -> bool:
        return key in self._kept

    def __iter__(self) -> Iterator[str]:
        return iter(self._kept)

    def add(self, key: str, weight: float) -> str | None:
        """Count `weight` (0 or more, finite) for `key`; the key that had to go, if any."""
        self.total += weight
        kept = self._kept.get(key)
        if kept is not None:
            kept[0] += weight
            return None
        if len(self._kept) < self.capacity:
            self._put(key, weight, 0.0)
            return None
        gone, inherited = self._take_lightest()
        self._put(key, inherited + weight, inherited)
        return gone

    def top(self, n: int) -> list[tuple[str, float]]:
        """The `n` heaviest with their weights, heaviest first; equal ones by name."""
        chosen = heapq.nsmallest(n, self._kept.items(), key=lambda item: (-item[1][0], item[0]))
        return [(key, weight) for key, (weight, _) in chosen]

    def error(self, key: str) -> float:
        """By how much the weight of `key` may be too large; 0.0 if it is not here."""
        return self._kept[key][1] if key in self._kept else 0.0

    def halve(self) -> None:
        """Let everything so far count half."""
        self.total /= 2
        for kept in self._kept.values():
            kept[0] /= 2
            kept[1] /= 2
        self._lightest = [(kept[0], key) for key, kept in self._kept.items()]
        heapq.heapify(self._lightest)

    def document(self) -> dict[str, Any]:
        """All of it as JSON: `{"total": …, "keys": [[key, weight, error], …]}`."""
        return {
            "total": self.total,
            "keys": [[key, weight, error] for key, (weight, error) in self._kept.items()],
        }

    def load(self, document: object) -> None:
        """Become what `document` tells; what can't be read of it is left out.

        Of more than `capacity` keys the heaviest are taken. Never raises.
        """
        keys = document.get("keys") if isinstance(document, dict) else None
        found: dict[str, list[float]] = {}
        for entry in keys if isinstance(keys, list) else ():
            match entry:
                case [str(key), weight, error] if _counts(weight) and _counts(error):
                    found[key] = [float(weight), min(float(error), float(weight))]
                case _:
                    continue
        heaviest = sorted(found.items(), key=lambda item: -item[1][0])[: self.capacity]
        self._kept = dict(heaviest)
        self._lightest = [(kept[0], key) for key, kept in heaviest]
        heapq.heapify(self._lightest)
        total = document.get("total") if isinstance(document, dict) else None
        known = sum(kept[0] - kept[1] for _, kept in heaviest)
        self.total = max(float(total), known) if _counts(total) else known

    def _put(self, key: str, weight: float, error: float) -> None:
        self._kept[key] = [weight, error]
        heapq.heappush(self._lightest, (weight, key))

    def _take_lightest(self) -> tuple[str, float]:
        """Forget the lightest key; it and its weight."""
        while True:
            weight, key = self._lightest[0]
            now = self._kept[key][0]
            if now == weight:
                heapq.heappop(self._lightest)
                del self._kept[key]
                return key, weight
            heapq.heapreplace(self._lightest, (now, key))


def _counts(value: object) -> TypeGuard[float]:
    """Whether it can be a weight."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    try:
        return math.isfinite(value) and 0 <= float(value) < 1e300
    except OverflowError:
        return False
