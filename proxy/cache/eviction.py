"""Which blobs to drop when room is needed. Pure: a sample in, a choice out.

There is no index of all blobs (it would grow with them); whoever needs room
takes a random sample of what is on disk and asks here. Dropping the least
recently used of a sample of 64 comes close to exact LRU, because the chance
that none of 64 random files is among the oldest twentieth is below 4 %.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

SAMPLE_MIN = 64


@dataclass(frozen=True, slots=True)
class Candidate:
    """A stored file: its path, size in bytes, last use in seconds since the epoch."""

    path: str
    size: int
    used_at: float


def choose(sample: Iterable[Candidate], *, need: int) -> list[Candidate]:
    """The least recently used until `need` bytes would be free.

    At most a quarter of the sample (but one at least): the rest may well be
    younger than what the next sample shows. Empty only for an empty sample or
    `need <= 0`.
    """
    if need <= 0:
        return []
    oldest_first = sorted(sample, key=lambda candidate: candidate.used_at)
    chosen: list[Candidate] = []
    for candidate in oldest_first[: max(1, len(oldest_first) // 4)]:
        chosen.append(candidate)
        need -= candidate.size
        if need <= 0:
            break
    return chosen
