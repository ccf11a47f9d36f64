"""One token for replicas that share a coordination."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

import pytest

from proxy.cache.shared import Shared
from proxy.coordination.local import LocalCoordination
from proxy.errors import AccessDenied
from proxy.oci.challenge import TokenReply
from proxy.upstream.shared_tokens import SharedTokens
from proxy.upstream.tokens import Granted, TokenKey, Tokens
from tests.support.asking import Ticks

KEY = TokenKey(
    realm="https://auth/", service="s", scope=("repository:a:pull",), ours=True, challenger="up"
)


@dataclass(slots=True)
class Endpoint:
    """Grants numbered tokens."""

    lives_s: float = 300
    asked: int = 0
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    refuses: bool = False

    async def ask(self, _key: TokenKey) -> Granted:
        self.asked += 1
        number = self.asked
        await self.gate.wait()
        if self.refuses:
            raise AccessDenied("no")
        return Granted(TokenReply(f"t{number}", self.lives_s, None), with_credentials=True)


@dataclass(slots=True)
class World:
    ticks: Ticks
    coordination: LocalCoordination
    endpoint: Endpoint

    def replica(self, upstream: str = "up", *, behind_s: float = 0) -> Tokens:
        tokens = SharedTokens(
            upstream,
            self.endpoint.ask,
            shared=Shared(self.coordination, alone=False),
            clock=lambda: self.ticks() + 1_700_000_000 - behind_s,
        )
        return Tokens(tokens.ask, monotonic=self.ticks)


@pytest.fixture
def world() -> World:
    ticks = Ticks()
    made = World(ticks, LocalCoordination(ticks), Endpoint())
    made.endpoint.gate.set()
    return made


async def test_two_replicas_that_want_it_at_once_ask_once(world: World) -> None:
    one, two = world.replica(), world.replica()
    first, second = await asyncio.gather(one.get(KEY), two.get(KEY))
    assert (first.text, second.text, world.endpoint.asked) == ("t1", "t1", 1)
    assert second.with_credentials


async def test_a_token_asked_for_by_another_is_not_called_fresh(world: World) -> None:
    assert (await world.replica().get(KEY)).fresh
    assert not (await world.replica().get(KEY)).fresh


async def test_another_replicas_token_is_kept_for_what_is_left_of_its_life(world: World) -> None:
    await world.replica().get(KEY)
    world.ticks.now_s += 200
    late = world.replica()
    assert (await late.get(KEY)).text == "t1"
    world.ticks.now_s += 89
    assert (await late.get(KEY)).text == "t1"
    world.ticks.now_s += 2
    assert (await late.get(KEY)).text == "t2"


@pytest.mark.parametrize("later_s", [0, 30, 200])
async def test_a_refused_token_is_asked_for_anew_and_the_new_one_is_told(
    world: World, later_s: float
) -> None:
    one, two, three = world.replica(), world.replica(), world.replica()
    await one.get(KEY)
    token = await two.get(KEY)
    world.ticks.now_s += later_s
    two.drop(KEY, token)
    assert (await two.get(KEY)).text == "t2"
    assert (await three.get(KEY)).text == "t2"
    assert world.endpoint.asked == 2


@pytest.mark.parametrize("behind_s", [-60, 60])
async def test_a_clock_that_is_wrong_never_makes_it_live_longer(
    world: World, behind_s: float
) -> None:
    await world.replica().get(KEY)
    other = world.replica(behind_s=behind_s)
    assert (await other.get(KEY)).text == "t1"
    world.ticks.now_s += 271
    assert (await other.get(KEY)).text == "t2"


async def test_tokens_of_one_upstream_are_never_those_of_another(world: World) -> None:
    await world.replica("up").get(KEY)
    assert (await world.replica("other").get(KEY)).text == "t2"


async def test_a_refusal_is_not_shared(world: World) -> None:
    world.endpoint.refuses = True
    one, two = world.replica(), world.replica()
    with pytest.raises(AccessDenied):
        await one.get(KEY)
    world.endpoint.refuses = False
    assert (await two.get(KEY)).text == "t2"


@pytest.mark.parametrize("nonsense", [b"{", b"[]", b'{"token": 1}', b"\xff"])
async def test_nonsense_in_the_shared_memory_is_passed_over(world: World, nonsense: bytes) -> None:
    class Forged(LocalCoordination):
        async def get(self, key: str) -> bytes | None:
            return nonsense if key.startswith("outcome/token/") else None

    world.coordination = Forged()
    assert (await world.replica().get(KEY)).text == "t1"
