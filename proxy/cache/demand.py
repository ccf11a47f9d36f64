"""What readers of a fill are about to need, and which bytes to fetch for that.

A closed range is needed whole. An open one (`bytes=N-`) is a *window*: parallel
pullers ask for the whole tail, read one chunk of it and hang up, so only a
stretch ahead of the reader is fetched, the longer the further it has come. They hang up
where the next one began: how far apart open ranges begin tells how much of each is read,
and a reader has to pass that point before more is fetched for it.

Lazy pullers ask for a thousand short ranges at once. So a look at what to fetch costs
what there is to fetch, not what was asked for: demands whose bytes are all there or on
their way are not looked at again, unless something on its way got lost.

Decides; fetches nothing.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from operator import attrgetter

from proxy.cache.extents import Extents

WINDOW_BYTES_MIN = 1024 * 1024
WINDOW_BYTES_MAX = 8 * 1024 * 1024
# Neighbours are fetched in one go if what lies between costs less than another request:
# next to nothing, as its heads do, or little time and little of what was asked for.
_BETWEEN_BYTES_FREE = 1024
_BETWEEN_BYTES_MAX = 64 * 1024
_BETWEEN_SHARE = 1 / 10
# Readers of chunks up to this are taken to read theirs whole.
_CHUNK_BYTES_MAX = 64 * 1024 * 1024
# Of so many open ranges the beginnings are kept.
_BEGINNINGS_MAX = 1024
# A look at what is not taken costs no more steps, however many asked for the same.
_STEPS_MAX = 16 * 1024
_START = attrgetter("start")


class Demand:
    """One stretch `[at, end)` that one reader goes through; `reach` bytes ahead matter.

    `start` is where the reader began; nothing beyond `pause` is fetched before it is there.
    """

    __slots__ = ("at", "end", "is_open", "pause", "reach", "start")

    def __init__(self, at: int, end: int, *, is_open: bool) -> None:
        self.start = self.at = at
        self.end = self.pause = end
        self.is_open = is_open
        self.reach = WINDOW_BYTES_MIN if is_open else max(WINDOW_BYTES_MAX, 2 * (end - at))

    def gap(self, have: Extents) -> tuple[int, int] | None:
        """What to fetch for it now: nothing while enough lies ahead of the reader."""
        # From half the reach on, so that the reader need not stop at each window.
        missing = have.gap(self.at, min(self.until, self.at + self.reach // 2))
        if missing is None:
            return None
        start = missing[0]
        return have.gap(start, min(self.until, start + min(self.reach, WINDOW_BYTES_MAX)))

    @property
    def until(self) -> int:
        """Where to stop for now."""
        return self.pause if self.at < self.pause else self.end

    def needs(self, start: int, end: int) -> bool:
        """Whether its reader is still to read something of `[start, end)`, and soon."""
        return self.at < end and start < min(self.end, self.at + 2 * self.reach)

    def grow(self) -> None:
        """A stretch is fetched for it and it is still there."""
        self.reach = min(2 * self.reach, max(self.reach, WINDOW_BYTES_MAX))


class Demands:
    """Those of all readers of one fill. `changed` hears of each difference."""

    def __init__(self) -> None:
        # Oldest first, both; of the latter something may be missing.
        self._all: dict[Demand, None] = {}
        self._lacking: dict[Demand, None] = {}
        # By `start`; perhaps some that lack nothing any more.
        self._sorted: list[Demand] | None = None
        self._left = Extents()
        self._steps = 0
        # Where open ranges began, and the least that two of them were apart.
        self._beginnings: list[int] = []
        self._apart = 0
        self.changed: Callable[[], None] = lambda: None

    def __len__(self) -> int:
        return len(self._all)

    def add(self, demands: Iterable[Demand]) -> None:
        """Readers began."""
        began = dict.fromkeys(demands)
        for demand in began:
            if demand.is_open:
                self._began_open(demand)
        self._all.update(began)
        self._lacking.update(began)
        self._sorted = None
        self.changed()

    def _began_open(self, demand: Demand) -> None:
        beginnings, start = self._beginnings, demand.start
        at = bisect_left(beginnings, start)
        around = [abs(start - other) for other in beginnings[max(0, at - 1) : at + 1]]
        # The same once more, or two so close, say nothing of how much is read.
        apart = min((one for one in around if one >= WINDOW_BYTES_MIN), default=0)
        if start not in beginnings[at : at + 1] and len(beginnings) < _BEGINNINGS_MAX:
            beginnings.insert(at, start)
        if apart and (not self._apart or apart < self._apart):
            self._apart = apart
            for other in self._all:
                self._pause(other)
        self._pause(demand)

    def _pause(self, demand: Demand) -> None:
        if demand.is_open and self._apart:
            demand.pause = min(demand.end, demand.start + self._apart)
            if self._apart <= _CHUNK_BYTES_MAX:
                demand.reach = max(demand.reach, WINDOW_BYTES_MAX)

    def move(self, demand: Demand, at: int) -> None:
        """A reader got on."""
        # From where it was, all that is left of a short one has been looked at.
        news = demand.end > demand.at + demand.reach // 2
        if demand.at < demand.pause <= at < demand.end:
            # It goes on, or what it was sent and does not read any more lies in buffers.
            demand.reach, news = WINDOW_BYTES_MIN, True
        demand.at = at
        if news:
            self.changed()

    def done(self, demand: Demand) -> None:
        """It was read to its end: nothing is fetched for it any more."""
        self._all.pop(demand, None)
        self._lacking.pop(demand, None)

    def remove(self, demands: Iterable[Demand]) -> None:
        """Readers have left."""
        for demand in demands:
            if demand in self._all:
                self.done(demand)
                self._left.add(demand.at, demand.end)
        self.changed()

    def lost(self) -> None:
        """Something that was on its way does not come."""
        self._lacking = dict(self._all)
        self._sorted = None

    def take_left(self) -> Extents:
        """What readers had yet to read who left since somebody asked last."""
        left, self._left = self._left, Extents()
        return left

    def beyond(self, position: int) -> bool:
        """Whether somebody is still to read something behind that."""
        return any(demand.until > position for demand in self._all)

    def needing(self, start: int, end: int, before: Demand | None = None) -> Demand | None:
        """Who is still to read something of `[start, end)`; `before`: who was it last time."""
        if before is not None and before in self._all and before.needs(start, end):
            return before
        return next((demand for demand in self._all if demand.needs(start, end)), None)

    def gaps(
        self, coming: Extents, *, skip: Callable[[int], bool] = lambda _start: False
    ) -> Iterator[tuple[Demand, int, int]]:
        """Stretches to fetch now, and for whom: oldest reader first.

        `coming` are bytes that are there or on their way: who takes a stretch lets its
        demand grow and adds it there before asking for the next one. `skip` leaves out
        those that begin where the bytes will come by themselves.
        """
        self._steps = 0
        for demand in list(self._lacking):
            while (found := demand.gap(coming)) is not None and not skip(found[0]):
                yield demand, *self._widened(demand, *found, coming)
                if coming.end_at(found[0]) == found[0]:  # It was not taken.
                    if self._steps > _STEPS_MAX:
                        return
                    break
            if found is None and coming.gap(demand.at, demand.end) is None:
                del self._lacking[demand]

    def _widened(self, first: Demand, start: int, end: int, coming: Extents) -> tuple[int, int]:
        """Together with the gaps that follow closely."""
        needed, between, most = end - start, 0, start + WINDOW_BYTES_MAX
        for demand in chain((first,), self._lacking_from(start)):
            if end >= most or demand.start - end > _BETWEEN_BYTES_MAX:
                break
            while end < min(most, demand.until):
                reached = min(demand.until, demand.at + demand.reach, most)
                found = coming.gap(max(end, demand.at), reached)
                if found is None:
                    break
                apart, more = found[0] - end, found[1] - found[0]
                bearable = min(_BETWEEN_BYTES_MAX, needed * _BETWEEN_SHARE - between)
                if apart > max(_BETWEEN_BYTES_FREE, bearable):
                    break
                needed, between, end = needed + more, between + apart, found[1]
        return start, end

    def _lacking_from(self, start: int) -> Iterator[Demand]:
        """Those that begin there or behind it, in the order of their beginnings."""
        if self._sorted is None:
            self._sorted = sorted(self._lacking, key=_START)
        for index in range(bisect_left(self._sorted, start, key=_START), len(self._sorted)):
            self._steps += 1
            if self._sorted[index] in self._lacking:
                yield self._sorted[index]
