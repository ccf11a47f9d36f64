"""Which bytes of a file are there: a set of intervals. Pure.

Exact intervals rather than a bitmap of aligned pieces: a lazy puller that asks
for scattered 50 KB chunks of a layer costs the upstream just these bytes.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator


class Extents:
    """Half-open intervals `[start, end)` of byte offsets: sorted, disjoint, not touching.

    `total` is how many bytes they cover.
    """

    __slots__ = ("_ends", "_starts", "total")

    def __init__(self) -> None:
        self._starts: list[int] = []
        self._ends: list[int] = []
        self.total = 0

    def copy(self) -> Extents:
        """The same bytes."""
        other = Extents()
        other._starts, other._ends = self._starts.copy(), self._ends.copy()
        other.total = self.total
        return other

    def __len__(self) -> int:
        return len(self._starts)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return iter(list(zip(self._starts, self._ends, strict=True)))

    def add(self, start: int, end: int) -> None:
        """These bytes are there; some of them may have been before."""
        if start >= end:
            return
        first = bisect_left(self._ends, start)
        last = bisect_right(self._starts, end)
        if first < last:
            start = min(start, self._starts[first])
            end = max(end, self._ends[last - 1])
        for index in range(first, last):
            self.total -= self._ends[index] - self._starts[index]
        self.total += end - start
        self._starts[first:last] = [start]
        self._ends[first:last] = [end]

    def end_at(self, offset: int) -> int:
        """How far it goes on without a gap from `offset`; `offset` itself if that is missing."""
        index = bisect_right(self._starts, offset) - 1
        return max(offset, self._ends[index]) if index >= 0 else offset

    def next_start(self, offset: int, *, longer_than: int = 0) -> int | None:
        """Where the next interval behind `offset` begins, short ones left out."""
        for index in range(bisect_right(self._starts, offset), len(self._starts)):
            if self._ends[index] - self._starts[index] > longer_than:
                return self._starts[index]
        return None

    def gap(self, start: int, end: int) -> tuple[int, int] | None:
        """The first missing interval within `[start, end)`."""
        first = self.end_at(start)
        if first >= end:
            return None
        following = self.next_start(first)
        return first, end if following is None else min(end, following)
