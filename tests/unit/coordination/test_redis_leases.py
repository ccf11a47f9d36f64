"""Claims in a real Redis that forgets, freezes and dies; and owners that do."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from proxy.coordination.redis import RedisConfig
from proxy.ports import Held, Lease
from tests.support.coordination_suite import NAME
from tests.support.redis_server import MASTER, RedisServer, SentinelGroup
from tests.support.waiting import until
from tests.unit.coordination.conftest import QUICK, NewReplica, Seen

pytestmark = pytest.mark.e2e

KEY = f"entrepot:lease:{NAME}"

# A replica that holds a claim and works, until it finds the claim lost.
HOLDER = f"""
import asyncio, sys
from proxy.coordination.redis import RedisConfig, RedisCoordination, Timings
from proxy.logs import configure

configure("console", "error")

async def main():
    config = RedisConfig(url=sys.argv[1])
    timings = Timings(lease_s=0.4, renew_s=0.1)
    async with RedisCoordination(
        config, advertise_url="http://holder.test", observe=lambda event: None, timings=timings
    ) as coordination:
        async with coordination.try_hold({NAME!r}) as lease:
            print("held", flush=True)
            while not lease.lost:
                lease.progress()
                await asyncio.sleep(0.02)
            print("lost", flush=True)

asyncio.run(main())
"""


def claim_in(server: RedisServer) -> dict[str, Any] | None:
    found = server.command("GET", KEY)
    return None if found is None else json.loads(found)


def gone(server: RedisServer) -> bool:
    return claim_in(server) is None


@asynccontextmanager
async def working(lease: Lease) -> AsyncIterator[None]:
    """What the claim is for gets on."""

    async def go_on() -> None:
        while True:
            lease.progress()
            await asyncio.sleep(0.02)

    task = asyncio.create_task(go_on())
    try:
        yield
    finally:
        task.cancel()


async def test_a_claim_says_who_has_it_and_ends_by_itself(
    server: RedisServer, replica: NewReplica
) -> None:
    one, other = await replica("one"), await replica("other")
    async with one.try_hold(NAME), other.try_hold(NAME) as held:
        assert isinstance(held, Held)
        assert held.owner == "http://one.test"
        assert claim_in(server) == {"owner": held.owner, "token": held.token}
        assert 0 < server.command("PTTL", KEY) <= QUICK.lease_s * 1000
    assert gone(server)


async def test_of_twenty_replicas_one_holds(replica: NewReplica, stack: AsyncExitStack) -> None:
    replicas = await asyncio.gather(*(replica(f"r{number}") for number in range(20)))
    claims = await asyncio.gather(
        *(stack.enter_async_context(one.try_hold(NAME)) for one in replicas)
    )
    owners = {claim.owner for claim in claims if isinstance(claim, Held)}
    assert len(owners) == 1
    assert sum(not isinstance(claim, Held) for claim in claims) == 1


async def test_a_claim_is_renewed_while_its_work_moves(
    server: RedisServer, replica: NewReplica
) -> None:
    one = await replica("one")
    async with one.try_hold(NAME) as lease:
        first = claim_in(server)
        end = time.monotonic() + 2.5 * QUICK.lease_s
        while time.monotonic() < end:
            lease.progress()
            assert claim_in(server) == first
            await asyncio.sleep(0.02)
        assert not lease.lost


async def test_a_claim_whose_work_stands_still_runs_out_although_we_live(
    server: RedisServer, replica: NewReplica
) -> None:
    seen = Seen()
    one, other = await replica("one", seen), await replica("other")
    async with one.try_hold(NAME) as lease:
        await until(lambda: gone(server), "the claim ran out")
        await until(lambda: lease.lost, "its owner knows")
        async with other.try_hold(NAME) as second:
            assert not isinstance(second, Held)
            lease.progress()  # Too late, and no harm.
            await asyncio.sleep(0)
            assert not second.lost
    assert seen.leases == ["held", "lost"]


async def test_a_paused_owner_loses_its_claim_and_learns_of_it(
    server: RedisServer, replica: NewReplica
) -> None:
    other = await replica("other")
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, server.url],
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[3],
    )
    try:
        assert holder.stdout is not None
        assert await asyncio.to_thread(holder.stdout.readline) == "held\n"
        async with other.try_hold(NAME) as claim:
            assert isinstance(claim, Held)
        os.kill(holder.pid, signal.SIGSTOP)
        await until(lambda: gone(server), "the paused owner's claim ran out")
        async with other.try_hold(NAME) as lease:
            assert not isinstance(lease, Held)
            ours = claim_in(server)
            os.kill(holder.pid, signal.SIGCONT)
            async with working(lease):
                assert await asyncio.to_thread(holder.stdout.readline) == "lost\n"
                assert await asyncio.to_thread(holder.wait, 10) == 0
                # It has given back what it thought it had; ours is still ours.
                assert claim_in(server) == ours
                assert not lease.lost
    finally:
        holder.kill()
        holder.wait()
        assert holder.stdout is not None
        holder.stdout.close()


async def test_giving_back_never_frees_anothers_claim(
    server: RedisServer, replica: NewReplica
) -> None:
    one = await replica("one")
    anothers = json.dumps({"owner": "http://another.test", "token": "another"})
    async with one.try_hold(NAME):
        server.command("SET", KEY, anothers)
    assert claim_in(server) == json.loads(anothers)


async def test_of_several_who_take_over_a_dead_owners_claim_one_succeeds(
    server: RedisServer, replica: NewReplica, stack: AsyncExitStack
) -> None:
    dead = Held("http://dead.test", "dead")
    server.command("SET", KEY, json.dumps({"owner": dead.owner, "token": dead.token}))
    seen = Seen()
    replicas = [await replica(f"r{number}", seen) for number in range(5)]
    claims = await asyncio.gather(
        *(stack.enter_async_context(one.try_hold(NAME, instead_of=dead)) for one in replicas)
    )
    assert sum(not isinstance(claim, Held) for claim in claims) == 1
    assert sorted(seen.leases) == ["busy"] * 4 + ["taken"]


async def test_a_restarted_replica_takes_its_own_old_claim_at_once(
    server: RedisServer, replica: NewReplica
) -> None:
    server.command("SET", KEY, json.dumps({"owner": "http://one.test", "token": "before.7"}))
    one = await replica("one")
    async with one.try_hold(NAME) as lease:
        assert not isinstance(lease, Held)


async def test_a_claim_of_this_process_has_no_owner_to_be_asked(replica: NewReplica) -> None:
    one = await replica("one")
    async with one.try_hold(NAME), one.try_hold(NAME) as held:
        assert isinstance(held, Held)
        assert held.owner == ""


@pytest.mark.parametrize("rubbish", ["", "rubbish", "7", '{"token": 7}', b"\xff"])
async def test_rubbish_is_no_claim(
    server: RedisServer, replica: NewReplica, rubbish: str | bytes
) -> None:
    server.command("SET", KEY, rubbish)
    one = await replica("one")
    async with one.try_hold(NAME) as lease:
        assert not isinstance(lease, Held)
    assert gone(server)


async def test_a_token_that_is_no_text_is_somebodys_claim(
    server: RedisServer, replica: NewReplica
) -> None:
    server.command("SET", KEY, b'{"token": "\xff"}')
    one = await replica("one")
    async with one.try_hold(NAME) as held:
        assert isinstance(held, Held)


async def test_a_forgotten_claim_comes_back_with_its_work(
    server: RedisServer, replica: NewReplica
) -> None:
    one = await replica("one")
    async with one.try_hold(NAME) as lease:
        first = claim_in(server)
        server.command("FLUSHALL")
        lease.progress()
        await until(lambda: claim_in(server) == first, "the claim came back")
        assert not lease.lost


async def test_a_forgotten_claim_that_another_took_is_lost(
    server: RedisServer, replica: NewReplica
) -> None:
    one, other = await replica("one"), await replica("other")
    async with one.try_hold(NAME) as lease:
        server.command("FLUSHALL")
        async with other.try_hold(NAME) as second:
            assert not isinstance(second, Held)
            async with working(lease), working(second):
                await until(lambda: lease.lost, "the first one knows that it has lost it")
            assert not second.lost
            async with one.try_hold(NAME) as held:
                assert isinstance(held, Held)
                assert held.owner == "http://other.test"


async def test_a_claim_outlives_a_killed_redis(server: RedisServer, replica: NewReplica) -> None:
    seen = Seen()
    one, other = await replica("one", seen), await replica("other")
    async with one.try_hold(NAME) as lease:
        first = claim_in(server)
        server.process.kill()
        await until(lambda: not one.up, "it is known that Redis is gone")
        async with one.try_hold(NAME) as held:
            assert isinstance(held, Held)  # Inside one replica it still holds.
        server.start()
        await until(lambda: one.up and other.up, "Redis is used again")
        lease.progress()
        await until(lambda: claim_in(server) == first, "the claim came back")
        async with other.try_hold(NAME) as held:
            assert isinstance(held, Held)
        assert not lease.lost
    assert gone(server)
    assert seen.states == ["ok", "down", "ok"]


async def test_a_claim_made_while_redis_was_away_is_told_to_it(
    server: RedisServer, replica: NewReplica
) -> None:
    server.process.kill()
    one = await replica("one")
    async with one.try_hold(NAME) as lease:
        assert not isinstance(lease, Held)
        server.start()
        await until(lambda: not gone(server), "the claim is in Redis")
        assert not lease.lost


async def test_a_claim_outlives_a_failover(tmp_path: Path, replica: NewReplica) -> None:
    group = SentinelGroup(tmp_path / "group", password="guards")
    config = RedisConfig(
        url="redis://",
        sentinels=tuple(one.address for one in group.sentinels),
        sentinel_master=MASTER,
        sentinel_password="guards",
    )
    with group.running():
        one, other = await replica("one", config=config), await replica("other", config=config)
        async with one.try_hold(NAME) as lease:
            first = claim_in(group.master())
            assert first is not None
            async with working(lease):
                master = await asyncio.to_thread(group.fail_over)
                await until(lambda: one.up and other.up, "the new master is used")
                await until(lambda: claim_in(master) == first, "the claim is there")
                async with other.try_hold(NAME) as held:
                    assert isinstance(held, Held)
                assert not lease.lost
        await one.aclose()
        await other.aclose()


async def test_what_is_still_held_at_the_end_is_given_back(
    server: RedisServer, replica: NewReplica
) -> None:
    one = await replica("one")
    async with one.try_hold(NAME):
        await one.aclose()
        assert gone(server)


async def test_who_gives_up_while_asking_leaves_no_claim(
    server: RedisServer, replica: NewReplica
) -> None:
    one = await replica("one")
    for turns in range(12):

        async def work() -> None:
            async with one.try_hold(NAME):
                await asyncio.Event().wait()

        task = asyncio.create_task(work())
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await until(lambda: gone(server), "nothing is held")
