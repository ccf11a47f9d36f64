"""Synthetic traces of blob requests, shaped like what registries see.

What is known of real ones (a replayed slice of IBM's registry in Dallas, 2017, with
layer sizes of Docker Hub) and what these traces come to is in `KNOWN`; the tool prints
both side by side. They are made of images, not of blobs: a pull asks for the layers of
one image that its client has not got, so layers come in groups, bases are shared, and
a new version of an image brings new upper layers over the old base.

A pull is one of three things: an image of a build that nobody asks for again
(most layers are seen once), one that was pulled a while ago (the gaps), or a draw from
the catalogue by popularity (Zipf).
"""

from __future__ import annotations

import bisect
import itertools
import math
import random
from collections import Counter
from dataclasses import dataclass, field
from statistics import quantiles

KNOWN = {
    "seen_once": "0.82",
    "top_1_percent": "0.24",
    "top_5_percent": "0.50",
    "gap_p50_min": "5",
    "gap_p75_min": "13",
    "gap_p95_min": "< 80",
    "objects_ceiling": "0.57",
    "bytes_ceiling": "0.50",
    "under_1_mb": "0.65",
    "under_1_mb_bytes": "0.013",
}

# Quantiles of layer sizes in bytes; between them the logarithm is linear.
SIZES = {
    "hub": (
        (0.0, 100),
        (0.25, 424),
        (0.5, 7_900),
        (0.65, 1_000_000),
        (0.75, 6_300_000),
        (0.9, 17_600_000),
        (0.99, 46_000_000),
        (1.0, 50_000_000),
    ),
    # The same with the tail that the slice has not: models, CUDA, whole distributions.
    "tail": (
        (0.0, 100),
        (0.25, 424),
        (0.5, 7_900),
        (0.65, 1_000_000),
        (0.75, 6_300_000),
        (0.9, 40_000_000),
        (0.97, 300_000_000),
        (1.0, 2_000_000_000),
    ),
}

_ALPHA = 1.03
_CATALOGUE = 300
_BASES = 30
_DAY_S = 86_400.0
_NEW_SHARE = 0.46
_AGAIN_SHARE = 0.30
_NEW_VERSION_CHANCE = 0.01
_BASE_HELD_CHANCE = 0.75
_GAP_MEDIAN_S = 300.0
_GAP_SIGMA = 1.42


@dataclass(frozen=True, slots=True)
class Request:
    """One blob asked for: when (seconds), which, how many bytes it has."""

    at: float
    blob: int
    size: int


@dataclass(slots=True)
class _Image:
    base: tuple[int, ...]
    own: tuple[int, ...]


@dataclass(slots=True)
class _Registry:
    random: random.Random
    quantiles: tuple[tuple[float, int], ...]
    sizes: list[int] = field(default_factory=list)

    def layer(self) -> int:
        """A new layer; its size has nothing to do with how popular it will be."""
        at = self.random.random()
        upper = next(i for i, (q, _) in enumerate(self.quantiles) if q > at)
        (q0, s0), (q1, s1) = self.quantiles[upper - 1 : upper + 1]
        share = (at - q0) / (q1 - q0)
        self.sizes.append(int(math.exp(math.log(s0) + share * math.log(s1 / s0))))
        return len(self.sizes) - 1

    def layers(self, low: int, high: int) -> tuple[int, ...]:
        return tuple(self.layer() for _ in range(self.random.randint(low, high)))


@dataclass(frozen=True, slots=True)
class Workload:
    """`drift`: the share of the catalogue that each day replaces; `pull_s`: seconds
    between pulls.
    """

    sizes: str = "hub"
    drift: float = 0.0
    pull_s: float = 15.0


WORKLOADS = {
    "hub": Workload(),
    "tail": Workload(sizes="tail"),
    # Four times slower, so days long; fashions change.
    "drift": Workload(drift=0.5, pull_s=60.0),
}


def generate(seed: int, workload: Workload, *, requests: int = 20_000) -> list[Request]:
    """The same for the same arguments, on every machine."""
    rand = random.Random(seed)
    registry = _Registry(rand, SIZES[workload.sizes])
    bases = [registry.layers(2, 6) for _ in range(_BASES)]
    by_rank = _zipf(_BASES)

    def image() -> _Image:
        return _Image(rand.choices(bases, cum_weights=by_rank)[0], registry.layers(2, 6))

    catalogue = [image() for _ in range(_CATALOGUE)]
    popularity = _zipf(_CATALOGUE)
    pulls: list[tuple[float, _Image]] = []
    made: list[Request] = []
    now, turn_at = 0.0, _DAY_S
    while len(made) < requests:
        # Bursts: most pulls follow closely on one another, the rest after a pause.
        if now >= turn_at:
            turn_at += _DAY_S
            for rank in range(_CATALOGUE):
                if rand.random() < workload.drift:
                    catalogue[rank] = image()
        now += rand.expovariate(1 / (workload.pull_s * (0.25 if rand.random() < 0.8 else 4.0)))
        kind = rand.random()
        if kind < _NEW_SHARE or not pulls:
            pulled = image()
        elif kind < _NEW_SHARE + _AGAIN_SHARE:
            gap = rand.lognormvariate(math.log(_GAP_MEDIAN_S), _GAP_SIGMA)
            pulled = pulls[max(0, bisect.bisect(pulls, now - gap, key=lambda p: p[0]) - 1)][1]
        else:
            rank = rand.choices(range(_CATALOGUE), cum_weights=popularity)[0]
            pulled = catalogue[rank]
            if rand.random() < _NEW_VERSION_CHANCE:
                pulled = catalogue[rank] = _Image(pulled.base, registry.layers(2, 6))
        pulls.append((now, pulled))
        held = rand.random() < _BASE_HELD_CHANCE
        for number, blob in enumerate(pulled.own if held else pulled.base + pulled.own):
            made.append(Request(now + number * 0.1, blob, registry.sizes[blob]))
    # Pulls overlap.
    return sorted(made[:requests], key=lambda request: request.at)


def facts(trace: list[Request]) -> dict[str, float]:
    """What can be compared with `KNOWN`."""
    counts = Counter(request.blob for request in trace)
    sizes = {request.blob: request.size for request in trace}
    ordered = sorted(counts.values(), reverse=True)
    last: dict[int, float] = {}
    gaps: list[float] = []
    for request in trace:
        if request.blob in last:
            gaps.append(request.at - last[request.blob])
        last[request.blob] = request.at
    cuts = quantiles(gaps, n=20)
    asked = sum(request.size for request in trace)
    small = [request.size for request in trace if request.size < 1_000_000]
    return {
        "seen_once": sum(n == 1 for n in ordered) / len(ordered),
        "top_1_percent": sum(ordered[: len(ordered) // 100]) / len(trace),
        "top_5_percent": sum(ordered[: len(ordered) // 20]) / len(trace),
        "gap_p50_min": cuts[9] / 60,
        "gap_p75_min": cuts[14] / 60,
        "gap_p95_min": cuts[18] / 60,
        "objects_ceiling": 1 - len(counts) / len(trace),
        "bytes_ceiling": 1 - sum(sizes.values()) / asked,
        "under_1_mb": len(small) / len(trace),
        "under_1_mb_bytes": sum(small) / asked,
    }


def unique_bytes(trace: list[Request]) -> int:
    """What a cache without bounds would hold in the end."""
    return sum({request.blob: request.size for request in trace}.values())


def _zipf(count: int) -> list[float]:
    """Cumulative weights by rank."""
    return list(itertools.accumulate(1 / rank**_ALPHA for rank in range(1, count + 1)))
