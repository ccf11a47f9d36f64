"""The replay can be believed: each policy does on short sequences what its paper says,
the traces look like the real ones, and what the proxy does is still among the best.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest

from tests.bench.replay import indexed, sampled
from tests.bench.replay.indexed import Policy
from tests.bench.replay.policies import AS_BUILT, POLICIES, replay
from tests.bench.replay.sampled import Sampled, Score, Stored
from tests.bench.replay.trace import WORKLOADS, facts, generate, unique_bytes


def hits(policy: Policy, blobs: str, sizes: dict[str, int] | None = None) -> str:
    """One letter a request, a minute apart or more; upper case where it hit."""
    return "".join(
        blob.upper()
        if policy.access(ord(blob), (sizes or {}).get(blob, 1), 100.0 * number)
        else blob
        for number, blob in enumerate(blobs)
    )


@pytest.mark.parametrize(
    ("policy", "blobs", "expected"),
    [
        # a is used, so b goes for d, and then the others in order of use.
        (indexed.ExactLru, "abcadabc", "abcAdAbc"),
        # The hand spares a and takes b; c, not used, is next; then d.
        (indexed.Sieve, "abcadabce", "abcAdAbce"),
        # Never seen again: all of the scan passes, a and b stay.
        (indexed.Sieve, "abaabxyzwab", "abAABxyzwAB"),
        # LFU-DA: a has been used thrice, the others once.
        (indexed.lfu_da, "aaabcdea", "aAAbcdeA"),
    ],
)
def test_small_sequences(policy: Callable[[int], Policy], blobs: str, expected: str) -> None:
    assert hits(policy(3), blobs) == expected


def test_s3_fifo_lets_a_scan_pass_and_remembers_names() -> None:
    cache = indexed.S3Fifo(10)
    # Used twice while in the small queue: to the main one.
    assert hits(cache, "aaa") == "aAA"
    assert hits(cache, "bcdefghijk") == "bcdefghijk"
    assert hits(cache, "a") == "A"
    # b went by way of the small queue; its name is known, so now it goes to the main one,
    # and there it outlives another scan.
    assert hits(cache, "b") == "b"
    assert hits(cache, "lmnopqr") == "lmnopqr"
    assert hits(cache, "ab") == "AB"


def test_gdsf_keeps_the_small() -> None:
    sizes = {"a": 8, "b": 1, "c": 1, "d": 8}
    assert hits(indexed.gdsf(10), "abcdabc", sizes) == "abcdaBC"


def test_nothing_larger_than_the_cache_is_stored_and_no_cache_holds_too_much() -> None:
    trace = generate(3, WORKLOADS["tail"], requests=2_000)
    capacity = unique_bytes(trace) // 30
    for make in POLICIES.values():
        cache = make(capacity)
        held: dict[int, int] = {}
        for request in trace:
            cache.access(request.blob, request.size, request.at)
            held[request.blob] = request.size
        # What hits at one moment is what is held; asked in this order it stays that.
        kept = _held(cache, held, trace[-1].at)
        assert 0 < sum(kept.values()) <= capacity


def _held(cache: Policy, sizes: dict[int, int], now: float) -> dict[int, int]:
    names: Sequence[str] = ("_sizes", "_stored", "_passed", "_ahead")
    held = {blob for name in names for blob in getattr(cache, name, ())}
    return {blob: sizes[blob] for blob in held}


@pytest.mark.parametrize(
    ("score", "goes"),
    [
        # Stored and last used so long ago (s), size, noted uses.
        (sampled.lru, (900, 900, 1, 9)),
        (sampled.hyperbolic, (5_000, 10, 1, 0)),
        (sampled.hyperbolic_bytes, (100, 10, 900, 0)),
        (sampled.idle_by_uses, (400, 400, 1, 0)),
        (sampled.idle_by_life, (400, 400, 1, 0)),
        (sampled.as_built, (400, 400, 1, 0)),
    ],
)
def test_what_a_sampled_policy_drops_first(
    score: Score, goes: tuple[float, float, int, int]
) -> None:
    others = [(5_000, 600, 1, 20), (100, 10, 1, 0), (300, 300, 1, 0)]
    now = 10_000.0

    def stored(one: tuple[float, float, int, int]) -> Stored:
        return Stored(0, one[2], now - one[0], now - one[1], one[3])

    worst = max([goes, *others], key=lambda one: score(stored(one), now))
    assert worst == goes


def test_a_sample_of_all_is_exact() -> None:
    """With a sample as large as the cache, LRU of a sample is LRU."""
    trace = generate(1, WORKLOADS["hub"], requests=3_000)
    exact, of_all = indexed.ExactLru(500), Sampled(500, sampled.lru, sample=2_000)
    for number, request in enumerate(trace):
        at = number * 100.0
        assert exact.access(request.blob, 1, at) == of_all.access(request.blob, 1, at)


def test_traces_repeat_and_look_like_the_real_ones() -> None:
    trace = generate(5, WORKLOADS["hub"])
    assert trace == generate(5, WORKLOADS["hub"])
    assert [request.at for request in trace] == sorted(request.at for request in trace)
    said = facts(trace)
    assert 0.7 < said["seen_once"] < 0.9
    assert 0.2 < said["top_1_percent"] < 0.35
    assert 0.4 < said["top_5_percent"] < 0.55
    assert 4 < said["gap_p50_min"] < 8
    assert 0.5 < said["objects_ceiling"] < 0.65
    assert 0.6 < said["under_1_mb"] < 0.7


def test_what_the_proxy_does_is_among_the_best() -> None:
    """By bytes that hit, over some traces. No clock, no luck: the seeds decide."""
    totals = dict.fromkeys(POLICIES, 0.0)
    for workload in WORKLOADS.values():
        trace = generate(0, workload, requests=6_000)
        for share in (0.05, 0.10):
            for policy in POLICIES:
                totals[policy] += replay(trace, policy, share).bytes
    assert totals[AS_BUILT] >= 0.95 * max(totals.values())
    assert totals[AS_BUILT] >= 0.99 * totals["S3-FIFO"]
    assert totals[AS_BUILT] >= 1.05 * totals["LRU"]
