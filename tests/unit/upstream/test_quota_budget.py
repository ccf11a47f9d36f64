"""One login's pulls: what is left, what is kept back, what is remembered of it."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.config.quota import Reserve
from proxy.ports import Quota
from proxy.upstream.quota_budget import LOOK_AGAIN_S, WINDOW_S_DEFAULT, Budget
from proxy.upstream.quota_spenders import NAMES_MAX, Spenders
from tests.support.asking import Ticks


def budget(reserve: str = "10%", warm: str = "30%") -> tuple[Budget, Ticks]:
    ticks = Ticks()
    made = Budget(reserve=Reserve.parse(reserve), warm_reserve=Reserve.parse(warm), monotonic=ticks)
    return made, ticks


def quota(remaining: int | None, limit: int | None = 100, window_s: int | None = 3600) -> Quota:
    return Quota(limit=limit, remaining=remaining, window_s=window_s, source=None, read_at=0.0)


@pytest.mark.parametrize("said", [None, quota(None), quota(None, limit=None)])
def test_who_tells_no_number_has_no_end(said):
    one, _ = budget()
    one.read(said)
    assert (one.left, one.saving, one.metered) == (math.inf, False, False)
    assert one.forecast().lasts


@pytest.mark.parametrize(
    ("reserve", "warm", "marks"),
    [("10%", "30%", (20, 60)), ("10", "30", (10, 30)), ("50", "10%", (50, 50)), ("0", "0", (0, 0))],
)
def test_reserves_are_pulls_or_a_share_and_warm_up_has_the_larger(reserve, warm, marks):
    one, _ = budget(reserve, warm)
    one.read(quota(150, limit=200))
    assert (one.reserve, one.warm_reserve) == marks


def test_of_an_unknown_limit_no_share_is_kept():
    one, _ = budget("10%")
    one.read(quota(3, limit=None))
    assert (one.reserve, one.saving) == (0, False)


def test_it_saves_from_the_reserve_down_and_what_is_on_its_way_counts():
    one, _ = budget()
    one.read(quota(11))
    assert not one.saving
    one.under_way = 1
    assert (one.left, one.saving) == (10, True)
    one.under_way = 20
    assert one.left == 0


@pytest.mark.parametrize("window_s", [3600, None])
def test_what_was_read_a_window_ago_says_nothing(window_s):
    one, ticks = budget()
    one.read(quota(0, window_s=window_s))
    ticks.now_s += (window_s or WINDOW_S_DEFAULT) - 1
    assert one.left == 0
    ticks.now_s += 1
    assert one.left == math.inf


def test_with_none_left_one_look_now_and_then():
    one, ticks = budget()
    one.read(quota(0))
    assert not one.may_look()
    ticks.now_s += LOOK_AGAIN_S
    assert one.may_look()
    assert not one.may_look()
    ticks.now_s += LOOK_AGAIN_S
    assert one.may_look()


def test_it_foretells_the_end_and_a_refill_before_it():
    one, ticks = budget()
    for remaining in range(100, 39, -1):
        one.read(quota(remaining, window_s=21600))
        ticks.now_s += 60
    # One a minute, 40 left: in about 40 minutes.
    assert 2000 < one.forecast().runs_out_s < 2800
    one.read(quota(100, window_s=1200))
    assert one.forecast().lasts


@given(st.lists(st.tuples(st.floats(0, 1000), st.integers(0, 200)), max_size=60))
def test_whatever_is_read_it_is_bounded_and_sane(said):
    one, ticks = budget()
    for wait_s, remaining in said:
        ticks.now_s += wait_s
        one.read(quota(remaining))
        told = one.forecast()
        assert one.left == remaining
        assert told.pace >= 0
        assert told.runs_out_s >= 0
        assert 0 < one.refilled_in_s <= 3600.001
        assert one.saving == (remaining <= 10)


def test_equal_readings_take_no_room_and_lose_no_pace():
    one, ticks = budget()
    for _ in range(5000):
        one.read(quota(100))
        ticks.now_s += 1
    assert len(one._readings) == 2
    one.read(quota(90))
    assert one.pace() > 0


# --- who spent it -------------------------------------------------------------


def test_the_last_24_hours_count():
    ticks = Ticks(0.0)
    spenders = Spenders(ticks)
    for hour in range(30):
        ticks.now_s = hour * 3600.0
        spenders.spent("hub/a" if hour % 2 else "hub/b", "192.0.2.1")
    assert spenders.total == 24
    assert spenders.images(5) == [("hub/a", 12), ("hub/b", 12)]
    assert spenders.clients(5) == [("192.0.2.0/24", 24)]
    ticks.now_s += 86400
    assert (spenders.total, spenders.images(5)) == (0, [])


@given(st.lists(st.integers(0, 500), max_size=400))
def test_a_million_names_take_no_more_room(names):
    spenders = Spenders(Ticks())
    for name in names:
        spenders.spent(f"hub/{name}", f"10.{name % 256}.0.1")
    assert len(spenders.images(1000)) <= NAMES_MAX
    assert spenders.total == len(names)


@pytest.mark.parametrize("text", ["", "-1", "101%", "ten", "5 %%", "1.5", "1e3%"])
def test_a_reserve_is_a_number_or_a_percentage(text):
    with pytest.raises(ValueError, match="number of pulls"):
        Reserve.parse(text)
