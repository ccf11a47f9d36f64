"""Two replicas and what one learns of an upstream from the other."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass

import pytest

from proxy.coordination.local import LocalCoordination
from proxy.errors import UpstreamLimited, UpstreamUnavailable
from proxy.events import BreakerMoved, QuotaRead
from proxy.oci.names import Repository, Tag
from proxy.upstream.credentials import Credentials, StaticCredentials
from proxy.upstream.shared_health import SharedHealth
from tests.support.asking import Asking, asking
from tests.support.fake_registry import FakeAuth, FakeRegistry, Fault, Quirks
from tests.support.images import image

REPO = Repository.parse("library/app")
LATEST = Tag.parse("latest")
LAYER = image().layers[0]


@dataclass(slots=True)
class Replica:
    ask: Asking
    health: SharedHealth

    async def works(self) -> bool:
        try:
            await self.ask.upstream.resolve(REPO, LATEST)
        except UpstreamUnavailable:
            return False
        return True

    def state(self) -> str:
        return self.ask.upstream.health().state

    def moves(self) -> list[str]:
        return [event.state for event in self.ask.stated(BreakerMoved)]


@dataclass(slots=True)
class World:
    up: FakeRegistry
    coordination: LocalCoordination
    one: Replica
    two: Replica

    async def talk(self) -> None:
        """A second's turn of each, one after the other, and back."""
        for replica in (self.one, self.two, self.one):
            await replica.health.exchange()

    def pass_s(self, seconds: float) -> None:
        for replica in (self.one, self.two):
            replica.ask.ticks.now_s += seconds


@pytest.fixture
async def world() -> AsyncIterator[World]:
    async with AsyncExitStack() as stack:
        up = await stack.enter_async_context(FakeRegistry())
        up.add(REPO, image(), "latest")
        coordination = LocalCoordination()
        replicas: list[Replica] = []
        for began_s in (1000.0, 77_000.0):  # Their clocks have nothing in common.
            ask = await stack.enter_async_context(asking(up, head_s=5))
            ask.ticks.now_s = began_s
            health = SharedHealth([ask.upstream], coordination, monotonic=ask.ticks)
            replicas.append(Replica(ask, health))
        made = World(up, coordination, *replicas)
        assert [await one.works() for one in replicas] == [True, True]
        made.pass_s(10)
        yield made


async def die(world: World, replica: Replica) -> None:
    """The upstream hangs, and this replica finds out."""
    world.up.inject(Fault(status=503), times=None)
    for _ in range(3):
        assert not await replica.works()
    world.up.heal()
    world.up.inject(Fault(delay=asyncio.Event()), times=None)


async def test_the_second_replica_does_not_wait_for_a_dead_upstream(world: World) -> None:
    await die(world, world.one)
    await world.talk()
    asked, began = world.up.count(), time.monotonic()
    assert not await world.two.works()
    assert time.monotonic() - began < 1
    assert world.up.count() == asked
    assert world.two.moves() == ["failing"]
    assert "503" in world.two.ask.upstream.health().reason
    assert 0 < world.two.ask.upstream.health().retry_in_s <= 2


async def test_when_the_time_is_up_it_probes_as_ever(world: World) -> None:
    await die(world, world.one)
    await world.talk()
    world.up.heal()
    world.pass_s(2.1)
    await world.talk()
    assert await world.two.works()
    assert world.two.state() == "ok"


async def test_who_reaches_it_again_frees_the_others_early(world: World) -> None:
    await die(world, world.one)
    await world.talk()
    world.up.heal()
    world.two.ask.ticks.now_s += 2.1
    world.one.ask.ticks.now_s += 1.0
    assert not await world.one.works()
    assert await world.two.works()
    await world.two.health.exchange()
    await world.one.health.exchange()
    assert world.one.state() == "ok"
    assert await world.one.works()


async def test_who_reaches_it_is_not_talked_out_of_it(world: World) -> None:
    await die(world, world.one)
    world.up.heal()
    assert await world.two.works()
    for _ in range(5):
        await world.talk()
    assert world.two.moves() == []
    assert await world.two.works()


async def test_two_that_talk_come_to_rest(world: World) -> None:
    await die(world, world.one)
    for _ in range(4):
        await world.talk()
        world.pass_s(0.4)
    world.up.heal()
    world.pass_s(1)
    assert await world.one.works()
    for _ in range(20):
        await world.talk()
        world.pass_s(0.5)
        assert await world.one.works()
        assert await world.two.works()
    assert world.one.moves() == ["failing", "ok"]
    assert world.two.moves() == ["failing", "ok"]


