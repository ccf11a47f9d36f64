"""What readers of a fill are about to need, and which bytes to fetch for that.

A closed range is needed whole. An open one (`bytes=N-`) is a *window*: parallel
pullers ask for the whole tail, read one chunk of it and hang up, so only a
stretch ahead of the reader is fetched, the longer the further it has come.

Decides; fetches nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from proxy.cache.extents import Extents

WINDOW_BYTES_MIN = 1024 * 1024
WINDOW_BYTES_MAX = 8 * 1024 * 1024
# Neighbours are fetched in one go if what lies between adds less than this share.
_MERGE_SHARE = 1 / 16


class Demand:
    """One stretch `[at, end)` that one reader goes through; `reach` bytes ahead matter."""

    __slots__ = ("at", "end", "reach")

    def __init__(self, at: int, end: int, *, is_open: bool) -> None:
        self.at = at
        self.end = end
        self.reach = WINDOW_BYTES_MIN if is_open else max(WINDOW_BYTES_MAX, 2 * (end - at))

    def gap(self, have: Extents) -> tuple[int, int] | None:
        """What to fetch for it now: nothing while enough lies ahead of the reader."""
        # From half the reach on, so that the reader need not stop at each window.
        missing = have.gap(self.at, min(self.end, self.at + self.reach // 2))
        if missing is None:
            return None
        start = missing[0]
        return have.gap(start, min(self.end, start + min(self.reach, WINDOW_BYTES_MAX)))

    def grow(self) -> None:
        """A stretch was fetched for it and it is still there."""
        self.reach = min(2 * self.reach, max(self.reach, WINDOW_BYTES_MAX))


class Demands:
    """Those of all readers of one fill. `changed` hears of each difference."""

    def __init__(self) -> None:
        self._all: dict[Demand, None] = {}
        self.changed: Callable[[], None] = lambda: None

    def __len__(self) -> int:
        return len(self._all)

    def add(self, demands: Iterable[Demand]) -> None:
        """Readers began."""
        self._all.update(dict.fromkeys(demands))
        self.changed()

    def move(self, demand: Demand, at: int) -> None:
        """A reader got on."""
        # From where it was, all that is left of a short one has been looked at.
        news = demand.end > demand.at + demand.reach // 2
        demand.at = at
        if news:
            self.changed()

    def done(self, demand: Demand) -> None:
        """It was read to its end: nothing is fetched for it any more."""
        self._all.pop(demand, None)

    def remove(self, demands: Iterable[Demand]) -> None:
        """Readers have left."""
        for demand in demands:
            self._all.pop(demand, None)
        self.changed()

    def needs(self, start: int, end: int) -> bool:
        """Whether somebody is still to read something of `[start, end)`."""
        return any(
            demand.at < end and start < min(demand.end, demand.at + 2 * demand.reach)
            for demand in self._all
        )

    def lacks(self, have: Extents, *, skip: Callable[[int], bool]) -> bool:
        """Whether `next_gap` would find something."""
        gaps = (demand.gap(have) for demand in self._all)
        return any(gap is not None and not skip(gap[0]) for gap in gaps)

    def next_gap(
        self, have: Extents, *, skip: Callable[[int], bool] = lambda _start: False
    ) -> tuple[int, int] | None:
        """The stretch to fetch next, oldest reader first; None: nothing is lacking.

        `have` are bytes that are there or on their way; `skip` leaves out gaps that
        begin where the bytes will come by themselves.
        """
        for demand in self._all:
            found = demand.gap(have)
            if found is None or skip(found[0]):
                continue
            found = self._widened(*found, have)
            demand.grow()
            return found
        return None

    def _widened(self, start: int, end: int, have: Extents) -> tuple[int, int]:
        """Together with the gaps of other demands that follow closely."""
        for demand in sorted(self._all, key=lambda one: one.at):
            close = end + int((end - start) * _MERGE_SHARE)
            if demand.at > close:
                break
            if demand.end <= end:
                continue
            found = have.gap(max(end, demand.at), min(demand.end, demand.at + demand.reach))
            if found is not None and found[0] <= close:
                end = max(end, min(found[1], start + WINDOW_BYTES_MAX))
        return start, end
