"""When will the pulls run out? Pure: readings in, an opinion out.

The pace is what was spent in the last `SPAN_S` by the readings' own account: each
fall between two neighbours counts, a rise is a refill and counts as nothing spent.
The time it is divided by is never less than `PACE_SPAN_S_MIN`, so that ten pulls
within a second are no forecast of 36,000 in an hour.

How Docker Hub refills is not documented: all at once when the window ends, or
little by little. Either way nothing that was spent stays spent for longer than
the window, so what would run out only after that lasts.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from itertools import pairwise
from typing import NamedTuple

SPAN_S = 3600.0
PACE_SPAN_S_MIN = 600.0


class Reading(NamedTuple):
    """Pulls that were left at a time (seconds of any steady clock)."""

    at: float
    remaining: int


class Forecast(NamedTuple):
    """`pace`: pulls a second, lately. `runs_out_s`: seconds from now until none is
    left at that pace; infinite if they last.
    """

    pace: float
    runs_out_s: float

    @property
    def lasts(self) -> bool:
        return math.isinf(self.runs_out_s)


LASTS = Forecast(0.0, math.inf)


def pace(readings: Iterable[Reading], *, now: float) -> float:
    """Pulls a second, by the readings of the last `SPAN_S`, in any order.

    What lies after `now` was read by another clock, and is left out.
    """
    lately = [one for one in readings if now - SPAN_S <= one.at <= now]
    # Of one moment the larger number first: pulls are spent more often than given back.
    ordered = sorted(lately, key=lambda one: (one.at, -one.remaining))
    if len(ordered) < 2:
        return 0.0
    spent = sum(max(0, one.remaining - two.remaining) for one, two in pairwise(ordered))
    return spent / max(PACE_SPAN_S_MIN, now - ordered[0].at)


def forecast(remaining: float, speed: float, *, refilled_in_s: float) -> Forecast:
    """Of `remaining` pulls (infinite: unlimited) that go at `speed` a second.

    `refilled_in_s`: after so many seconds what was spent by now is given back.
    """
    if math.isinf(remaining) or (speed <= 0 and remaining > 0):
        return Forecast(max(0.0, speed), math.inf)
    runs_out_s = max(0.0, remaining) / speed if remaining > 0 else 0.0
    return Forecast(speed, runs_out_s if runs_out_s < refilled_in_s else math.inf)
