"""When pulls run out: what the pace says, and what it must never say."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.upstream.quota_forecast import (
    PACE_SPAN_S_MIN,
    SPAN_S,
    Reading,
    forecast,
    pace,
)

NOW = 1_000_000.0
times = st.floats(NOW - 2 * SPAN_S, NOW + SPAN_S)
readings = st.lists(st.builds(Reading, times, st.integers(0, 1000)), max_size=30)
paces = st.floats(0, 100)


def steady(every_s: float, count: int, first: int = 100) -> list[Reading]:
    """One pull every so many seconds, the last one now."""
    return [Reading(NOW - every_s * (count - 1 - n), first - n) for n in range(count)]


def test_one_pull_a_minute_is_that_pace():
    assert pace(steady(60, 31), now=NOW) == pytest.approx(1 / 60)


def test_a_burst_is_no_pace_of_an_hour():
    assert pace(steady(0.1, 11), now=NOW) == pytest.approx(10 / PACE_SPAN_S_MIN)


def test_a_refill_is_not_taken_for_pulls_given_back():
    read = [Reading(NOW - 1200, 10), Reading(NOW - 900, 2), Reading(NOW - 600, 100)]
    assert pace([*read, Reading(NOW, 96)], now=NOW) == pytest.approx(12 / 1200)


def test_what_was_spent_more_than_an_hour_ago_is_forgotten():
    read = [Reading(NOW - SPAN_S - 1, 90), *steady(60, 2, first=50)]
    assert pace(read, now=NOW) == pytest.approx(1 / PACE_SPAN_S_MIN)
    assert pace(read, now=NOW + 2 * SPAN_S) == 0


def test_readings_from_after_now_are_anothers_clock():
    assert pace([Reading(NOW - 700, 90), Reading(NOW + 5, 10)], now=NOW) == 0
    assert pace(steady(60, 31), now=NOW - 10 * SPAN_S) == 0


@given(readings, st.randoms())
def test_the_order_of_readings_makes_no_difference(read, random):
    shuffled = list(read)
    random.shuffle(shuffled)
    assert pace(shuffled, now=NOW) == pace(read, now=NOW)


@given(readings)
def test_no_pace_is_negative_or_faster_than_all_that_was_seen(read):
    falls = 1000 * max(0, len(read) - 1)
    assert 0 <= pace(read, now=NOW) <= falls / PACE_SPAN_S_MIN


@given(readings, st.floats(0, SPAN_S))
def test_a_pace_slows_down_while_nothing_is_read(read, later_s):
    # None that is forgotten meanwhile, with what was spent before it.
    past = [one for one in read if NOW + later_s - SPAN_S <= one.at <= NOW]
    assert pace(past, now=NOW + later_s) <= pace(past, now=NOW) + 1e-12


@given(readings, st.integers(0, 10_000))
def test_a_quota_that_is_larger_all_along_is_spent_at_the_same_pace(read, more):
    raised = [Reading(one.at, one.remaining + more) for one in read]
    assert pace(raised, now=NOW) == pytest.approx(pace(read, now=NOW))


@given(readings, st.sampled_from([-3600.0, -1.0, 1.0, 86400.0]))
def test_only_the_distance_of_times_counts(read, jump_s):
    moved = [Reading(one.at + jump_s, one.remaining) for one in read]
    # Adding may round a time across the edge of the span.
    inside = [one for one in read if NOW - SPAN_S + 1 < one.at < NOW - 1]
    moved = [Reading(one.at + jump_s, one.remaining) for one in inside]
    if len({one.at for one in moved}) == len({one.at for one in inside}):
        assert pace(moved, now=NOW + jump_s) == pytest.approx(pace(inside, now=NOW))


@given(st.integers(1, 1000), st.floats(1e-6, 100), st.floats(0, 86400))
def test_it_runs_out_when_the_pace_says_unless_it_is_refilled_before(left, speed, refilled_in_s):
    told = forecast(left, speed, refilled_in_s=refilled_in_s)
    assert told.pace == speed
    if told.lasts:
        assert left / speed >= refilled_in_s
    else:
        assert told.runs_out_s == left / speed < refilled_in_s


@given(st.floats(1, 1000), st.floats(1, 1000), paces, st.floats(0, 86400))
def test_more_pulls_never_run_out_sooner(left, more, speed, refilled_in_s):
    few = forecast(left, speed, refilled_in_s=refilled_in_s)
    many = forecast(left + more, speed, refilled_in_s=refilled_in_s)
    assert many.runs_out_s >= few.runs_out_s


@given(st.floats(1, 1000), paces, st.floats(0, 10), st.floats(0, 86400))
def test_going_faster_never_lasts_longer(left, speed, faster, refilled_in_s):
    slow = forecast(left, speed, refilled_in_s=refilled_in_s)
    fast = forecast(left, speed + faster, refilled_in_s=refilled_in_s)
    assert fast.runs_out_s <= slow.runs_out_s


@given(paces)
def test_nothing_left_is_now_and_no_end_is_never(speed):
    assert forecast(0, speed, refilled_in_s=60).runs_out_s == 0
    assert forecast(math.inf, speed, refilled_in_s=60).lasts
    assert forecast(5, 0, refilled_in_s=60).lasts
