"""One reader of a fill: what it is about to read, told to the flight as it gets on."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from proxy.cache.demand import Demand
from proxy.cache.flights import Flight
from proxy.oci.ranges import ByteRange


class Following:
    """Counts as a follower of `flight` until it leaves.

    `size` of the blob in bytes. One that is not `demanding` takes what comes.
    """

    def __init__(self, flight: Flight, size: int, *, demanding: bool = True) -> None:
        self._flight = flight
        self._size = size
        self._demanding = demanding
        self._demands: deque[Demand] = deque()
        flight.follow()

    def expect(self, ranges: Sequence[ByteRange]) -> None:
        """These will be read, in this order."""
        if not self._demanding:
            return
        if self._flight.whole and any(span.end - span.start == self._size for span in ranges):
            return  # It all comes anyway.
        self._demands.extend(
            Demand(span.start, span.end, is_open=len(ranges) == 1 and span.end == self._size)
            for span in ranges
        )
        self._flight.demands.add(self._demands)

    def at(self, offset: int) -> None:
        """It reads on from here."""
        while self._demands and not self._demands[0].at <= offset < self._demands[0].end:
            self._flight.demands.done(self._demands.popleft())
        if self._demands:
            self._flight.demands.move(self._demands[0], offset)

    def leave(self) -> None:
        """It is done, or its client has left."""
        self._flight.demands.remove(self._demands)
        self._demands.clear()
        self._flight.leave()
