"""Which rate holds when: over midnight, over changes of the clock, and when it changes."""

from __future__ import annotations

from datetime import datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.config.link import LinkSettings, parse_days, parse_rate, parse_time
from proxy.upstream.link.timetable import Hours, Timetable

BERLIN = ZoneInfo("Europe/Berlin")
WORK = Hours(parse_days("mon-fri"), parse_time("08:00"), parse_time("18:00"), 2_500_000)
NIGHT = Hours(parse_days("fri"), parse_time("22:00"), parse_time("06:00"), None)


def at(text: str, zone: ZoneInfo = BERLIN, fold: int = 0) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=zone, fold=fold).timestamp()


@pytest.mark.parametrize(
    ("text", "rate"),
    [
        ("20Mbit/s", 2_500_000),
        ("20 mbit/s", 2_500_000),
        ("20Mbps", 2_500_000),
        ("2.5MB/s", 2_500_000),
        ("2MiB/s", 2 << 20),
        ("1Gbit/s", 125_000_000),
        ("800 kbit/s", 100_000),
        ("5000B/s", 5000),
        ("unlimited", None),
    ],
)
def test_rates_are_read_as_people_write_them(text: str, rate: int | None) -> None:
    assert parse_rate(text) == rate


@pytest.mark.parametrize(
    "text", ["", "20", "20Mb/s", "20MB", "-1Mbit/s", "fast", "0Mbit/s", "1Tbit/s", "2,5MB/s"]
)
def test_a_rate_that_may_be_meant_otherwise_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="must be"):
        parse_rate(text)


@pytest.mark.parametrize(
    ("text", "days"),
    [("mon-fri", {0, 1, 2, 3, 4}), ("sat,sun", {5, 6}), ("Fri-Mon", {4, 5, 6, 0}), ("wed", {2})],
)
def test_days_are_read_as_people_write_them(text: str, days: set[int]) -> None:
    assert parse_days(text) == days


def test_settings_become_a_timetable() -> None:
    said = LinkSettings.model_validate(
        {
            "rate": "1Gbit/s",
            "time_zone": "Europe/Berlin",
            # What YAML makes of 18:00 without quotes.
            "hours": [{"days": ["mon", "tue"], "from": "08:00", "to": 1080, "rate": "20Mbit/s"}],
        }
    )
    table = Timetable.of(said, said.time_zone)
    assert table.caps
    assert table.rate_at(at("2026-11-23 07:59:59")) == 125_000_000
    assert table.rate_at(at("2026-11-23 08:00")) == 2_500_000
    assert table.rate_at(at("2026-11-24 17:59:59")) == 2_500_000
    assert table.rate_at(at("2026-11-24 18:00")) == 125_000_000
    assert table.rate_at(at("2026-11-25 12:00")) == 125_000_000


def test_work_hours_are_over_at_night_and_at_weekends() -> None:
    table = Timetable(None, (WORK,), BERLIN)
    friday = at("2026-11-27 12:00")
    assert table.rate_at(friday) == 2_500_000
    assert table.next_change(friday) == at("2026-11-27 18:00")
    assert table.next_change(at("2026-11-27 18:00")) == at("2026-11-30 08:00")


def test_hours_over_midnight_belong_to_the_day_they_begin_on() -> None:
    table = Timetable(1000, (NIGHT,), BERLIN)
    assert table.rate_at(at("2026-11-27 21:59")) == 1000
    assert table.rate_at(at("2026-11-27 23:00")) is None
    assert table.rate_at(at("2026-11-28 05:59")) is None
    assert table.rate_at(at("2026-11-28 06:00")) == 1000
    # Early on Friday is Thursday's night.
    assert table.rate_at(at("2026-11-27 03:00")) == 1000


def test_the_first_that_fits_holds() -> None:
    lunch = Hours(parse_days("mon-fri"), parse_time("12:00"), parse_time("13:00"), None)
    table = Timetable(None, (lunch, WORK), BERLIN)
    assert table.rate_at(at("2026-11-23 12:30")) is None
    assert table.next_change(at("2026-11-23 11:00")) == at("2026-11-23 12:00")
    assert table.next_change(at("2026-11-23 12:30")) == at("2026-11-23 13:00")


def test_eight_o_clock_is_eight_o_clock_in_summer_and_in_winter() -> None:
    table = Timetable(None, (WORK,), BERLIN)
    for day in ("2026-03-27", "2026-03-30", "2026-10-23", "2026-10-26"):
        assert table.rate_at(at(f"{day} 07:59")) is None
        assert table.rate_at(at(f"{day} 08:00")) == 2_500_000


def test_a_boundary_that_the_clock_skips_comes_when_it_is_put_forward() -> None:
    # On 29 March 2026 there is no 02:30: from 02:00 it goes on at 03:00.
    early = Hours(parse_days("mon-sun"), parse_time("02:30"), parse_time("05:00"), 1000)
    table = Timetable(None, (early,), BERLIN)
    before = at("2026-03-29 01:59")
    assert table.next_change(before) == before + 60


def test_an_hour_that_comes_twice_counts_twice() -> None:
    # On 25 October 2026 02:30 comes twice.
    early = Hours(parse_days("mon-sun"), parse_time("02:00"), parse_time("03:00"), 1000)
    table = Timetable(None, (early,), BERLIN)
    first, second = at("2026-10-25 02:30"), at("2026-10-25 02:30", fold=1)
    assert second - first == 3600
    assert table.rate_at(first) == table.rate_at(second) == 1000
    assert table.next_change(first) == at("2026-10-25 03:00")


def test_without_hours_nothing_ever_changes() -> None:
    assert Timetable(1000).next_change(0.0) is None
    assert not Timetable().caps
    # One that says what holds anyway.
    same = Hours(frozenset(range(7)), 0, 60, 1000)
    assert Timetable(1000, (same,), BERLIN).next_change(at("2026-01-01 00:30")) is None


def _hours() -> st.SearchStrategy[Hours]:
    return st.builds(
        Hours,
        st.frozensets(st.integers(0, 6), min_size=1),
        st.integers(0, 95).map(lambda quarter: quarter * 15),
        st.integers(1, 96).map(lambda quarter: quarter * 15),
        st.sampled_from([None, 1000, 2000]),
    ).filter(lambda one: one.begin % 1440 != one.end % 1440)


@given(
    hours=st.lists(_hours(), min_size=1, max_size=3),
    zone=st.sampled_from(["UTC", "Europe/Berlin", "Australia/Lord_Howe", "America/New_York"]),
    # Around changes of the clock in 2026, and anywhere else.
    now=st.one_of(
        st.sampled_from([1774746000, 1772953200, 1792890000, 1793512800, 1775314800]).flatmap(
            lambda moment: st.integers(moment - 90_000, moment + 90_000)
        ),
        st.integers(1_767_225_600, 1_798_761_600),
    ),
)
def test_the_next_change_is_the_first_moment_with_another_rate(
    hours: list[Hours], zone: str, now: int
) -> None:
    table = Timetable(500, tuple(hours), ZoneInfo(zone))
    rate, change = table.rate_at(now), table.next_change(now)
    end = now + 8 * 86400 if change is None else int(change)
    assert all(table.rate_at(moment) == rate for moment in range(now, end, 900))
    if change is not None:
        assert change > now
        assert table.rate_at(change) != rate
        assert table.rate_at(change - 1) == rate
