"""The network between replicas is cut while one of them fetches for all.

Silently, with real networks where this machine lets us make some; and with the
connections refused, as by a firewall. Redis, S3 and the upstream stay within
reach, except that one of the two owners loses Redis as well.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import pytest

from tests.cluster import namespaces
from tests.cluster.conftest import Cluster, layer, right
from tests.cluster.relay import Relay, relay_to
from tests.support.fake_registry import Fault
from tests.support.images import image
from tests.support.processes import free_port
from tests.support.waiting import until

SIZE = 24_000_000
CUT_AT = SIZE // 4  # where the owners are when it happens
OWNER, OTHERS, LONELY = 0, (1, 2), 3


class Lines:
    """The connections of four replicas: to each other, and of the last one to Redis."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.network: namespaces.Network | None = None
        self.peers: list[Relay] = []
        self.redis: Relay | None = None

    async def cut(self, *, silently: bool) -> None:
        """Both owners are alone, the last one without Redis, too."""
        assert self.redis is not None
        self.redis.flows.clear()
        for owner in (OWNER, LONELY):
            if self.network is not None:
                for other in (*OTHERS, OWNER + LONELY - owner):
                    await asyncio.to_thread(self.network.cut, owner, other)
            elif silently:
                self.peers[owner].flows.clear()
            else:
                await self.peers[owner].cut()


@asynccontextmanager
async def with_networks(cluster: Cluster) -> AsyncIterator[Lines]:
    """Replicas in namespaces, which reach what is here through relays at the switch."""
    lines = Lines(cluster)
    network = lines.network = namespaces.Network(cluster.folder / "network", 4)
    async with AsyncExitStack() as stack:
        stack.enter_context(network.up())

        async def reached(port: int) -> Relay:
            return await stack.enter_async_context(relay_to(port, host=network.hub))

        upstream = await reached(int(cluster.upstream.url.rpartition(":")[2]))
        s3 = await reached(cluster.s3.port)
        redis, lines.redis = [await reached(cluster.redis.port) for _ in range(2)]
        for number, address in enumerate(network.addresses):
            await cluster.start(
                1,
                lab={"url": upstream.url},
                host=address,
                within=network.within(number),
                storage={"s3": cluster.s3.settings(prefix=cluster.folder.name, endpoint=s3.url)},
                redis={"url": f"redis://{(lines.redis if number == LONELY else redis).address}"},
            )
        yield lines
        await cluster.each(*(replica.kill for replica in cluster.replicas))


@asynccontextmanager
async def with_relays(cluster: Cluster) -> AsyncIterator[Lines]:
    """Replicas on this machine's loopback, which reach each other through relays."""
    lines = Lines(cluster)
    async with AsyncExitStack() as stack:
        lines.redis = await stack.enter_async_context(relay_to(cluster.redis.port))
        for number in range(4):
            listen = f"127.0.0.1:{free_port()}"
            relay = await stack.enter_async_context(relay_to(int(listen.rpartition(":")[2])))
            lines.peers.append(relay)
            redis = lines.redis.address if number == LONELY else cluster.redis.address
            await cluster.start(
                1,
                peer_listen=listen,
                advertise_url=relay.url,
                redis={"url": f"redis://{redis}"},
            )
            cluster.peers[number] = relay.url
        yield lines
        await cluster.each(*(replica.kill for replica in cluster.replicas))


@pytest.mark.parametrize("how", ["silently", "refused"])
async def test_replicas_cut_off_from_the_one_that_fetches_finish_without_it(
    cluster: Cluster, how: str
) -> None:
    silently = how == "silently"
    real = silently and not namespaces.refusal()
    async with (with_networks if real else with_relays)(cluster) as lines:
        made = cluster.upstream.add("app", image(SIZE, SIZE + 1), "v1")
        again = asyncio.Event()
        own, elsewhere = [], []
        for number, owner in enumerate((OWNER, LONELY)):
            # The owners get no further than this until the others have finished.
            held = Fault(stall_at=CUT_AT, stall=again)
            cluster.upstream.inject(held, kind="blob", method="GET")
            own.append(cluster.pulls(layer(number, made), owner))
            assert await cluster.owned(made.layers[number]) == owner
            elsewhere.append(cluster.pulls(layer(number, made), *OTHERS, *OTHERS))
        await cluster.following(4 * len(OTHERS), *OTHERS)
        await until(lambda: cluster.fetched() >= 2 * CUT_AT, "the owners have begun")
        await lines.cut(silently=silently)
        for blob, pulls in zip(made.layers, elsewhere, strict=True):
            gots = await asyncio.gather(*pulls)
            right(blob, *gots)
            assert {got.resumes for got in gots} == {0}
        again.set()
        for blob, pulls in zip(made.layers, own, strict=True):
            right(blob, *await asyncio.gather(*pulls))
            # Once by the owner, who goes on; and by one of the others, whom the rest
            # follows, or by each where the owner goes on renewing its claim.
            assert cluster.fetched(blob) <= blob.size * (1 + (len(OTHERS) if silently else 1))
