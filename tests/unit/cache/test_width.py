"""How many connections: more while they are worth it, on made-up links."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from proxy.cache.width import Width

MB = 1_000_000


def tried(rate_of: Callable[[int], float], *, most: int, steps: int = 400) -> list[int]:
    """The number of lanes after each hundredth of a second on a link that gives
    `rate_of(lanes)` bytes a second."""
    width, now, fetched, lanes = Width(most), 100.0, 0.0, []
    for _ in range(steps):
        now += 0.01
        fetched += rate_of(width.lanes) * 0.01
        width.sample(now, int(fetched))
        lanes.append(width.lanes)
    return lanes


def test_a_capped_connection_is_doubled_up_to_the_limit() -> None:
    lanes = tried(lambda lanes: 50 * MB * lanes, most=8)
    assert lanes[-1] == 8
    assert sorted(set(lanes)) == [1, 2, 4, 8]
    assert lanes == sorted(lanes)


def test_a_saturated_link_is_left_to_one_connection() -> None:
    lanes = tried(lambda _lanes: 10 * MB, most=8)
    assert set(lanes) == {1, 2}
    assert lanes[-1] == 1
    # One try, and never again.
    assert lanes[lanes.index(2) :].count(2) < 60


def test_it_stops_where_the_link_is_full() -> None:
    assert tried(lambda lanes: min(120 * MB, 50 * MB * lanes), most=16)[-1] in {2, 4}
    assert tried(lambda lanes: min(200 * MB, 50 * MB * lanes), most=16)[-1] == 4


@pytest.mark.parametrize("most", [1, 2, 3, 4, 5])
def test_the_limit_is_never_passed(most: int) -> None:
    assert max(tried(lambda lanes: 50 * MB * lanes, most=most)) <= most


def test_a_trickle_decides_nothing() -> None:
    assert set(tried(lambda lanes: 1000 * lanes, most=8)) == {1}


def test_limited_to_one_it_is_settled_from_the_start() -> None:
    assert Width(1).settled
    assert not Width(2).settled
