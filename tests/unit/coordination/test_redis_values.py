"""Shared values and uses of blobs, while Redis comes and goes."""

from __future__ import annotations

import time

import pytest

from proxy.coordination.redis import RedisConfig, Timings
from proxy.coordination.redis_client import new_client
from proxy.coordination.redis_link import Link
from proxy.coordination.redis_uses import THROTTLE_S, Uses
from proxy.oci.digest import Digest
from proxy.ports import PUBLIC, BlobKey, Held
from tests.support.coordination_suite import KEY, NAME
from tests.support.redis_server import RedisServer
from tests.support.waiting import until
from tests.unit.coordination.conftest import NewReplica, Seen

pytestmark = pytest.mark.e2e

USED = f"entrepot:used:{PUBLIC}"


def blob(number: int, group: str = PUBLIC) -> BlobKey:
    return BlobKey(group, Digest.of(str(number).encode()))


def score(server: RedisServer, key: BlobKey = KEY) -> float | None:
    found = server.command("ZSCORE", f"entrepot:used:{key.group}", str(key.digest))
    return None if found is None else float(found)


async def test_what_a_replica_said_it_knows_while_redis_is_away(
    server: RedisServer, replica: NewReplica
) -> None:
    one = await replica("one")
    await one.put("before", b"1", ttl_s=60)
    server.process.kill()
    assert await one.get("before") == b"1"
    await one.put("meanwhile", b"2", ttl_s=60)
    assert await one.get("meanwhile") == b"2"
    await one.delete("before")
    assert await one.get("before") is None


async def test_what_was_said_meanwhile_redis_hears_later(
    server: RedisServer, replica: NewReplica
) -> None:
    one, other = await replica("one"), await replica("other")
    await other.put("old", b"1", ttl_s=60)
    await other.put("gone", b"1", ttl_s=60)
    server.pause()
    await one.put("old", b"2", ttl_s=60)
    await one.delete("gone")
    server.resume()
    await until(lambda: one.up and other.up, "Redis is used again")
    assert await one.get("old") == b"2"
    assert await one.get("gone") is None
    assert await other.get("old") == b"2"
    assert await other.get("gone") is None
    assert 0 < server.command("PTTL", "entrepot:value:old") <= 60_000


async def test_what_redis_forgot_is_forgotten_while_it_answers(
    server: RedisServer, replica: NewReplica
) -> None:
    one = await replica("one")
    await one.put("tag", b"1", ttl_s=60)
    server.command("FLUSHALL")
    assert await one.get("tag") is None
    server.process.kill()
    assert await one.get("tag") is None


async def test_uses_are_told_in_batches(server: RedisServer, replica: NewReplica) -> None:
    one, other = await replica("one", clock=lambda: 1000.0), await replica("other")
    keys = [blob(number, group) for number in range(1200) for group in (PUBLIC, "ghcr.io")]
    for key in keys:
        one.touch(key)
    await until(lambda: server.command("ZCARD", USED) == 1200, "all are told")
    await until(lambda: server.command("ZCARD", "entrepot:used:ghcr.io") == 1200, "all are told")
    unknown = blob(-1)
    assert await other.last_used([unknown, *keys, unknown]) == [None, *[1000.0] * 2400, None]


async def test_a_use_is_told_once_an_hour(server: RedisServer, replica: NewReplica) -> None:
    now = [0.0]
    one = await replica("one", clock=lambda: 1000.0 + now[0], monotonic=lambda: now[0])
    one.touch(KEY)
    await until(lambda: score(server) == 1000.0, "the first one is told")
    now[0] = THROTTLE_S - 1
    one.touch(KEY)
    assert await one.last_used([KEY]) == [1000.0]
    now[0] = THROTTLE_S
    one.touch(KEY)
    await until(lambda: score(server) == 1000.0 + THROTTLE_S, "the next one is told")


async def test_uses_wait_for_redis(server: RedisServer, replica: NewReplica) -> None:
    server.process.kill()
    one = await replica("one", clock=lambda: 1000.0)
    one.touch(KEY)
    assert await one.last_used([KEY, blob(1)]) == [1000.0, None]
    server.start()
    await until(lambda: score(server) == 1000.0, "it is told")


async def test_uses_are_told_at_the_end(server: RedisServer, replica: NewReplica) -> None:
    one = await replica("one", timings=Timings(), clock=lambda: 1000.0)
    one.touch(KEY)
    await one.aclose()
    assert score(server) == 1000.0


async def test_only_the_latest_uses_are_kept(server: RedisServer) -> None:
    link = Link(
        new_client(RedisConfig(url=server.url)),
        probe_key="entrepot:probe",
        observe=Seen().events.append,
        timings=Timings(),
        monotonic=time.monotonic,
    )
    await link.start()
    at = iter(range(100))
    uses = Uses(
        link,
        prefix="entrepot",
        flush_s=60,
        clock=lambda: float(next(at)),
        monotonic=time.monotonic,
        uses_max=10,
    )
    keys = [blob(number) for number in range(30)]
    for key in keys:
        uses.touch(key)
    await uses.flush()
    expected = [None] * 20 + [float(number) for number in range(20, 30)]
    assert await uses.last_used(keys) == expected
    await link.aclose()


async def test_a_wall_clock_that_is_off_harms_nothing(
    server: RedisServer, replica: NewReplica
) -> None:
    right = time.time()
    one = await replica("one", clock=lambda: right)
    late = await replica("late", clock=lambda: right - 30)
    async with late.try_hold(NAME), one.try_hold(NAME) as held:
        assert isinstance(held, Held)
    async with one.try_hold(NAME), late.try_hold(NAME) as held:
        assert isinstance(held, Held)
    await late.put("tag", b"1", ttl_s=5)
    assert await one.get("tag") == b"1"
    await one.put("tag", b"2", ttl_s=5)
    assert await late.get("tag") == b"2"
    late.touch(KEY)
    await until(lambda: score(server) is not None, "the late one's use is told")
    assert await one.last_used([KEY]) == [pytest.approx(right - 30)]
    one.touch(KEY)
    await until(lambda: score(server) == pytest.approx(right), "the latest counts")
    late.touch(blob(1))
    await until(lambda: score(server, blob(1)) is not None, "one more flush of the late one")
    assert score(server) == pytest.approx(right)
