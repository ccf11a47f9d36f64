"""What to drop: the most idle for what it has proven, enough of it, never more than a
quarter.
"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.cache.eviction import Candidate, choose, idle_s

NOW = 1e9
TIMES = st.floats(0, 1.1e9, allow_nan=False)
SAMPLES = st.lists(
    st.builds(
        Candidate,
        path=st.uuids().map(str),
        size=st.integers(0, 1000),
        stored_at=TIMES,
        used_at=TIMES,
    ),
    max_size=100,
)
HOUR_S, DAY_S = 3600.0, 86_400.0


def idle(one: Candidate) -> float:
    return idle_s(stored_at=one.stored_at, used_at=one.used_at, now=NOW)


@given(sample=SAMPLES, need=st.integers(-10, 20_000))
def test_the_most_idle_go_until_it_is_enough(sample: list[Candidate], need: int) -> None:
    chosen = choose(sample, need=need, now=NOW)
    stay = [one for one in sample if one not in chosen]
    assert all(one in sample for one in chosen)
    assert len(set(chosen)) == len(chosen)
    if need <= 0 or not sample:
        assert chosen == []
        return
    assert 1 <= len(chosen) <= max(1, len(sample) // 4)
    assert min(idle(c) for c in chosen) >= max((idle(s) for s in stay), default=0.0)
    # Not one more than needed.
    assert sum(one.size for one in chosen[:-1]) < need
    enough = sum(one.size for one in chosen) >= need
    assert enough or len(chosen) == max(1, len(sample) // 4)


def test_one_alone_is_chosen() -> None:
    only = Candidate("only", 5, 1.0, 1.0)
    assert choose([only], need=1, now=NOW) == [only]
    assert choose(iter([only]), need=100, now=NOW) == [only]


def test_what_was_never_used_again_is_as_idle_as_its_last_use_is_long_ago() -> None:
    assert idle_s(stored_at=NOW - HOUR_S, used_at=NOW - HOUR_S, now=NOW) == HOUR_S


def test_a_scan_goes_before_what_is_pulled_daily() -> None:
    scanned = Candidate("scanned", 1, NOW - 2 * HOUR_S, NOW - 2 * HOUR_S)
    daily = Candidate("daily", 1, NOW - 10 * DAY_S, NOW - DAY_S)
    assert choose([scanned, daily], need=1, now=NOW) == [scanned]


def test_what_was_popular_once_goes_in_the_end() -> None:
    once = Candidate("once", 1, NOW - 50 * DAY_S, NOW - 40 * DAY_S)
    fresh = Candidate("fresh", 1, NOW - HOUR_S, NOW - HOUR_S)
    assert choose([fresh, once], need=1, now=NOW) == [once]


@pytest.mark.parametrize(
    ("stored_at", "used_at"), [(NOW + 5, NOW - 5), (NOW - 5, NOW + 5), (NOW + 5, NOW + 5)]
)
def test_clocks_that_went_back_count_as_no_time(stored_at: float, used_at: float) -> None:
    assert idle_s(stored_at=stored_at, used_at=used_at, now=NOW) == max(0.0, NOW - used_at)


@given(stored_at=TIMES, used_at=TIMES, later=st.floats(0, 1e6))
def test_a_use_never_makes_more_idle(stored_at: float, used_at: float, later: float) -> None:
    before = idle_s(stored_at=stored_at, used_at=used_at, now=NOW)
    assert idle_s(stored_at=stored_at, used_at=used_at + later, now=NOW) <= before
