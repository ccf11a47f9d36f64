"""What is fetched for readers of ranges: enough for them, and nothing besides."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from hypothesis import given
from hypothesis import strategies as st

from proxy.cache.demand import WINDOW_BYTES_MAX, WINDOW_BYTES_MIN, Demand, Demands
from proxy.cache.extents import Extents

KIB = 1024
MIB = 1024 * KIB


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


def taken(demands: Demands, coming: Extents) -> Iterator[tuple[Demand, int, int]]:
    """All that one look finds, begun as it is told."""
    for demand, start, end in demands.gaps(coming):
        yield demand, start, end
        demand.grow()
        coming.add(start, end)


def gaps_of(asked: list[tuple[int, int]], have: Extents) -> list[tuple[int, int]]:
    """What of these (offset and length) is missing, in order, each byte once."""
    wanted = list(fetched(*((at, at + length) for at, length in asked)))
    gaps, seen = [], have.copy()
    for start, end in wanted:
        while (gap := seen.gap(start, end)) is not None:
            gaps.append(gap)
            seen.add(*gap)
    return gaps


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


def test_a_look_at_what_is_not_taken_is_bounded_however_many_asked_for_the_same() -> None:
    """A crowd of lazy pullers, each with a thousand ranges, while no more may be fetched."""
    demands, part = Demands(), 64 * 1024
    for _ in range(50):
        demands.add([Demand(n * part, (n + 1) * part, is_open=False) for n in range(1024)])
    found = [(start, end) for _, start, end in demands.gaps(fetched())]
    assert found[0] == (0, WINDOW_BYTES_MAX)
    # The last of them, and one walk over its neighbours, may go beyond.
    assert demands._steps <= 32 * 1024
    assert len(found) < 50 * 1024


def test_who_needed_it_before_is_looked_at_first() -> None:
    demands = Demands()
    first, second = (Demand(0, 100, is_open=False) for _ in range(2))
    demands.add([first, second])
    assert demands.needing(50, 60) is first
    assert demands.needing(50, 60, second) is second
    demands.remove([second])
    assert demands.needing(50, 60, second) is first


def test_a_reader_that_hangs_up_needs_nothing_any_more() -> None:
    demands = Demands()
    demand = Demand(5 * MIB, 100 * MIB, is_open=True)
    demands.add([demand])
    assert demands.needing(5 * MIB, 6 * MIB)
    assert not demands.needing(0, 5 * MIB)
    assert not demands.needing(50 * MIB, 60 * MIB)
    demands.remove([demand])
    assert not demands.needing(5 * MIB, 6 * MIB)
    assert next_gap(demands, fetched()) is None
    assert len(demands) == 0


def test_neighbours_are_fetched_together_and_what_is_far_is_not() -> None:
    demands = Demands()
    near = Demand(100_000 + 5_000, 200_000, is_open=False)
    far = Demand(300_000, 310_000, is_open=False)
    demands.add([Demand(0, 100_000, is_open=False), far, near])
    # 5 kB between them are less than a tenth; 100 kB are not.
    assert next_gap(demands, fetched()) == (0, 200_000)
    assert next_gap(demands, fetched((0, 200_000))) == (300_000, 310_000)


def test_next_to_nothing_between_is_fetched_along_whatever_is_asked_for() -> None:
    demands = Demands()
    demands.add(Demand(at, at + 20, is_open=False) for at in (0, 1000, 2021, 3100))
    assert [span for _, *span in taken(demands, Extents())] == [[0, 2041], [3100, 3120]]


def test_much_between_is_not_fetched_along_however_much_is_asked_for() -> None:
    demands = Demands()
    second = 4 * MIB + 64 * KIB
    demands.add([Demand(0, 4 * MIB, is_open=False), Demand(second, second + 9, is_open=False)])
    assert next_gap(demands, Extents()) == (0, second + 9)
    far = Demands()
    far.add(
        [Demand(0, 4 * MIB, is_open=False), Demand(second + 1, second + 9, is_open=False)],
    )
    assert next_gap(far, Extents()) == (0, 4 * MIB)


def test_a_stretch_of_neighbours_is_no_longer_than_a_window() -> None:
    demands, coming = Demands(), Extents()
    demands.add(Demand(at, at + 50_000, is_open=False) for at in range(0, 20 * MIB, 51_000))
    spans = [(start, end) for _, start, end in taken(demands, coming)]
    assert [end - start for start, end in spans[:-1]] == [WINDOW_BYTES_MAX] * 2
    assert next_gap(demands, coming) is None


def test_what_is_there_already_is_fetched_again_only_if_that_is_little() -> None:
    demands = Demands()
    demands.add([Demand(0, 100_000, is_open=False)])
    assert next_gap(demands, fetched((50_000, 51_000))) == (0, 100_000)
    assert next_gap(demands, fetched((50_000, 56_000))) == (0, 50_000)


SPANS = st.lists(st.tuples(st.integers(0, 400 * KIB), st.integers(1, 30 * KIB)), max_size=30)


@given(SPANS, SPANS)
def test_one_look_finds_all_that_is_lacking_and_adds_little(
    asked: list[tuple[int, int]], there: list[tuple[int, int]]
) -> None:
    demands, coming = Demands(), fetched(*((at, at + length) for at, length in there))
    missing = sum(end - start for start, end in gaps_of(asked, coming))
    demands.add(Demand(at, at + length, is_open=False) for at, length in asked)
    spans = [(start, end) for _, start, end in taken(demands, coming)]
    assert all(coming.gap(at, at + length) is None for at, length in asked)
    # What is between costs a tenth, or as much as the heads of a request would.
    joints = len(asked) + len(there)
    assert missing <= sum(end - start for start, end in spans) <= missing * 1.1 + KIB * joints
    assert next_gap(demands, coming) is None


def test_what_all_comes_is_not_looked_at_again_until_some_of_it_is_lost() -> None:
    demands, coming = Demands(), Extents()
    demands.add(Demand(at, at + 100, is_open=False) for at in range(0, 100_000, 5000))
    assert len(list(taken(demands, coming))) == 20
    asked: list[int] = []

    def skip(start: int) -> bool:
        asked.append(start)
        return False

    assert next_gap(demands, coming, skip=skip) is None
    # Not even if it were missing.
    assert next_gap(demands, Extents(), skip=skip) is None
    assert asked == []
    demands.lost()
    assert [start for _, start, _ in demands.gaps(fetched((0, 90_000)))] == [90_000, 95_000]


def test_a_reader_that_moved_is_merged_from_where_it_is() -> None:
    demands = Demands()
    moved = Demand(0, 1_000_000, is_open=False)
    demands.add([moved, Demand(1_000_100, 1_000_200, is_open=False)])
    demands.move(moved, 900_000)
    assert next_gap(demands, Extents()) == (900_000, 1_000_200)


def test_what_the_readers_that_left_had_yet_to_read_is_told_once() -> None:
    demands = Demands()
    read, left = Demand(0, 1000, is_open=False), Demand(2000, 3000, is_open=False)
    demands.add([read, left])
    demands.done(read)
    demands.move(left, 2500)
    demands.remove([read, left])
    assert list(demands.take_left()) == [(2500, 3000)]
    assert list(demands.take_left()) == []


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


def test_what_is_not_taken_is_told_again_and_others_are_told_after_it() -> None:
    demands = Demands()
    demands.add([Demand(0, 2 * MIB, is_open=False), Demand(5 * MIB, 6 * MIB, is_open=False)])
    for _ in range(2):
        spans = [(start, end) for _, start, end in demands.gaps(Extents())]
        assert spans == [(0, 2 * MIB), (5 * MIB, 6 * MIB)]


def began_open(demands: Demands, *starts: int) -> list[Demand]:
    began = [Demand(start, 100 * MIB, is_open=True) for start in starts]
    for one in began:
        demands.add([one])
    return began


def read_on(demands: Demands, have: Extents, demand: Demand, to: int) -> list[tuple[int, int]]:
    """It reads to there, and no further; what is fetched meanwhile, at once."""
    found = []
    while True:
        for _, start, end in taken(demands, have):
            found.append((start, end))
        if demand.at == to:
            return found
        demands.move(demand, min(to, demand.at + MIB // 4, have.end_at(demand.at)))


def test_of_open_ranges_no_more_is_fetched_than_up_to_where_the_next_one_began() -> None:
    demands, have = Demands(), Extents()
    first, second = began_open(demands, 0, 8 * MIB)
    read_on(demands, have, first, 8 * MIB - 1)
    assert next(iter(have)) == (0, 16 * MIB)
    demands.remove([first])
    read_on(demands, have, second, 16 * MIB - 1)
    assert list(have) == [(0, 16 * MIB)]
    # Who begins now is known to read so much.
    (third,) = began_open(demands, 24 * MIB)
    assert read_on(demands, have, third, 32 * MIB - 1) == [(24 * MIB, 32 * MIB)]


def test_who_goes_on_beyond_that_gets_more_a_little_at_first() -> None:
    demands, have = Demands(), Extents()
    first, _ = began_open(demands, 0, 8 * MIB)
    read_on(demands, have, first, 8 * MIB - 1)
    assert have.end_at(0) == 16 * MIB
    demands.move(first, 8 * MIB)
    assert first.reach == WINDOW_BYTES_MIN
    read_on(demands, have, first, 40 * MIB)
    assert have.end_at(0) > 40 * MIB


def test_the_little_that_is_left_behind_that_point_is_heard_of() -> None:
    demands, have, heard = Demands(), Extents(), []
    first = Demand(0, 8 * MIB + 100, is_open=True)
    demands.add([first])
    demands.add([Demand(8 * MIB, 8 * MIB + 100, is_open=True)])
    assert first.until == 8 * MIB
    have.add(0, 8 * MIB)
    demands.move(first, 8 * MIB - 10)
    demands.changed = lambda: heard.append(1)
    demands.move(first, 8 * MIB)
    assert heard == [1]
    assert next_gap(demands, have) == (8 * MIB, 8 * MIB + 100)


def test_open_ranges_that_begin_side_by_side_or_far_apart_teach_nothing() -> None:
    demands, have = Demands(), Extents()
    near = began_open(demands, 0, 1000, WINDOW_BYTES_MIN - 1)
    assert [one.until for one in near] == [100 * MIB] * 3
    far = Demands()
    began_open(far, 0, 80 * MIB)
    found = [(start, end - start) for _, start, end in taken(far, have)]
    assert found == [(0, WINDOW_BYTES_MIN), (80 * MIB, WINDOW_BYTES_MIN)]


def test_so_many_beginnings_are_kept_and_no_more() -> None:
    demands = Demands()
    for start in range(5000):
        one = Demand(start * 3 * MIB, 20_000 * MIB, is_open=True)
        demands.add([one])
        demands.remove([one])
    assert len(demands._beginnings) <= 1024
    again = Demand(0, 20_000 * MIB, is_open=True)
    demands.add([again])
    assert again.until == 3 * MIB


def test_who_reads_further_on_is_known() -> None:
    demands, near = Demands(), Demand(0, 10, is_open=False)
    demands.add([near, Demand(0, 8 * MIB, is_open=True)])
    assert demands.beyond(10)
    assert not demands.beyond(8 * MIB)
    demands.remove([demand for demand in demands._all if demand is not near])
    assert demands.beyond(9)
    assert not demands.beyond(10)
