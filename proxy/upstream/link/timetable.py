"""Which rate holds when. Pure: settings in, a rate for a moment out.

Hours are those of the clock on the wall: "08:00" is eight o'clock in summer and in
winter, and on the day when the clock is put back an hour that comes twice counts twice.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta, tzinfo
from zoneinfo import ZoneInfo

from proxy.config.link import (
    DAY_MIN,
    LinkHours,
    UpstreamLinkSettings,
    parse_days,
    parse_rate,
    parse_time,
)

_DAYS_AHEAD = 9


@dataclass(frozen=True, slots=True)
class Hours:
    """`rate` (bytes a second; None: no cap) on `days` (Monday is 0) from minute `begin` of
    the day to minute `end`; if that is no later, of the next day.
    """

    days: frozenset[int]
    begin: int
    end: int
    rate: int | None

    @classmethod
    def of(cls, said: LinkHours) -> Hours:
        """What the settings say."""
        return cls(
            parse_days(said.days),
            parse_time(said.begin),
            parse_time(said.end),
            parse_rate(said.rate),
        )

    def hold(self, weekday: int, second: float) -> bool:
        """Whether at this second of such a day."""
        begin, end = self.begin * 60, self.end * 60
        if begin < end:
            return weekday in self.days and begin <= second < end
        today = weekday in self.days and second >= begin
        return today or ((weekday - 1) % 7 in self.days and second < end)


@dataclass(frozen=True, slots=True)
class Timetable:
    """`rate` (bytes a second; None: no cap), and other ones at certain hours: the first
    that fits holds. `zone` None: the system's.
    """

    rate: int | None = None
    hours: tuple[Hours, ...] = ()
    zone: tzinfo | None = None

    @classmethod
    def of(cls, said: UpstreamLinkSettings, time_zone: str | None) -> Timetable:
        """What the settings say."""
        zone = None if time_zone is None else ZoneInfo(time_zone)
        return cls(parse_rate(said.rate), tuple(map(Hours.of, said.hours)), zone)

    @property
    def caps(self) -> bool:
        """Whether there is a cap at any time."""
        return self.rate is not None or any(one.rate is not None for one in self.hours)

    def rate_at(self, now: float) -> int | None:
        """Bytes a second at `now` (seconds since the epoch); None: no cap."""
        if not self.hours:
            return self.rate
        local = datetime.fromtimestamp(now, self.zone)
        second = local.hour * 3600 + local.minute * 60 + local.second
        weekday = local.weekday()
        return next((one.rate for one in self.hours if one.hold(weekday, second)), self.rate)

    def next_change(self, now: float) -> float | None:
        """When another rate will hold; None: never."""
        rate, before = self.rate_at(now), now
        for moment in self._boundaries(now):
            if self.rate_at(moment) != rate:
                return self._first_other(rate, before, moment)
            before = moment
        return None

    def _boundaries(self, now: float) -> list[float]:
        """Moments after `now` of which one is at or shortly after the next change."""
        today = datetime.fromtimestamp(now, self.zone).date()
        minutes = {m % DAY_MIN for one in self.hours for m in (one.begin, one.end)}
        return sorted(
            moment
            for day in range(-1, _DAYS_AHEAD)
            for minute in minutes
            for moment in self._moments(
                datetime.combine(today, datetime.min.time()) + timedelta(days=day, minutes=minute)
            )
            if moment > now
        )

    def _moments(self, wall: datetime) -> Iterator[float]:
        """When clocks show it: once, twice, or (skipped in spring) about then."""
        for fold in (0, 1):
            yield wall.replace(tzinfo=self.zone, fold=fold).timestamp()

    def _first_other(self, rate: int | None, same: float, other: float) -> float:
        """Between these two: where a clock that is put forward skips the boundary, the
        change is when that happens.
        """
        while other - same > 1:
            middle = (same + other) // 2
            if self.rate_at(middle) == rate:
                same = middle
            else:
                other = middle
        return float(int(other))
