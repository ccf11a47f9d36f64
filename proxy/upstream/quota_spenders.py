"""Who spent the pulls of the last day: which images, for which clients.

One small count an hour, each with room for so many names only (the heaviest are kept,
as `cache/heavy.py` explains), so that neither a million images nor a million clients
take more memory. Clients count by network (`cache/subnets.py`).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from proxy.cache.heavy import HeavyHitters
from proxy.cache.subnets import subnet_of

HOURS = 24
NAMES_MAX = 64
"""In each hour, of images and of clients each."""
_HOUR_S = 3600.0


class _Hour:
    def __init__(self, number: int) -> None:
        self.number = number
        self.images = HeavyHitters(NAMES_MAX)
        self.clients = HeavyHitters(NAMES_MAX)


class Spenders:
    """Of one upstream; `monotonic` counts the hours."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._hours: deque[_Hour] = deque()

    def spent(self, image: str, client: str) -> None:
        """One pull was counted."""
        number = int(self._monotonic() // _HOUR_S)
        if not self._hours or self._hours[-1].number != number:
            self._hours.append(_Hour(number))
        self._forget()
        self._hours[-1].images.add(image, 1)
        self._hours[-1].clients.add(subnet_of(client), 1)

    @property
    def total(self) -> int:
        """All pulls of the last day."""
        self._forget()
        return round(sum(hour.images.total for hour in self._hours))

    def images(self, n: int) -> list[tuple[str, int]]:
        """The `n` images that took most, with their pulls; most first."""
        self._forget()
        return _top([hour.images for hour in self._hours], n)

    def clients(self, n: int) -> list[tuple[str, int]]:
        """The `n` networks for which most was spent."""
        self._forget()
        return _top([hour.clients for hour in self._hours], n)

    def _forget(self) -> None:
        oldest = int(self._monotonic() // _HOUR_S) - HOURS
        while self._hours and self._hours[0].number <= oldest:
            self._hours.popleft()


def _top(counts: list[HeavyHitters], n: int) -> list[tuple[str, int]]:
    together: dict[str, float] = {}
    for count in counts:
        for name, weight in count.top(NAMES_MAX):
            together[name] = together.get(name, 0.0) + weight
    heaviest = sorted(together.items(), key=lambda item: (-item[1], item[0]))[:n]
    return [(name, round(weight)) for name, weight in heaviest]
