"""What is fetched for readers of ranges: enough for them, and nothing besides."""

from __future__ import annotations

from collections.abc import Callable

from proxy.cache.demand import WINDOW_BYTES_MAX, WINDOW_BYTES_MIN, Demand, Demands
from proxy.cache.extents import Extents

MIB = 1024 * 1024


def fetched(*spans: tuple[int, int]) -> Extents:
    extents = Extents()
    for start, end in spans:
        extents.add(start, end)
    return extents


def next_gap(
    demands: Demands, coming: Extents, *, skip: Callable[[int], bool] = lambda _start: False
) -> tuple[int, int] | None:
    """The stretch to fetch next, as if it were begun but not told."""
    for demand, start, end in demands.gaps(coming, skip=skip):
        demand.grow()
        return start, end
    return None


def test_a_closed_range_is_fetched_exactly() -> None:
    demands = Demands()
    demands.add([Demand(1000, 51_000, is_open=False)])
    assert next_gap(demands, fetched()) == (1000, 51_000)
    assert next_gap(demands, fetched((0, 20_000), (40_000, 60_000))) == (20_000, 40_000)
    assert next_gap(demands, fetched((1000, 51_000))) is None


def test_a_long_closed_range_comes_in_windows() -> None:
    demands = Demands()
    demands.add([Demand(0, 30 * MIB, is_open=False)])
    assert next_gap(demands, fetched()) == (0, WINDOW_BYTES_MAX)
    assert next_gap(demands, fetched((0, 8 * MIB))) == (8 * MIB, 16 * MIB)


def test_an_open_range_is_fetched_further_ahead_the_further_its_reader_has_come() -> None:
    demands, have, size = Demands(), Extents(), 100 * MIB
    demand = Demand(10 * MIB, size, is_open=True)
    demands.add([demand])
    windows = []
    while demand.at < 60 * MIB:
        found = next_gap(demands, have)
        if found is None:
            demands.move(demand, demand.at + MIB // 4)
        else:
            windows.append(found)
            have.add(*found)
    lengths = [end - start for start, end in windows]
    assert lengths[0] == WINDOW_BYTES_MIN
    assert lengths == sorted(lengths)
    assert lengths[-1] == WINDOW_BYTES_MAX
    assert len(list(have)) == 1
    # Never further ahead than one window.
    assert next(iter(have))[1] <= demand.at + 2 * WINDOW_BYTES_MAX


def test_a_reader_that_hangs_up_needs_nothing_any_more() -> None:
    demands = Demands()
    demand = Demand(5 * MIB, 100 * MIB, is_open=True)
    demands.add([demand])
    assert demands.needs(5 * MIB, 6 * MIB)
    assert not demands.needs(0, 5 * MIB)
    assert not demands.needs(50 * MIB, 60 * MIB)
    demands.remove([demand])
    assert not demands.needs(5 * MIB, 6 * MIB)
    assert next_gap(demands, fetched()) is None
    assert len(demands) == 0


def test_neighbours_are_fetched_together_and_what_is_far_is_not() -> None:
    demands = Demands()
    near = Demand(100_000 + 5_000, 200_000, is_open=False)
    far = Demand(300_000, 310_000, is_open=False)
    demands.add([Demand(0, 100_000, is_open=False), far, near])
    # 5 kB between them are less than a sixteenth; 100 kB are not.
    assert next_gap(demands, fetched()) == (0, 200_000)
    assert next_gap(demands, fetched((0, 200_000))) == (300_000, 310_000)


def test_gaps_that_fill_by_themselves_are_left_out() -> None:
    demands = Demands()
    demands.add([Demand(0, 1000, is_open=False), Demand(5000, 6000, is_open=False)])
    assert next_gap(demands, fetched(), skip=lambda start: start < 1000) == (5000, 6000)


def test_every_change_is_heard() -> None:
    demands, heard = Demands(), []
    demands.changed = lambda: heard.append(1)
    demand = Demand(0, 10 * MIB, is_open=True)
    demands.add([demand])
    demands.move(demand, 5)
    demands.remove([demand])
    demands.remove([demand])
    assert len(heard) == 4


def test_what_brings_nothing_to_do_is_not_heard() -> None:
    demands, heard = Demands(), []
    demand = Demand(0, 1000, is_open=False)
    demands.add([demand])
    demands.changed = lambda: heard.append(1)
    demands.move(demand, 5)
    demands.done(demand)
    assert heard == []
    assert len(demands) == 0


def test_a_reader_that_comes_near_the_end_is_heard_until_the_end_was_looked_at() -> None:
    demands, heard, have = Demands(), [], Extents()
    demand = Demand(0, WINDOW_BYTES_MIN + 100, is_open=True)
    demands.add([demand])
    demands.changed = lambda: heard.append(1)
    have.add(*next_gap(demands, have) or (0, 0))
    assert next(iter(have)) == (0, WINDOW_BYTES_MIN)
    # It grew meanwhile, and sees the end from here.
    demands.move(demand, WINDOW_BYTES_MIN - 10)
    assert heard == [1]
    assert next_gap(demands, have) == (WINDOW_BYTES_MIN, WINDOW_BYTES_MIN + 100)
    demands.move(demand, WINDOW_BYTES_MIN + 10)
    assert heard == [1]
