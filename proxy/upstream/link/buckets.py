"""How much may come now under one cap. Pure; time is handed in (seconds, monotonic).

Bytes are counted when they have come, so the level may fall below zero, and nothing
more is let through until it is above again: over any stretch of time the cap is
exceeded by no more than `BURST_S` of it and the few pieces that were on their way.
"""

from __future__ import annotations

BURST_S = 0.2
"""What was not used is lost after that long. It bridges a busy event loop."""

_PROMISED_S = 0.05
_QUANTUM_S = 0.02
QUANTUM_BYTES_MIN = 4 * 1024
QUANTUM_BYTES_MAX = 256 * 1024


class Bucket:
    """A cap of `rate` bytes a second; None: no cap."""

    __slots__ = ("_at", "_promised", "_promised_at", "level", "rate")

    def __init__(self, rate: float | None = None, now: float = 0.0) -> None:
        self.rate = rate
        self.level = 0.0
        self._at = now
        self._promised = 0
        self._promised_at = 0.0

    def set_rate(self, rate: float | None, now: float) -> None:
        """From `now` on."""
        if rate != self.rate:
            self.refill(now)
            self.rate, self._at = rate, now
            # What is owed to a faster cap is not paid off at the pace of a slower one.
            burst = (rate or 0.0) * BURST_S
            self.level = max(-burst, min(self.level, burst))

    def refill(self, now: float) -> None:
        """What has been earned since the last time."""
        if self.rate is not None:
            earned = self.rate * (now - self._at)
            self.level = min(self.level + earned, self.rate * BURST_S)
            self._at = now
        if now - self._promised_at > _PROMISED_S:
            self._promised = 0

    def take(self, count: int) -> None:
        """So many bytes have come."""
        if self.rate is not None:
            self.level -= count
            self._promised = max(0, self._promised - self.quantum)

    def promise(self, now: float) -> None:
        """Somebody may read a piece now; it counts as read until it is, for a moment."""
        self._promised += self.quantum
        self._promised_at = now

    @property
    def open(self) -> bool:
        """Whether another piece may come."""
        return self.rate is None or self.level > self._promised

    def opens_in(self) -> float:
        """After how many seconds it does, if nothing comes meanwhile."""
        if self.rate is None or self.open:
            return 0.0
        return (self._promised - self.level) / self.rate

    @property
    def quantum(self) -> int:
        """Bytes of a piece: what comes in `_QUANTUM_S`, within bounds."""
        wanted = QUANTUM_BYTES_MAX if self.rate is None else int(self.rate * _QUANTUM_S)
        return max(QUANTUM_BYTES_MIN, min(QUANTUM_BYTES_MAX, wanted))


class Peak:
    """The most that came in a second lately: what the link can do, as far as it was seen.
    Half of it is forgotten in `_HALF_S`.
    """

    _WINDOW_S = 1.0
    _HALF_S = 300.0

    def __init__(self, now: float) -> None:
        self.rate = 0.0
        self._since = now
        self._had = 0

    def sample(self, total: int, now: float) -> None:
        """`total` bytes have come by `now`."""
        passed = now - self._since
        if passed >= self._WINDOW_S:
            faded = self.rate * 0.5 ** (passed / self._HALF_S)
            self.rate = max(faded, (total - self._had) / passed)
            self._since, self._had = now, total