async def test_what_was_only_heard_is_not_passed_on(world: World) -> None:
    await die(world, world.one)
    await world.talk()
    await world.coordination.delete("health/up/trouble")
    await world.two.health.exchange()
    assert await world.coordination.get("health/up/trouble") is None


async def test_a_limit_of_the_api_holds_for_all_and_leaves_blobs_alone(world: World) -> None:
    world.up.inject(Fault(status=429, headers={"Retry-After": "30"}), kind="manifest")
    with pytest.raises(UpstreamLimited):
        await world.one.ask.upstream.resolve(REPO, LATEST)
    await world.talk()
    with pytest.raises(UpstreamLimited) as raised:
        await world.two.ask.upstream.resolve(REPO, LATEST)
    assert raised.value.retry_after_s == pytest.approx(30, abs=0.1)
    assert await world.two.ask.blob(REPO, LAYER.digest) == LAYER.body
    world.pass_s(31)
    await world.talk()
    assert await world.two.works()


async def test_the_newest_quota_is_known_to_all(world: World) -> None:
    def answers(remaining: int) -> Fault:
        limit = {"ratelimit-limit": "100;w=21600"}
        return Fault(headers={**limit, "ratelimit-remaining": f"{remaining};w=21600"})

    world.up.inject(answers(76), kind="manifest")
    assert await world.two.works()
    await world.talk()
    world.up.inject(answers(75), kind="manifest")
    assert await world.one.works()
    await world.talk()
    for replica in (world.one, world.two):
        quota = replica.ask.upstream.health().quota
        assert quota is not None
        assert (quota.limit, quota.remaining, quota.window_s) == (100, 75, 21600)
    assert [e.remaining for e in world.two.ask.stated(QuotaRead)] == [76, 75]
    assert [e.remaining for e in world.one.ask.stated(QuotaRead)] == [76, 75]


async def test_of_several_logins_each_ones_quota_is_known_to_all() -> None:
    passwords = {"anna": "a", "bert": "b"}
    logins = [StaticCredentials(Credentials(*one)) for one in passwords.items()]
    quirks = Quirks(quotas={"anna": 50, "bert": 40})
    async with AsyncExitStack() as stack:
        up = await stack.enter_async_context(FakeRegistry(quirks, FakeAuth(users=passwords)))
        up.add(REPO, image(), "latest")
        coordination = LocalCoordination()
        one, two = [
            # Told of them in another order.
            await stack.enter_async_context(
                asking(up, logins[n], further_credentials=(logins[1 - n],))
            )
            for n in (0, 1)
        ]
        healths = [
            SharedHealth([ask.upstream], coordination, monotonic=ask.ticks) for ask in (one, two)
        ]
        assert await two.upstream.resolve(REPO, LATEST)  # It is in use.
        await healths[1].exchange()
        for _ in range(4):
            assert await one.upstream.get_manifest(REPO, LATEST)
        for health in (*healths, healths[0]):
            await health.exchange()
        for ask in (one, two):
            left = {account.name: account.budget.left for account in ask.upstream.accounts}
            assert left == {"an…a": 47, "be…t": 39}


async def test_an_upstream_that_nobody_uses_costs_nothing(world: World) -> None:
    class Counting(LocalCoordination):
        asked = 0

        async def get(self, key: str) -> bytes | None:
            self.asked += 1
            return await super().get(key)

    counting, ask = Counting(), world.one.ask
    health = SharedHealth([ask.upstream], counting, monotonic=ask.ticks)
    await health.exchange()
    assert counting.asked == 3
    world.pass_s(120)
    await health.exchange()
    assert counting.asked == 3


@pytest.mark.parametrize(
    "said",
    [
        b"{",
        b"\xff",
        b"[]",
        b'{"by": "x", "id": "1"}',
        b'{"by": "x", "id": "1", "state": "failing", "reason": 3, "age_s": 0, "left_s": 9}',
    ],
)
async def test_nonsense_and_a_forgotten_memory_change_nothing(world: World, said: bytes) -> None:
    for topic in ("trouble", "ok", "quota"):
        await world.coordination.put(f"health/up/{topic}", said, ttl_s=60)
    await world.talk()
    assert (world.one.state(), world.two.state()) == ("ok", "ok")
    await die(world, world.one)
    for topic in ("trouble", "ok", "quota"):
        await world.coordination.delete(f"health/up/{topic}")
    await world.two.health.exchange()
    assert world.two.state() == "ok"
