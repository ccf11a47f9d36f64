"""What the absence of Redis costs, and that nothing is left behind or mixed up."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest

from proxy.coordination import redis_client
from proxy.coordination.redis import RedisConfig, RedisCoordination, Timings
from proxy.events import CoordinationAsked
from proxy.ports import Held
from proxy.telemetry import Telemetry
from tests.support.coordination_suite import NAME
from tests.support.processes import free_port
from tests.support.redis_server import RedisCluster, RedisServer
from tests.support.waiting import until
from tests.unit.coordination.conftest import QUICK, NewReplica, Seen

pytestmark = pytest.mark.e2e


def clients(server: RedisServer) -> int:
    """Connections but the one that asks."""
    return len(server.command("CLIENT LIST")) - 1


async def test_a_frozen_redis_costs_half_a_second_once(
    server: RedisServer, replica: NewReplica
) -> None:
    one = await replica("one", timings=Timings())
    await one.put("tag", b"fresh", ttl_s=60)
    server.pause()
    started = time.monotonic()
    assert await one.get("tag") == b"fresh"
    assert time.monotonic() - started <= 3 * Timings().operation_s
    assert not one.up
    took = []
    for number in range(200):
        started = time.monotonic()
        async with one.try_hold(f"{NAME}/{number}") as lease:
            assert not isinstance(lease, Held)
        assert await one.get("tag") == b"fresh"
        took.append(time.monotonic() - started)
        if number % 50 == 49:
            await asyncio.sleep(0.3)  # Let the probe run into the frozen server meanwhile.
    # Claim, value and release together; without a processor for a moment some take longer.
    assert sorted(took)[-10] <= 0.02
    assert max(took) < Timings().operation_s, "nobody waits for the probe"
    server.resume()
    await until(lambda: one.up, "Redis is used again")
    assert await one.get("tag") == b"fresh"


async def test_who_stood_still_itself_asks_again(server: RedisServer, replica: NewReplica) -> None:
    seen = Seen()
    one = await replica("one", seen, timings=Timings())
    await one.put("tag", b"fresh", ttl_s=60)
    server.pause()
    asked = [asyncio.create_task(one.get(f"k{number}")) for number in range(3)]
    link = one._link
    await until(lambda: link._stalls._waiting == len(asked), "they are asked for")
    server.resume()
    time.sleep(0.8)  # As a process does that gets no processor.
    await asyncio.gather(*asked)
    assert one.up
    answers = [event.answered for event in seen.events if isinstance(event, CoordinationAsked)]
    assert all(answers)


async def test_many_who_ask_a_frozen_redis_wait_no_longer_than_one(
    server: RedisServer, replica: NewReplica
) -> None:
    one = await replica("one", timings=Timings())
    server.pause()
    started = time.monotonic()
    assert await asyncio.gather(*(one.get(f"k{n}") for n in range(2000))) == [None] * 2000
    # In turns of a hundred it would be 20 times `operation_s`.
    assert time.monotonic() - started <= 10 * Timings().operation_s


async def test_requests_never_ask_while_redis_is_away(
    server: RedisServer, replica: NewReplica
) -> None:
    seen = Seen()
    one = await replica("one", seen, timings=Timings(retry_s=30, retry_max_s=30))
    server.process.kill()
    await one.get("tag")
    assert not one.up
    del seen.events[:]
    for _ in range(100):
        await one.get("tag")
        await one.put("tag", b"value", ttl_s=60)
    assert not [event for event in seen.events if isinstance(event, CoordinationAsked)]


async def test_it_starts_without_redis_and_uses_it_when_it_comes(tmp_path: Path) -> None:
    server = RedisServer(tmp_path / "late")
    seen = Seen()
    async with RedisCoordination(
        RedisConfig(url=server.url),
        advertise_url="",
        observe=seen.events.append,
        timings=QUICK,
    ) as one:
        assert not one.up
        await one.put("tag", b"value", ttl_s=60)
        assert await one.get("tag") == b"value"
        server.start()
        try:
            await until(lambda: one.up, "Redis is used")
            assert seen.states == ["down", "ok"]
            assert str(server.port) in seen.reasons[0]
        finally:
            server.stop()


async def test_it_can_be_made_where_no_loop_runs() -> None:
    def make() -> RedisCoordination:
        config = RedisConfig(url=f"redis://127.0.0.1:{free_port()}", cluster=True)
        return RedisCoordination(config, advertise_url="", observe=Seen().events.append)

    one = await asyncio.to_thread(make)
    assert await one.get("tag") is None
    await one.aclose()


async def test_a_refusal_is_told_and_survived(server: RedisServer, replica: NewReplica) -> None:
    seen = Seen()
    one = await replica("one", seen)
    used = server.command("INFO", "memory")["used_memory"]
    server.command("CONFIG SET", "maxmemory", used // 2)
    try:
        async with one.try_hold(NAME) as lease:
            assert not isinstance(lease, Held)
        assert not one.up
        assert "maxmemory" in seen.reasons[-1]
    finally:
        server.command("CONFIG SET", "maxmemory", 0)
    await until(lambda: one.up, "Redis is used again")


async def test_replies_stay_with_their_questions_when_requests_are_cancelled(
    replica: NewReplica,
) -> None:
    one = await replica("one", timings=Timings())
    keys = [f"key-{number}" for number in range(20)]
    for key in keys:
        await one.put(key, key.encode(), ttl_s=60)
    for turns in range(30):
        tasks = [asyncio.create_task(one.get(key)) for key in keys]
        for _ in range(turns):
            await asyncio.sleep(0)
        for task in tasks[turns % 3 :: 2]:
            task.cancel()
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        for key, outcome in zip(keys, outcomes, strict=True):
            assert isinstance(outcome, asyncio.CancelledError) or outcome == key.encode()
    assert one.up
    assert [await one.get(key) for key in keys] == [key.encode() for key in keys]


async def test_replies_stay_with_their_questions_after_time_ran_out(
    server: RedisServer, replica: NewReplica
) -> None:
    seen = Seen()
    one = await replica("one", seen)
    for number in range(50):
        server.command("SET", f"entrepot:value:{number}", str(number))
    server.pause()
    await asyncio.gather(*(one.get(str(number)) for number in range(50)))
    server.resume()
    await until(lambda: one.up, "Redis is used again")
    found = await asyncio.gather(*(one.get(str(number)) for number in range(50)))
    assert found == [str(number).encode() for number in range(50)]


async def test_connections_are_bounded(
    server: RedisServer, replica: NewReplica, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A thousand at once may take a busy machine longer than Redis is given.
    monkeypatch.setattr(redis_client, "SOCKET_S", 10)
    one = await replica("one", timings=Timings(operation_s=10))
    assert await asyncio.gather(*(one.get(f"k{n}") for n in range(1000))) == [None] * 1000
    assert one.up
    assert clients(server) <= 32


@pytest.mark.parametrize("frozen", [False, True])
async def test_nothing_is_left_after_the_end(
    server: RedisServer, replica: NewReplica, frozen: bool
) -> None:
    await until(lambda: clients(server) == 0, "former tests' connections are closed")
    before = asyncio.all_tasks()
    one = await replica("one")
    await asyncio.gather(*(one.get(f"k{n}") for n in range(50)))
    assert clients(server) > 0
    if frozen:
        server.pause()
        asking = asyncio.create_task(one.get("tag"))
        await asyncio.sleep(0)
    await one.aclose()
    if frozen:
        assert await asking is None
        server.resume()
    assert asyncio.all_tasks() == before
    await until(lambda: clients(server) == 0, "no connection is left")


async def test_nothing_is_left_of_a_cluster_that_failed(
    tmp_path: Path, replica: NewReplica
) -> None:
    cluster = RedisCluster(tmp_path / "cluster")
    with cluster.running():
        before = asyncio.all_tasks()
        seen = Seen()
        one = await replica("one", seen, config=RedisConfig(url=cluster.url, cluster=True))
        assert one.up, seen.reasons
        await asyncio.gather(*(one.get(f"k{n}") for n in range(50)))
        cluster.servers[2].pause()
        await asyncio.gather(*(one.get(f"k{n}") for n in range(50)))
        assert not one.up
        cluster.servers[2].resume()
        await until(lambda: one.up, "the Cluster is used again")
        cluster.servers[1].process.kill()
        await asyncio.gather(*(one.get(f"k{n}") for n in range(50)))
        assert not one.up
        await one.aclose()
        await until(lambda: asyncio.all_tasks() == before, "no task is left")
        for server in (cluster.servers[0], cluster.servers[2]):
            await until(lambda server=server: clients(server) == 0, "no connection is left")


async def test_the_metrics_tell(server: RedisServer, replica: NewReplica) -> None:
    telemetry = Telemetry()
    assert b"entrepot_coordination_up 1.0" in telemetry.render()
    seen = Seen()
    one = await replica("one", seen)
    async with one.try_hold(NAME), one.try_hold(NAME):
        pass
    server.process.kill()
    await one.get("tag")
    for event in seen.events:
        telemetry.observe(event)
    text = telemetry.render().decode()
    assert "entrepot_coordination_up 0.0" in text
    assert 'entrepot_leases_total{outcome="held"} 1.0' in text
    assert 'entrepot_leases_total{outcome="busy"} 1.0' in text
    assert 'entrepot_coordination_failures_total{operation="get"} 1.0' in text
    assert 'entrepot_coordination_seconds_count{operation="claim"} 1.0' in text
