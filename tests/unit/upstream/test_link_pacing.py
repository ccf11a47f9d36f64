"""Whose turn it is: caps hold, the urgent go first, clients share, nobody starves. Time is
simulated; the senders send whatever they may.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.cache.traffic import Traffic, Urgency
from proxy.upstream.link.buckets import BURST_S, Bucket, Peak
from proxy.upstream.link.pacing import (
    MOVING_S,
    TRICKLE_SHARE,
    Pacing,
    Scope,
    Transfer,
    window,
)

MBIT = 125_000
WAITING, REFRESH, WARM = Urgency
STEP_S = 0.002


class Simulated:
    """A link of `link_rate` bytes a second that all senders fill as far as they may."""

    def __init__(
        self, *, cap: float | None = None, link_rate: float = 1e9, fetches_max: int | None = None
    ) -> None:
        self.now = 100.0
        self.everything = Scope("", fetches_max)
        self.everything.bucket.set_rate(cap, self.now)
        self.upstreams: dict[str, Scope] = defaultdict(lambda: Scope("lab"))
        self.pacing = Pacing(self.everything, self.now)
        self.link_rate = link_rate
        self.got: dict[Transfer, int] = {}
        self.log: list[tuple[float, int]] = []

    def begin(self, urgency: Urgency, client: str = "", upstream: str = "lab") -> Transfer:
        traffic = Traffic(urgency, client)
        transfer = self.pacing.begin(self.upstreams[upstream], traffic, self.now)
        self.got[transfer] = 0
        return transfer

    def end(self, transfer: Transfer) -> None:
        self.pacing.end(transfer, self.now)

    def run(self, duration_s: float, each: Callable[[], None] = lambda: None) -> None:
        end = self.now + duration_s
        while self.now < end:
            self.now += STEP_S
            each()
            self.pacing.due(self.now)
            open_now = [
                one
                for one in self.pacing.transfers()
                if one.queued_at is None and self.pacing.may_begin(one)
            ]
            for one in open_now:
                self.take(one, int(self.link_rate * STEP_S / len(open_now)))

    def take(self, transfer: Transfer, available: int) -> None:
        while available > 0 and transfer.queued_at is None:
            count = min(available, self.pacing.piece(transfer, self.now) or available)
            self.got[transfer] += count
            self.log.append((self.now, count))
            self.pacing.took(transfer, count, self.now)
            available -= count

    def most_in(self, window_s: float) -> int:
        """The most bytes in any window of that length."""
        most = total = first = 0
        for moment, count in self.log:
            total += count
            while self.log[first][0] <= moment - window_s:
                total -= self.log[first][1]
                first += 1
            most = max(most, total)
        return most


@pytest.mark.parametrize("cap", [20 * MBIT, MBIT, 1000 * MBIT])
@pytest.mark.parametrize("count", [1, 8, 24])
def test_a_cap_holds_over_any_ten_seconds_and_is_used_up(cap: float, count: int) -> None:
    sim = Simulated(cap=cap)
    for number in range(count):
        sim.begin(WAITING, f"client {number}")
    sim.run(22)
    assert sim.most_in(10) <= cap * 10 * 1.05
    assert sum(sim.got.values()) >= cap * 22 * 0.95


def test_a_cap_of_one_upstream_binds_that_one_only() -> None:
    sim = Simulated(cap=10 * MBIT)
    sim.upstreams["slow"].bucket.set_rate(2 * MBIT, sim.now)
    slow, other = sim.begin(WAITING, "a", "slow"), sim.begin(WAITING, "b")
    sim.run(10)
    assert sim.got[slow] == pytest.approx(2 * MBIT * 10, rel=0.06)
    assert sim.got[other] == pytest.approx(8 * MBIT * 10, rel=0.06)


def test_clients_share_evenly_however_many_transfers_they_have() -> None:
    sim = Simulated(cap=20 * MBIT)
    one = [sim.begin(WAITING, "one")]
    many = [sim.begin(WAITING, "many") for _ in range(6)]
    sim.run(10)
    got_one, got_many = (sum(sim.got[o] for o in own) for own in (one, many))
    assert got_one == pytest.approx(got_many, rel=0.05)
    shares = [sim.got[o] for o in many]
    assert max(shares) - min(shares) <= 3 * 64 * 1024


def test_a_newcomer_begins_level_with_the_others() -> None:
    sim = Simulated(cap=20 * MBIT)
    old = sim.begin(WAITING, "old")
    sim.run(20)
    before, new = sim.got[old], sim.begin(WAITING, "new")
    sim.run(10)
    assert sim.got[old] - before == pytest.approx(sim.got[new], rel=0.05)


@pytest.mark.parametrize("cap", [20 * MBIT, None])
def test_who_is_waited_for_is_not_slowed_by_a_warm_up(cap: float | None) -> None:
    sim = Simulated(cap=cap, link_rate=20 * MBIT)
    warm = [sim.begin(WARM, "warm") for _ in range(8)]
    sim.run(10)
    assert sum(sim.got[one] for one in warm) == pytest.approx(20 * MBIT * 10, rel=0.05)
    before, urgent = sum(sim.got[one] for one in warm), sim.begin(WAITING, "somebody")
    sim.run(20)
    assert sim.got[urgent] >= 20 * MBIT * 20 * 0.95
    trickle = sum(sim.got[one] for one in warm) - before
    assert 0.5 <= trickle / (20 * MBIT * 20 * TRICKLE_SHARE) <= 1.5
    # And once nobody waits any more, it has all of it again.
    sim.end(urgent)
    sim.run(MOVING_S + 0.2)
    before = sum(sim.got[one] for one in warm)
    sim.run(10)
    assert sum(sim.got[one] for one in warm) - before >= 20 * MBIT * 10 * 0.95


def test_all_classes_keep_their_order_and_none_starves() -> None:
    sim = Simulated(cap=20 * MBIT)
    warm, refresh, urgent = (sim.begin(one, one.name) for one in (WARM, REFRESH, WAITING))
    sim.run(30)
    assert sim.got[urgent] >= 20 * MBIT * 30 * 0.93
    assert sim.got[refresh] > 0
    assert sim.got[warm] > 0
    sim.end(urgent)
    sim.run(MOVING_S + 0.5)
    had = dict(sim.got)
    sim.run(10)
    assert sim.got[refresh] - had[refresh] >= 20 * MBIT * 10 * 0.95
    assert sim.got[warm] > had[warm]


def test_a_warm_up_that_somebody_joins_becomes_urgent_at_once() -> None:
    sim = Simulated(cap=20 * MBIT)
    warm, other = sim.begin(WARM, "warm"), sim.begin(WAITING, "other")
    sim.run(10)
    before = dict(sim.got)
    warm.traffic.raise_to(Traffic(WAITING, "joined"))
    sim.run(10)
    assert sim.got[warm] - before[warm] == pytest.approx(sim.got[other] - before[other], rel=0.1)


def test_one_that_waits_and_does_not_move_holds_nobody_back() -> None:
    sim = Simulated(link_rate=20 * MBIT)
    stalled, warm = sim.begin(WAITING, "stalled"), sim.begin(WARM, "warm")
    sim.pacing.may_begin(stalled)
    end = sim.now + 10
    while sim.now < end:
        sim.now += STEP_S
        sim.pacing.due(sim.now)
        sim.pacing.may_begin(warm)
        sim.take(warm, int(20 * MBIT * STEP_S))
    assert sim.got[warm] >= 20 * MBIT * (10 - MOVING_S) * 0.95


def test_of_too_many_fetches_the_most_urgent_and_oldest_run() -> None:
    sim = Simulated(cap=20 * MBIT, fetches_max=2)
    warm = [sim.begin(WARM) for _ in range(3)]
    assert [sim.pacing.may_begin(one) for one in warm] == [True, True, False]
    urgent = [sim.begin(WAITING, str(number)) for number in range(3)]
    # Never behind warm-ups, but behind two others.
    assert [sim.pacing.may_begin(one) for one in urgent] == [True, True, False]
    sim.end(urgent[0])
    assert sim.pacing.may_begin(urgent[2])
    sim.end(urgent[1])
    sim.end(urgent[2])
    assert not sim.pacing.may_begin(warm[2])
    sim.end(warm[0])
    assert sim.pacing.may_begin(warm[2])


def test_a_warm_up_without_a_place_goes_on_at_a_trickle() -> None:
    sim = Simulated(cap=20 * MBIT, fetches_max=1)
    first = sim.begin(REFRESH, "refresh")
    warm = sim.begin(WARM)
    assert sim.pacing.may_begin(first)
    sim.pacing.end(first, sim.now)
    assert sim.pacing.may_begin(warm)
    before = sim.got[warm]
    sim.begin(REFRESH, "refresh")
    sim.run(20)
    share = (sim.got[warm] - before) / (20 * MBIT * 20)
    assert TRICKLE_SHARE / 2 <= share <= TRICKLE_SHARE * 2


def test_a_slower_rate_is_kept_from_its_first_moment() -> None:
    sim = Simulated(cap=1000 * MBIT)
    for number in range(4):
        sim.begin(WAITING, str(number))
    sim.run(2)
    sim.everything.bucket.set_rate(20 * MBIT, sim.now)
    sim.log.clear()
    sim.run(11)
    assert sim.most_in(10) <= 20 * MBIT * 10 * 1.05
    assert sim.most_in(10) >= 20 * MBIT * 10 * 0.95


def test_what_is_not_used_is_not_saved_up() -> None:
    bucket = Bucket(1000.0, 0.0)
    bucket.refill(3600.0)
    assert bucket.level == 1000 * BURST_S


def test_pauses_are_counted() -> None:
    sim = Simulated(cap=MBIT)
    one = sim.begin(WAITING)
    sim.run(10)
    assert 8 <= one.upstream.paused_s[WAITING] <= 10
    assert sim.everything.bytes[WAITING] == sim.got[one]


def test_what_the_link_can_do_is_remembered_for_a_while() -> None:
    peak = Peak(0.0)
    peak.sample(1_000_000, 1.0)
    assert peak.rate == 1_000_000
    peak.sample(1_000_000, 301.0)
    assert peak.rate == pytest.approx(500_000)


@settings(max_examples=40, deadline=None)
@given(
    classes=st.lists(st.sampled_from([WAITING, REFRESH, WARM]), min_size=1, max_size=10),
    clients=st.integers(1, 4),
    cap=st.one_of(st.none(), st.integers(2, 400).map(lambda mbit: mbit * MBIT)),
    own_cap=st.one_of(st.none(), st.integers(2, 400).map(lambda mbit: mbit * MBIT)),
    fetches_max=st.one_of(st.none(), st.integers(1, 4)),
)
def test_whatever_goes_on_caps_hold_and_everything_that_may_run_moves(
    classes: list[Urgency],
    clients: int,
    cap: int | None,
    own_cap: int | None,
    fetches_max: int | None,
) -> None:
    sim = Simulated(cap=cap, link_rate=500 * MBIT, fetches_max=fetches_max)
    sim.upstreams["lab"].bucket.set_rate(own_cap, sim.now)
    begun = [sim.begin(one, f"{one.name} {n % clients}") for n, one in enumerate(classes)]
    sim.run(5)
    for rate in (cap, own_cap):
        if rate is not None:
            slack = rate * BURST_S + len(begun) * max(4096, rate * 0.02)
            assert sim.most_in(1) <= rate + slack
    running = [one for one in begun if one.begun]
    assert len(running) == min(len(begun), fetches_max or len(begun))
    assert all(sim.got[one] > 0 for one in running)
    for one in begun:
        sim.end(one)
    assert not sim.pacing.transfers()
    assert sim.pacing.next_due_in(sim.now) is None


def test_what_the_kernel_takes_in_advance_is_paid_for_first_and_only_once() -> None:
    sim = Simulated(cap=MBIT)
    one = sim.begin(WAITING)
    assert sim.pacing.may_begin(one)
    bucket = sim.everything.bucket
    bucket.refill(sim.now)
    before = bucket.level
    sim.pacing.expect(one, 100_000, 60_000, sim.now)
    assert bucket.level == before - 60_000
    for _ in range(100):
        sim.pacing.took(one, 1000, sim.now)
    assert bucket.level == before - 100_000


def test_a_window_is_a_share_of_the_cap_within_bounds() -> None:
    capped, free = Scope("capped"), Scope("free")
    assert window(free, free) is None
    capped.bucket.set_rate(20 * MBIT, 0.0)
    capped.transfers = 4
    assert window(free, capped) == int(20 * MBIT * 0.15 / 4)
    capped.transfers = 1000
    assert window(free, capped) == 32 * 1024
    # What is fast enough is left to the kernel, which knows the round trips.
    capped.bucket.set_rate(1000 * MBIT, 0.0)
    capped.transfers = 1
    assert window(free, capped) is None
