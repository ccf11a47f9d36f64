"""How many connections one blob is worth: found out by trying. Pure.

An upstream (or the CDN it redirects to) that caps each connection gives twice
as much to two; a saturated link gives nothing more, and there a second
connection only takes from somebody else. So the number is doubled while that
pays, and taken back once, for good, when it does not.

`_GAIN_MIN` of a doubling is 2 at best and 1 where it is useless; 1.3 stays away
from the noise of both.
"""

from __future__ import annotations

_RAMP_S = 0.1
_EPOCH_S = 0.15
_EPOCH_BYTES_MIN = 1024 * 1024
_GAIN_MIN = 1.3


class Width:
    """`lanes` is how many to use now; `sample` hears how it goes."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._rate = 0.0
        self._since: tuple[float, int] | None = None
        self._changed_at: float | None = None
        self.lanes = 1
        self.settled = most <= 1

    def settle(self) -> None:
        """Stay with what it is."""
        self.settled = True

    def sample(self, now: float, fetched: int) -> None:
        """`fetched` bytes in all by the time `now` (seconds, monotonic)."""
        if self.settled:
            return
        if self._changed_at is None:
            self._changed_at = now
        if self._since is None:
            # New connections need a moment before their rate says anything.
            if now - self._changed_at >= _RAMP_S:
                self._since = (now, fetched)
            return
        began, had = self._since
        if now - began < _EPOCH_S or fetched - had < _EPOCH_BYTES_MIN:
            return
        self._decide((fetched - had) / (now - began), now)

    def _decide(self, rate: float, now: float) -> None:
        if self.lanes > 1 and rate < self._rate * _GAIN_MIN:
            self.lanes //= 2
            self.settled = True
            return
        self._rate = rate
        if self.lanes * 2 > self._most:
            self.settled = True
            return
        self.lanes *= 2
        self._since, self._changed_at = None, now
