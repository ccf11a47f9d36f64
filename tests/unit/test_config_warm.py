"""The settings of warm-ups, and times as cron has them."""

from __future__ import annotations

from datetime import UTC, datetime, tzinfo
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.config import ConfigError, Settings, load
from proxy.config.cron import last_time, next_time
from proxy.config.show import shown
from proxy.config.warm import WarmSettings

BERLIN = ZoneInfo("Europe/Berlin")


def read(tmp_path: Path, text: str) -> Settings:
    path = tmp_path / "entrepot.yaml"
    path.write_text(text)
    return load(path, {}, {})


def mistakes(tmp_path: Path, text: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        read(tmp_path, text)
    return [line.partition(": ")[2] for line in caught.value.lines()]


def at(text: str, zone: tzinfo = BERLIN) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=zone).timestamp()


# --- settings ------------------------------------------------------------------


def test_nothing_is_warmed_unless_it_is_configured() -> None:
    settings = WarmSettings()
    assert (settings.platforms, settings.schedule, settings.learned) == ((), (), None)


def test_all_of_it_is_read_and_shown_again(tmp_path: Path) -> None:
    text = """
warm:
  platforms: [linux/amd64, Linux/ARM/v7]
  time_zone: Europe/Berlin
  fetches_max: 2
  learned: {tags_max: 5}
  schedule:
  - cron: "0   2 * * mon-fri"
    images: [alpine]
    file: /etc/images
    manifests: [/srv/k8s]
    helm_charts: [/srv/chart]
    platforms: [all]
    referrers: false
"""
    warm = read(tmp_path, text).warm
    assert warm.platforms == ("linux/amd64", "linux/arm/v7")
    assert warm.learned is not None
    assert (warm.learned.cron, warm.learned.tags_max) == ("0 4 * * *", 5)
    (run,) = warm.schedule
    assert (run.cron, run.images, run.referrers) == ("0 2 * * mon-fri", ("alpine",), False)
    told = shown(read(tmp_path, text))["warm"]
    assert told["schedule"][0]["file"] == "/etc/images"
    assert told["learned"] == {"tags_max": 5}
    assert "warm" not in shown(read(tmp_path, ""))


@pytest.mark.parametrize(
    ("text", "where", "said"),
    [
        ("platforms: [amd64]", "warm.platforms[0]", "must be a platform such as"),
        ("platforms: linux/amd64", "warm.platforms", "must be a list"),
        ("fetches_max: 0", "warm.fetches_max", "greater than or equal to 1"),
        ("time_zone: Mars/Olympus", "warm.time_zone", "must be a time zone"),
        ("shedule: []", "warm.shedule", "did you mean"),
        ("learned: {cron: nightly}", "warm.learned.cron", "must be five fields"),
        ("learned: {tags: 1}", "warm.learned.tags", "unknown key"),
        ("schedule: [{images: [a]}]", "warm.schedule[0].cron", "is required"),
        ('schedule: [{cron: "0 2 * * *"}]', "warm.schedule[0]", "names no images"),
        ('schedule: [{cron: "0 2 * * *", images: a}]', "warm.schedule[0].images", "a list"),
        ('schedule: [{cron: "0 25 * * *", images: [a]}]', "warm.schedule[0].cron", "bad hour"),
        ('schedule: [{cron: "0 2 30 2 *", images: [a]}]', "warm.schedule[0].cron", "bad day"),
        ('schedule: [{cron: "* * * * * *", images: [a]}]', "warm.schedule[0].cron", "five fields"),
    ],
)
def test_each_mistake_is_told_at_its_place(
    tmp_path: Path, text: str, where: str, said: str
) -> None:
    (line,) = mistakes(tmp_path, f"warm:\n  {text}\n")
    assert line.startswith(where)
    assert said in line


# --- cron ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cron", "after", "due"),
    [
        ("0 2 * * *", "2026-11-21T01:59", "2026-11-21T02:00"),
        ("0 2 * * *", "2026-11-21T02:00", "2026-11-22T02:00"),
        ("*/15 9-17 * * mon-fri", "2026-11-20T17:50", "2026-11-23T09:00"),
        ("0 0 1 1 *", "2026-01-01T00:00", "2027-01-01T00:00"),
        # Put forward: half past two does not come; it is done right after.
        ("30 2 * * *", "2026-03-29T01:00", "2026-03-29T03:00"),
        # Put back: half past two comes twice; it is done once.
        ("30 2 * * *", "2026-10-25T02:30", "2026-10-26T02:30"),
    ],
)
def test_the_next_time_is_by_the_clock_on_the_wall(cron: str, after: str, due: str) -> None:
    assert next_time(cron, at(after), "Europe/Berlin") == at(due)


def test_without_a_zone_the_systems_clock_counts() -> None:
    midnight = next_time("0 0 * * *", at("2026-11-21T12:00"), None)
    assert datetime.fromtimestamp(midnight).astimezone().strftime("%H:%M") == "00:00"


FIELDS = st.tuples(
    st.sampled_from(["*", "0", "*/7", "5,35", "10-20/2"]),
    st.sampled_from(["*", "3", "*/5", "1-4", "0,12"]),
    st.sampled_from(["*", "1", "*/9", "31"]),
    st.sampled_from(["*", "2-11/3", "jan,oct"]),
    st.sampled_from(["*", "sun", "1-5", "7"]),
).map(" ".join)
TIMES = st.floats(at("2024-01-01", UTC), at("2034-01-01", UTC))


@given(FIELDS, TIMES, st.sampled_from(["UTC", "Europe/Berlin", "Asia/Kathmandu"]))
def test_the_next_time_is_later_and_the_last_before_it_is_not(
    cron: str, now: float, zone: str
) -> None:
    due = next_time(cron, now, zone)
    assert due > now
    # What is past at the next time was not to come now: no run falls between.
    assert last_time(cron, due, zone) <= now
    assert next_time(cron, due, zone) > due


@given(TIMES)
def test_every_hour_is_every_hour_however_the_clock_is_put(now: float) -> None:
    due = next_time("0 * * * *", now, "Europe/Berlin")
    assert 0 < due - now <= 3600
    assert due % 3600 == 0
