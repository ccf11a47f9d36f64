"""How many pulls one credential has left, and how many of them may be spent on what.

Three steps down. Above `warm_reserve` everything goes. Below it, only who waits may
spend. Below `reserve`, only what nobody has here is fetched for them (`saving`; the
cache decides). With nothing left nothing is asked, but for one look now and then.

An upstream that speaks of no quota, or of a window without a number, has no end of
pulls. What was read longer ago than the window is long says nothing any more.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable

from proxy.config.quota import Reserve
from proxy.ports import Quota
from proxy.upstream.quota_forecast import (
    LASTS,
    SPAN_S,
    Forecast,
    Reading,
    forecast,
    pace,
)

WINDOW_S_DEFAULT = 6 * 3600.0
"""Docker Hub's, for those who do not say theirs."""
LOOK_AGAIN_S = 30.0
"""With none left, so often one GET may find out whether there are some again. Every
HEAD finds out, too, and costs nothing."""
_READINGS_MAX = 1024


class Budget:
    """The pulls of one credential. Not asked for the time: `monotonic` is injected."""

    def __init__(
        self, *, reserve: Reserve, warm_reserve: Reserve, monotonic: Callable[[], float]
    ) -> None:
        self._reserve = reserve
        self._warm_reserve = warm_reserve
        self._monotonic = monotonic
        self._readings: deque[Reading] = deque(maxlen=_READINGS_MAX)
        self._read_at = -math.inf
        self._refilled_at = -math.inf
        self._looked_at = -math.inf
        self.quota: Quota | None = None
        self.under_way = 0
        """GETs that were sent and not answered: spent, as far as we know."""

    @property
    def metered(self) -> bool:
        """Whether there is a number that counts."""
        return self._remaining() is not None

    @property
    def left(self) -> float:
        """Pulls that are left; infinite where nobody counts."""
        remaining = self._remaining()
        return math.inf if remaining is None else max(0, remaining - self.under_way)

    @property
    def reserve(self) -> int:
        """For what nobody has here, in pulls."""
        return self._reserve.pulls(self._limit)

    @property
    def warm_reserve(self) -> int:
        """For those who wait, in pulls; never less than `reserve`."""
        return max(self.reserve, self._warm_reserve.pulls(self._limit))

    @property
    def saving(self) -> bool:
        """Whether a GET is only for what nobody has here."""
        return self.quota is not None and self.left <= self.reserve

    @property
    def age_s(self) -> float:
        """Since the last reading; infinite if there was none."""
        return self._monotonic() - self._read_at

    def read(self, quota: Quota | None) -> None:
        """An answer's headers said this. None: they speak of no quota (any more)."""
        now = self._monotonic()
        remaining = None if quota is None else quota.remaining
        before = self._remaining()
        self.quota, self._read_at = quota, now
        if remaining is None:
            self._readings.clear()
            return
        if before is None or remaining > before:
            self._refilled_at = now
        if [one.remaining for one in list(self._readings)[-2:]] == [remaining, remaining]:
            self._readings.pop()  # Of equal ones the first and the last tell all.
        self._readings.append(Reading(now, remaining))
        while self._readings[0].at < now - SPAN_S:
            self._readings.popleft()

    def may_look(self) -> bool:
        """With none left: whether one GET may try now; says yes once in a while."""
        now = self._monotonic()
        if now - max(self._read_at, self._looked_at) < LOOK_AGAIN_S:
            return False
        self._looked_at = now
        return True

    def pace(self) -> float:
        """Pulls a second, lately."""
        return pace(self._readings, now=self._monotonic()) if self.metered else 0.0

    @property
    def refilled_in_s(self) -> float:
        """After so many seconds, at the latest, what is spent now is given back."""
        due_s = self._refilled_at + self._window_s - self._monotonic()
        return due_s if due_s > 0 else self._window_s

    def forecast(self) -> Forecast:
        """At the pace of the last hour."""
        if not self.metered:
            return LASTS
        return forecast(self.left, self.pace(), refilled_in_s=self.refilled_in_s)

    @property
    def _limit(self) -> int | None:
        return None if self.quota is None else self.quota.limit

    @property
    def _window_s(self) -> float:
        said = None if self.quota is None else self.quota.window_s
        return float(said) if said else WINDOW_S_DEFAULT

    def _remaining(self) -> int | None:
        if self.quota is None or self.age_s >= self._window_s:
            return None
        return self.quota.remaining
