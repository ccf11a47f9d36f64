"""Which blobs to drop when room is needed. Pure: a sample in, a choice out.

There is no index of all blobs (it would grow with them); whoever needs room
takes a random sample of what is stored and asks here. All that is known of a
blob is what its file tells: when it was stored, when it was last used.

What goes is what has been idle longest *for what it has proven*: a blob that was
never used after it was stored goes by its idle time as in LRU, one that was in
use for a day counts as forty times less idle. So a scan of images that nobody
pulls twice (most are) passes through without flushing what is pulled daily, as
with the small queue of S3-FIFO. A use of an image is one of all its layers, whichever of
them the client had already (`uses.py`), so an image goes as a whole or not at all, more
or less. The root keeps what was popular once from
staying for ever: without it, weeks of changing fashions cost more than with LRU
(57.8 % to 58.0 % of the bytes, and 58.5 % with it; `--workload drift --requests
100000`, 5 % fit).

Byte hit ratio in % by share of the bytes ever asked for that fit into the cache
(medians of five traces of 20,000 requests, `python -m tests.bench.replay`):

                        layers <= 50 MB      fashions change      layers <= 2 GB
                        1 %  5 %  10 % 25 %  1 %  5 %  10 % 25 %  1 %  5 %  10 % 25 %
    exact LRU, indexed  24.7 46.5 52.7 57.9  31.3 45.9 51.2 55.1  23.9 45.2 50.9 56.5
    LRU of 64           24.5 46.3 52.8 57.8  31.1 45.9 51.1 55.1  23.6 45.2 50.9 56.1
    SIEVE, indexed      26.2 48.4 54.2 58.5  30.0 49.5 52.8 55.1  26.9 47.4 53.4 56.9
    S3-FIFO, indexed    28.6 50.1 55.7 58.2  30.4 49.7 53.2 55.1  24.7 47.5 53.4 56.5
    GDSF, indexed       23.9 47.3 54.0 58.0  28.6 47.5 51.8 55.2  14.3 37.8 48.7 56.3
    hyperbolic of 64    24.7 47.7 54.1 58.2  31.3 47.1 51.9 55.4  23.3 45.7 51.3 56.8
    this, of 64         26.9 50.9 55.8 58.5  33.0 50.7 53.9 55.5  24.8 48.5 53.5 56.9

The indexed ones need memory for every blob and forget it all in a restart. GDSF has
more hits (49 % of the requests at 1 %, 55 % at 5 %, where this has 29 % and 50 %)
through small blobs that the memory tier answers here.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

SAMPLE_MIN = 64

# Uses closer together than this are one use (and are noted as one).
_ONE_USE_S = 60.0


@dataclass(frozen=True, slots=True)
class Candidate:
    """A stored file: its path, size in bytes, when it was stored and last used, in
    seconds since the epoch.
    """

    path: str
    size: int
    stored_at: float
    used_at: float


def idle_s(*, stored_at: float, used_at: float, now: float) -> float:
    """How idle a blob is, in seconds of a blob that was stored and never used.

    Clocks that went back count as no time passed.
    """
    proven_s = max(0.0, used_at - stored_at)
    return max(0.0, now - used_at) * math.sqrt(_ONE_USE_S / (_ONE_USE_S + proven_s))


def choose(sample: Iterable[Candidate], *, need: int, now: float) -> list[Candidate]:
    """The most idle until `need` bytes would be free.

    At most a quarter of the sample (but one at least): the rest may well be
    less idle than what the next sample shows. Empty only for an empty sample or
    `need <= 0`.
    """
    if need <= 0:
        return []
    most_idle_first = sorted(
        sample,
        key=lambda one: idle_s(stored_at=one.stored_at, used_at=one.used_at, now=now),
        reverse=True,
    )
    chosen: list[Candidate] = []
    for candidate in most_idle_first[: max(1, len(most_idle_first) // 4)]:
        chosen.append(candidate)
        need -= candidate.size
        if need <= 0:
            break
    return chosen
