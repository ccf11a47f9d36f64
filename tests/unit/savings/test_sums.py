"""What is added up, over which time, and what survives a file."""

import json
import math
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.savings.history import Bucket, History
from proxy.savings.sums import Sums, Table, unpacked

NOW = 1_790_000_100.0
HOUR, DAY = 3600, 86400
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=6) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=12,
)
SUMS = st.builds(
    Sums,
    pulls=st.integers(0, 5),
    served_bytes=st.integers(0, 10**9),
    fetched_bytes=st.integers(10**6, 10**9),
    ahead_bytes=st.integers(0, 10**6),
    saved_s=st.integers(0, 1000).map(float),
)
ENTRIES = st.lists(st.tuples(st.sampled_from("abcdefgh"), SUMS), max_size=40)


def enter(history: History, at: float, name: str = "lab", **sums: float) -> None:
    one = Sums(**{"pulls": 1, **sums})
    bucket = history.at(at)
    bucket.upstreams.setdefault(name, Sums()).add(one)
    bucket.images.add(f"{name}/app:v1", one)
    bucket.clients.add("10.0.0.0/24", one)


def pulls(history: History, now: float) -> tuple[int, int, int, int]:
    views = (
        history.last_hour(now),
        history.last_hours(now, 24),
        history.last_days(now, 30),
        history.ever(now),
    )
    return tuple(view.total.pulls for view in views)


def again(history: History, now: float) -> History:
    """What a restart makes of it."""
    other = History(now)
    other.load(json.loads(history.snapshot(now)()), now)
    return other


@given(st.integers(1, 6), ENTRIES)
def test_a_table_is_bounded_and_no_sum_in_it_is_too_large(
    capacity: int, entries: list[tuple[str, Sums]]
) -> None:
    table, truth = Table(capacity), dict[str, Sums]()
    for name, sums in entries:
        table.add(name, sums)
        truth.setdefault(name, Sums()).add(sums)
    assert len(table.sums) <= capacity
    for name, sums in table.sums.items():
        assert sums.served_bytes <= truth[name].served_bytes
        assert sums.pulls <= truth[name].pulls
    if len(truth) <= capacity:
        assert table.sums == truth


@given(ENTRIES, ENTRIES)
def test_a_table_that_was_closed_goes_on(
    before: list[tuple[str, Sums]], after: list[tuple[str, Sums]]
) -> None:
    one, other = Table(8), Table(8)
    for name, sums in (*before, *after):
        one.add(name, sums)
    for name, sums in before:
        other.add(name, sums)
    other.close()
    for name, sums in after:
        other.add(name, sums)
    assert one.sums == other.sums


def test_everything_is_in_the_windows_it_belongs_to() -> None:
    history = History(NOW)
    enter(history, NOW)
    assert pulls(history, NOW) == (1, 1, 1, 1)
    enter(history, NOW + 2 * HOUR)
    assert pulls(history, NOW + 2 * HOUR) == (1, 2, 2, 2)
    enter(history, NOW + 3 * DAY)
    assert pulls(history, NOW + 3 * DAY) == (1, 1, 3, 3)
    assert history.last_days(NOW + 3 * DAY, 2).total.pulls == 1
    assert pulls(history, NOW + 31 * DAY) == (0, 0, 1, 3)
    assert pulls(history, NOW + 400 * DAY) == (0, 0, 0, 3)
    assert history.ever(NOW + 400 * DAY).since == NOW


def test_the_series_adds_up_to_the_total() -> None:
    history = History(NOW)
    for hour in range(100):
        enter(history, NOW + hour * HOUR, served_bytes=hour)
    now = NOW + 99 * HOUR
    for view in (history.last_hours(now, 24), history.last_days(now, 30)):
        assert sum(one.pulls for one in view.series.values()) == view.total.pulls
        starts = list(view.series)
        assert starts == sorted(starts)
        assert all(start % view.step_s == 0 for start in starts)
    assert len(history.last_hours(now, 24).series) == 24
    assert history.last_hours(now, 24).total.pulls == 24


