"""What is added up, and the tables of those for whom it was most."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from proxy.cache.heavy import HeavyHitters

# In the choice of what a full table keeps, a pull counts as many bytes.
_PULL_BYTES = 1024 * 1024
_NAME_MAX = 512
_NUMBER_MAX = 1e18


@dataclass(slots=True, kw_only=True)
class Sums:
    """None of them is ever negative.

    A pull is a GET of a manifest by tag, or of one by digest that is not known as part
    of an index; it is saved when no GET of it went upstream. `ahead_bytes`: those of
    `fetched_bytes` that nobody waited for (warm-ups, refreshes, exports). `saved_s` is an
    estimate (`telemetry/saved.py`).
    """

    pulls: int = 0
    pulls_saved: int = 0
    served_bytes: int = 0
    fetched_bytes: int = 0
    ahead_bytes: int = 0
    saved_s: float = 0.0

    @property
    def saved_bytes(self) -> int:
        """Served less fetched; negative where more was fetched than anybody took."""
        return self.served_bytes - self.fetched_bytes

    def add(self, other: Sums) -> None:
        """`other` on top."""
        self.pulls += other.pulls
        self.pulls_saved += other.pulls_saved
        self.served_bytes += other.served_bytes
        self.fetched_bytes += other.fetched_bytes
        self.ahead_bytes += other.ahead_bytes
        self.saved_s += other.saved_s

    def times(self, count: int) -> Sums:
        """So many of it; itself, if that is one."""
        if count == 1:
            return self
        return Sums(
            pulls=self.pulls * count,
            pulls_saved=self.pulls_saved * count,
            served_bytes=self.served_bytes * count,
            fetched_bytes=self.fetched_bytes * count,
            ahead_bytes=self.ahead_bytes * count,
            saved_s=self.saved_s * count,
        )

    def packed(self) -> list[float]:
        """As `unpacked` reads it."""
        return [
            self.pulls,
            self.pulls_saved,
            self.served_bytes,
            self.fetched_bytes,
            round(self.saved_s, 3),
            self.ahead_bytes,
        ]

    def document(self) -> dict[str, float]:
        """For people and programs."""
        return {
            "pulls": self.pulls,
            "pulls_saved": self.pulls_saved,
            "served_bytes": self.served_bytes,
            "fetched_bytes": self.fetched_bytes,
            "ahead_bytes": self.ahead_bytes,
            "saved_bytes": self.saved_bytes,
            "saved_s": round(self.saved_s, 3),
        }


class Table:
    """The sums of at most `capacity` names, those of most weight.

    A name that had to go begins anew if it comes back: a sum may be too small, but it
    is never too large.
    """

    __slots__ = ("_capacity", "_heavy", "sums")

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self.sums: dict[str, Sums] = {}
        # Made when it is needed: most tables are of days that are over.
        self._heavy: HeavyHitters | None = None

    def add(self, name: str, sums: Sums) -> None:
        """Enter `sums` for `name`."""
        if self._heavy is None:
            self._heavy = HeavyHitters(self._capacity)
            for each, its in self.sums.items():
                self._heavy.add(each, _weight(its))
        gone = self._heavy.add(name, _weight(sums))
        if gone is not None:
            del self.sums[gone]
        add(self.sums, name, sums)

    def close(self) -> None:
        """Nothing more will be entered for now: use less memory."""
        self._heavy = None

    def load(self, entries: Iterable[tuple[str, Sums]]) -> None:
        """Enter many, as far as there is room."""
        for name, sums in entries:
            if len(self.sums) < self._capacity:
                add(self.sums, name, sums)


def add(table: dict[str, Sums], name: str, sums: Sums) -> None:
    """Enter `sums` in a table without bounds."""
    mine = table.get(name)
    if mine is None:
        mine = table[name] = Sums()
    mine.add(sums)


def unpacked(document: object) -> Iterator[tuple[str, Sums]]:
    """Names and sums out of a file; what can't be read is left out."""
    for name, numbers in document.items() if isinstance(document, dict) else ():
        if not isinstance(name, str) or not name or len(name) > _NAME_MAX:
            continue
        match numbers:
            # Files of the time before anything was told apart end before `ahead`.
            case [pulls, pulls_saved, served, fetched, saved_s, *ahead] if len(ahead) < 2 and all(
                map(_counted, numbers)
            ):
                yield (
                    name,
                    Sums(
                        pulls=int(pulls),
                        pulls_saved=min(int(pulls), int(pulls_saved)),
                        served_bytes=int(served),
                        fetched_bytes=int(fetched),
                        ahead_bytes=min(int(fetched), int(sum(ahead))),
                        saved_s=float(saved_s),
                    ),
                )
            case _:
                continue


def _weight(sums: Sums) -> float:
    return sums.pulls * _PULL_BYTES + sums.served_bytes + sums.fetched_bytes


def _counted(number: object) -> bool:
    return type(number) in {int, float} and 0 <= number <= _NUMBER_MAX  # type: ignore[operator] # checked just before
