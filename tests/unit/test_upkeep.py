"""What one replica does for all is done once a period, whoever comes first."""

from __future__ import annotations

from proxy.coordination.local import LocalCoordination
from proxy.upkeep import Turns

PERIOD_S = 600.0


async def test_a_turn_is_over_for_all_replicas_once_one_has_done_it():
    now = 0.0
    coordination = LocalCoordination(clock=lambda: now)
    one, other = Turns(coordination), Turns(coordination)
    assert await one.due("expiry")
    assert await other.due("expiry"), "asking takes nothing"
    await one.done("expiry", every_s=PERIOD_S)
    now = PERIOD_S / 2
    assert not await one.due("expiry")
    assert not await other.due("expiry")
    assert await other.due("scrub"), "each kind of work has its own turns"


async def test_who_did_it_last_does_it_again_when_its_period_is_over():
    now = 0.0
    turns = Turns(LocalCoordination(clock=lambda: now))
    for _ in range(3):
        assert await turns.due("expiry")
        await turns.done("expiry", every_s=PERIOD_S)
        now += PERIOD_S  # It wakes a period after it had finished, not later.