@given(st.lists(st.integers(0, 40 * DAY), min_size=1, max_size=30), st.integers(0, 40 * DAY))
def test_every_window_holds_what_is_younger_and_nothing_else(
    offsets: list[int], later: int
) -> None:
    history, entered = History(NOW), []
    for offset in sorted(offsets):
        enter(history, NOW + offset)
        entered.append(NOW + offset)
    now = max(entered) + later
    for step_s, count, total in (
        (300, 12, pulls(history, now)[0]),
        (HOUR, 24, pulls(history, now)[1]),
        (DAY, 30, pulls(history, now)[2]),
    ):
        first = (now // step_s - count + 1) * step_s
        assert total == len([at for at in entered if at >= first])
    assert pulls(history, now)[3] == len(entered)


def test_a_clock_that_is_set_back_loses_nothing() -> None:
    history = History(NOW)
    enter(history, NOW)
    enter(history, NOW - DAY)
    assert pulls(history, NOW)[3] == 2
    assert pulls(history, NOW - DAY)[3] == 2


def test_the_rings_do_not_grow() -> None:
    history = History(NOW)
    for hour in range(0, 60 * 24, 7):
        enter(history, NOW + hour * HOUR)
    rings = history._rings.values()
    assert all(len(ring.buckets) <= ring.count for ring in rings)
    assert [ring.count for ring in rings] == [12, 24, 30]


@given(st.lists(st.integers(0, 40 * DAY), max_size=20))
def test_a_restart_changes_nothing(offsets: list[int]) -> None:
    history, now = History(NOW), NOW
    for offset in sorted(offsets):
        now = NOW + offset
        enter(history, now, served_bytes=offset, saved_s=0.5)
    other = again(history, now)
    assert pulls(other, now) == pulls(history, now)
    for one, same in ((history.ever(now), other.ever(now)),):
        assert (one.upstreams, one.images, one.clients) == (
            same.upstreams,
            same.images,
            same.clients,
        )
        assert (one.since, one.series) == (same.since, same.series)
    enter(history, now + DAY)
    enter(other, now + DAY)
    assert pulls(other, now + DAY) == pulls(history, now + DAY)


def test_the_file_of_an_idle_one_stays_as_it_is() -> None:
    history = History(NOW)
    enter(history, NOW)
    history.at(NOW + 600)
    assert history.snapshot(NOW + 600)() == history.snapshot(NOW + 7000)()


def test_a_snapshot_is_of_its_moment_whatever_follows() -> None:
    history = History(NOW)
    enter(history, NOW)
    enter(history, NOW + 600)
    rendered = history.snapshot(NOW + 600)
    for minute in range(1, 100):
        enter(history, NOW + 600 + minute * 60)
    document = json.loads(rendered())
    assert document["ever"]["upstreams"]["lab"][0] == 1
    assert document["open"]["upstreams"]["lab"][0] == 1


@given(JSON, st.sampled_from(["fives", "hours", "days", "ever", "open", "opened", "since"]))
def test_a_file_with_anything_in_it_is_read_without_harm(garbage: object, where: str) -> None:
    history = History(NOW)
    enter(history, NOW)
    document = json.loads(history.snapshot(NOW)())
    other = History(NOW)
    other.load(document | {where: garbage}, NOW)
    enter(other, NOW)
    assert pulls(other, NOW)[3] >= 1
    assert other.since <= NOW
    json.dumps(json.loads(other.snapshot(NOW)()), allow_nan=False)
    other = History(NOW)
    other.load(garbage, NOW)
    assert pulls(other, NOW) == (0, 0, 0, 0)


@given(JSON | st.dictionaries(st.text(max_size=3), st.lists(JSON, min_size=4, max_size=6)))
def test_only_sensible_sums_are_read(document: object) -> None:
    for name, sums in unpacked(document):
        assert name
        assert math.isfinite(sums.saved_s)
        assert 0 <= sums.pulls_saved <= sums.pulls


def test_what_stands_in_the_future_is_not_believed() -> None:
    history = History(NOW + 10 * DAY)
    enter(history, NOW + 10 * DAY)
    enter(history, NOW + 10 * DAY + 400)
    other = History(NOW)
    other.load(json.loads(history.snapshot(NOW + 10 * DAY + 400)()), NOW)
    assert pulls(other, NOW)[:3] == (0, 0, 0)
    enter(other, NOW)
    assert pulls(other, NOW)[:3] == (1, 1, 1)


@pytest.mark.parametrize("name", ["images", "clients"])
def test_a_bucket_is_bounded(name: str) -> None:
    bucket = Bucket()
    table: Table = getattr(bucket, name)
    for number in range(1000):
        table.add(f"name-{number}", Sums(pulls=1))
    assert len(table.sums) == 200
    loaded = Bucket(50)
    loaded.load(bucket.document())
    get: Callable[[Bucket], Table] = lambda one: getattr(one, name)  # noqa: E731
    assert len(get(loaded).sums) == 50
