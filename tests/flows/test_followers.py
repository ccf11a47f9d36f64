"""Those who read a fill in progress: nobody's leaving or slowness is felt by
anybody else, and everybody gets the right bytes or is cut.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl

import aiohttp
import pytest

from tests.flows.conftest import World
from tests.flows.layers import (
    MIB,
    add_layer,
    add_stalled_layer,
    path_of,
    raw_get,
    read_until_closed,
    until_landed,
)
from tests.support.fake_registry import FakeRegistry, Fault
from tests.support.private_ca import issue
from tests.support.waiting import until

SIZE = 3_000_000
LARGE = 24 * MIB
HALF = SIZE // 2


async def test_followers_finish_when_the_client_that_started_the_fill_leaves(
    world: World, upstream: FakeRegistry
) -> None:
    blob, held = add_stalled_layer(upstream, SIZE, at=HALF)
    proxy = await world.start({"lab": upstream})
    async with proxy.client.get(proxy.url + path_of(blob)) as leader:
        await leader.content.readexactly(HALF)
        followers = [asyncio.create_task(proxy.ask(path_of(blob))) for _ in range(5)]

        async def joined() -> bool:
            return await proxy.metric("entrepot_joins_total") >= 5

        await until(joined, "all of them follow")
        leader.close()
    held.set()
    for answer in await asyncio.gather(*followers):
        assert (answer.status, answer.cut, answer.body) == (200, False, blob.body)
    assert upstream.count(kind="blob") == 1


async def test_the_fill_goes_on_when_all_clients_have_left_and_the_next_one_hits(
    world: World, upstream: FakeRegistry
) -> None:
    blob, held = add_stalled_layer(upstream, SIZE, at=HALF)
    proxy = await world.start({"lab": upstream})
    async with contextlib.AsyncExitStack() as clients:
        for _ in range(3):
            response = await clients.enter_async_context(
                proxy.client.get(proxy.url + path_of(blob))
            )
            await response.content.readexactly(1000)
            response.close()
    held.set()
    await until_landed(proxy)
    answer = await proxy.ask(path_of(blob))
    assert (answer.status, answer.body) == (200, blob.body)
    assert upstream.count(kind="blob") == 1


async def test_a_slow_follower_delays_nobody_and_is_cut_when_it_stops_taking(
    world: World, upstream: FakeRegistry
) -> None:
    blob = add_layer(upstream, LARGE)
    proxy = await world.start({"lab": upstream}, send_stall_s=0.5)
    slow = await raw_get(proxy, path_of(blob), receive_bytes=4096)
    with contextlib.closing(slow):
        async with asyncio.timeout(10):
            for answer in await asyncio.gather(*(proxy.ask(path_of(blob)) for _ in range(4))):
                assert (answer.status, answer.cut) == (200, False)
                assert answer.body == blob.body
            await until(lambda: proxy.metric("entrepot_cut_responses_total"), "it is cut")
            received = await read_until_closed(slow)
    head, _, body = received.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 ")
    assert blob.body.startswith(body)
    assert len(body) < LARGE
    assert upstream.count(kind="blob") == 1


async def test_a_slow_reader_that_keeps_taking_is_not_cut(
    world: World, upstream: FakeRegistry
) -> None:
    blob = add_layer(upstream, SIZE)
    proxy = await world.start({"lab": upstream}, send_stall_s=1)
    await proxy.ask(path_of(blob))
    slow = await raw_get(proxy, path_of(blob), receive_bytes=64 * 1024)
    received, loop = bytearray(), asyncio.get_running_loop()
    with contextlib.closing(slow):
        async with asyncio.timeout(20):
            # Longer in all than the stall limit, but never still for so long.
            while len(received.partition(b"\r\n\r\n")[2]) < SIZE:
                received += await loop.sock_recv(slow, 50_000)
                await asyncio.sleep(0.03)
    assert received.partition(b"\r\n\r\n")[2] == blob.body


async def test_nothing_follows_a_cut_body_on_its_connection(
    world: World, upstream: FakeRegistry
) -> None:
    blob = add_layer(upstream, SIZE)
    upstream.inject(Fault(flip_at=SIZE - 1), kind="blob", method="GET", times=None)
    proxy = await world.start({"lab": upstream})
    connection = await raw_get(proxy, path_of(blob))
    with contextlib.closing(connection), contextlib.suppress(ConnectionError):
        # Pipelined: were the connection kept, its answer would land in the body.
        await asyncio.get_running_loop().sock_sendall(
            connection, b"GET /v2/ HTTP/1.1\r\nHost: x\r\n\r\n"
        )
        received = await asyncio.wait_for(read_until_closed(connection), 10)
        head, _, body = received.partition(b"\r\n\r\n")
        assert f"Content-Length: {SIZE}".encode() in head
        assert received.count(b"HTTP/1.1 ") == 1
        assert len(body) < SIZE
        assert blob.body.startswith(body)


@pytest.mark.parametrize("secure", [False, True])
async def test_followers_at_all_offsets_of_one_growing_spool_get_the_right_bytes(
    world: World, upstream: FakeRegistry, secure: bool
) -> None:
    blob = add_layer(upstream, LARGE)
    upstream.inject(Fault(rate_bytes_s=60_000_000), kind="blob", method="GET", times=None)
    settings: dict[str, str] = {}
    tls: ssl.SSLContext | bool = True
    if secure:
        made = issue(world.root / "tls")
        settings = {"tls_cert_file": str(made.cert), "tls_key_file": str(made.key)}
        tls = ssl.create_default_context(cafile=str(made.ca))
    proxy = await world.start({"lab": upstream}, **settings)
    url = f"{'https' if secure else 'http'}://{proxy.entrepot.address}{path_of(blob)}"

    async def pull(start: int) -> None:
        headers = {"Range": f"bytes={start}-"} if start else {}
        async with client.get(url, headers=headers, ssl=tls) as response:
            assert response.status == (206 if start else 200)
            assert await response.content.read() == blob.body[start:]

    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as client:
        # All but a few within what does not count as "far ahead".
        starts = [0] * 6 + [1 + number * 777_777 for number in range(10)]
        async with asyncio.timeout(30):
            await asyncio.gather(*map(pull, starts))
    whole = [s for s in upstream.requests(kind="blob") if "Range" not in s.headers]
    assert len(whole) == 1
