"""All policies by name, and one replay."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tests.bench.replay import indexed, sampled
from tests.bench.replay.indexed import Policy
from tests.bench.replay.sampled import Sampled, Score
from tests.bench.replay.trace import Request, unique_bytes

# Of the unique bytes of a trace.
SHARES = (0.01, 0.05, 0.10, 0.25)
AS_BUILT = "sampled 64, as built"


@dataclass(frozen=True, slots=True)
class Hits:
    """Shares of the requests and of the bytes asked for."""

    objects: float
    bytes: float


def _sampled(score: Score, sample: int = 64) -> Callable[[int], Policy]:
    return functools.partial(Sampled, score=score, sample=sample)


POLICIES: dict[str, Callable[[int], Policy]] = {
    "LRU": indexed.ExactLru,
    "SIEVE": indexed.Sieve,
    "S3-FIFO": indexed.S3Fifo,
    "GDSF": indexed.gdsf,
    "LFU-DA": indexed.lfu_da,
    "sampled 16, LRU": _sampled(sampled.lru, 16),
    "sampled 64, LRU": _sampled(sampled.lru),
    "sampled 64, hyperbolic": _sampled(sampled.hyperbolic),
    "sampled 64, hyperbolic a byte": _sampled(sampled.hyperbolic_bytes),
    "sampled 64, idle / uses": _sampled(sampled.idle_by_uses),
    "sampled 64, idle / life": _sampled(sampled.idle_by_life),
    "sampled 64, as built a byte": _sampled(sampled.idle_bytes),
    "sampled 16, as built": _sampled(sampled.as_built, 16),
    AS_BUILT: _sampled(sampled.as_built),
}


def replay(trace: Sequence[Request], policy: str, share: float) -> Hits:
    """From an empty cache that holds this share of the trace's unique bytes."""
    cache = POLICIES[policy](int(unique_bytes(list(trace)) * share))
    hits = hit_bytes = 0
    for request in trace:
        if cache.access(request.blob, request.size, request.at):
            hits += 1
            hit_bytes += request.size
    return Hits(hits / len(trace), hit_bytes / sum(request.size for request in trace))
