"""Sums over time: five minutes of the last hour, hours of the last day, days of the
last month, and all that ever was.

Entries go into the bucket of the running five minutes; when those are over, it is added
to its hour, its day and the whole. At its worst (every table full all the time) it takes
some 8 MB.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from proxy.savings.sums import Sums, Table, add, unpacked

FIVES, HOURS, DAYS = 12, 24, 30
_STEP_S = 300
_HOUR_S = 3600
_DAY_S = 86400
_NAMES_MAX = 200
_EVER_NAMES_MAX = 500
_UPSTREAMS_MAX = 200
_VERSION = 1


class Bucket:
    """The sums of one stretch of time."""

    __slots__ = ("clients", "images", "upstreams")

    def __init__(self, names_max: int = _NAMES_MAX) -> None:
        self.upstreams: dict[str, Sums] = {}
        self.images = Table(names_max)
        self.clients = Table(names_max)

    def merge(self, other: Bucket) -> None:
        """Add all that is in `other`."""
        for name, sums in other.upstreams.items():
            add(self.upstreams, name, sums)
        for name, sums in other.images.sums.items():
            self.images.add(name, sums)
        for name, sums in other.clients.sums.items():
            self.clients.add(name, sums)

    def close(self) -> None:
        """See `Table.close`."""
        self.images.close()
        self.clients.close()

    def document(self) -> dict[str, Any]:
        """As `load` reads it."""
        return {
            "upstreams": {name: sums.packed() for name, sums in self.upstreams.items()},
            "images": {name: sums.packed() for name, sums in self.images.sums.items()},
            "clients": {name: sums.packed() for name, sums in self.clients.sums.items()},
        }

    def load(self, document: object) -> None:
        """Become what `document` tells. Never raises."""
        if isinstance(document, dict):
            for name, sums in unpacked(document.get("upstreams")):
                if len(self.upstreams) < _UPSTREAMS_MAX:
                    add(self.upstreams, name, sums)
            self.images.load(unpacked(document.get("images")))
            self.clients.load(unpacked(document.get("clients")))


class Ring:
    """The last `count` buckets of `step_s` seconds each, by their number since the epoch."""

    def __init__(self, step_s: int, count: int) -> None:
        self.step_s = step_s
        self.count = count
        self.buckets: dict[int, Bucket] = {}

    def merge(self, at: float, bucket: Bucket) -> None:
        """Add what began at `at`; what is too old by then goes."""
        number = int(at // self.step_s)
        if number not in self.buckets:
            for one in self.buckets.values():
                one.close()
            self.buckets[number] = Bucket()
        self.buckets[number].merge(bucket)
        for old in [one for one in self.buckets if one <= number - self.count]:
            del self.buckets[old]

    def since(self, now: float, count: int) -> Iterator[tuple[int, Bucket]]:
        """The last `count` steps up to and with the one of `now`, as far as there are any."""
        last = int(now // self.step_s)
        for number in range(last - count + 1, last + 1):
            if number in self.buckets:
                yield number, self.buckets[number]


@dataclass(slots=True)
class View:
    """Everything in a window of time. `series`: (start of a step, its total), in order."""

    since: float
    step_s: int
    upstreams: dict[str, Sums] = field(default_factory=dict)
    images: dict[str, Sums] = field(default_factory=dict)
    clients: dict[str, Sums] = field(default_factory=dict)
    series: dict[float, Sums] = field(default_factory=dict)

    @property
    def total(self) -> Sums:
        """Of all upstreams."""
        total = Sums()
        for sums in self.upstreams.values():
            total.add(sums)
        return total

    def put(self, at: float | None, bucket: Bucket) -> None:
        """One more, of the step that begins at `at`."""
        for mine, others in (
            (self.upstreams, bucket.upstreams),
            (self.images, bucket.images.sums),
            (self.clients, bucket.clients.sums),
        ):
            for name, sums in others.items():
                add(mine, name, sums)
        if at is not None:
            step = self.series.setdefault(at, Sums())
            for sums in bucket.upstreams.values():
                step.add(sums)


class History:
    """All buckets. Times are seconds since the epoch."""

    def __init__(self, now: float) -> None:
        self.since = now
        self._rings = {
            "fives": Ring(_STEP_S, FIVES),
            "hours": Ring(_HOUR_S, HOURS),
            "days": Ring(_DAY_S, DAYS),
        }
        self._ever = Bucket(_EVER_NAMES_MAX)
        self._open = Bucket()
        self._opened = math.floor(now / _STEP_S)
        """The number of the running five minutes since the epoch."""

    def at(self, now: float) -> Bucket:
        """The bucket to enter things in now. A clock that was set back changes nothing."""
        number = math.floor(now / _STEP_S)
        if number > self._opened:
            began, done = self._opened * _STEP_S, self._open
            self._opened = number
            if done.upstreams:
                self._open = Bucket()
                done.close()
                for ring in self._rings.values():
                    ring.merge(began, done)
                self._ever.merge(done)
        return self._open

    def last_hour(self, now: float) -> View:
        """In steps of five minutes."""
        return self._view("fives", FIVES, now)

    def last_hours(self, now: float, count: int) -> View:
        """Up to `HOURS`."""
        return self._view("hours", count, now)

    def last_days(self, now: float, count: int) -> View:
        """Up to `DAYS`; days begin at midnight UTC."""
        return self._view("days", count, now)

    def ever(self, now: float) -> View:
        """Since the beginning; the series as far as days are remembered."""
        self.at(now)
        days = self._view("days", DAYS, now)
        view = View(self.since, _DAY_S, series=days.series)
        view.put(None, self._ever)
        view.put(None, self._open)
        return view

    def snapshot(self, now: float) -> Callable[[], bytes]:
        """What to write to a file: made by a function that may be called in a thread."""
        self.at(now)
        whole: dict[str, Any] = {
            "v": _VERSION,
            "since": self.since,
            # So that the file of one that is idle stays as it is.
            "opened": self._opened if self._open.upstreams else 0,
            "open": self._open.document(),
            "ever": self._ever.document(),
        }
        over: dict[str, dict[int, Bucket]] = {}
        for name, ring in self._rings.items():
            # Only the latest is ever changed again.
            latest = max(ring.buckets, default=0)
            over[name] = {number: one for number, one in ring.buckets.items() if number != latest}
            running = ring.buckets.get(latest)
            whole[name] = {} if running is None else {str(latest): running.document()}

        def rendered() -> bytes:
            for name, buckets in over.items():
                whole[name] |= {str(number): one.document() for number, one in buckets.items()}
            return json.dumps(whole, separators=(",", ":")).encode()

        return rendered

    def load(self, document: object, now: float) -> None:
        """Go on from what a file told; what can't be read of it is left out."""
        if not isinstance(document, dict) or document.get("v") != _VERSION:
            return
        since = document.get("since")
        if isinstance(since, int | float) and 0 < since < self.since:
            self.since = float(since)
        for name, ring in self._rings.items():
            last = int(now // ring.step_s)
            for number, told in _numbered(document.get(name)):
                if last - ring.count < number <= last:
                    ring.buckets[number] = Bucket()
                    ring.buckets[number].load(told)
        self._ever.load(document.get("ever"))
        opened = document.get("opened")
        if isinstance(opened, int) and 0 < opened <= self._opened:
            self._opened = opened
            self._open.load(document.get("open"))
        self.at(now)

    def _view(self, name: str, count: int, now: float) -> View:
        self.at(now)
        ring = self._rings[name]
        first = (int(now // ring.step_s) - count + 1) * ring.step_s
        view = View(max(float(first), self.since), ring.step_s)
        for number, bucket in ring.since(now, count):
            view.put(number * ring.step_s, bucket)
        running = self._opened * _STEP_S
        if running >= first:
            view.put(running - running % ring.step_s, self._open)
        return view


def _numbered(document: object) -> Iterator[tuple[int, object]]:
    for number, told in document.items() if isinstance(document, Mapping) else ():
        if isinstance(number, str) and number.isdecimal() and len(number) < 12:
            yield int(number), told
