"""What replicas say to each other: only to those who know the secret, and never a must."""

from __future__ import annotations

import asyncio
import time

import pytest

from proxy.cache import peering
from proxy.ports import PUBLIC, BlobKey
from proxy.upstream.peer import HttpPeers
from tests.cluster.conftest import SECRET, Cluster, Got, layer
from tests.support.fake_registry import Fault
from tests.support.images import Content, image
from tests.support.processes import free_port

SIZE = 12_000_000


def right(content: Content, *gots: Got) -> None:
    """All bytes, none but those, and nothing was noticed."""
    for got in gots:
        assert (got.error, got.resumes, got.sha256) == ("", 0, str(content.digest)), got


async def say(cluster: Cluster, target: str, signature: str, method: str = "GET") -> int:
    """The status of what the first replica answers at its peer listener."""
    headers = {"Authorization": signature} if signature else {}
    async with cluster.client.request(
        method, cluster.peers[0] + target, headers=headers
    ) as response:
        return response.status


async def test_only_fresh_requests_signed_with_the_secret_are_answered(cluster: Cluster) -> None:
    made = cluster.upstream.add("app", image(SIZE), "v1")
    await cluster.start(1)
    right(made.layers[0], await cluster.pull(0, layer(0, made)))
    key = BlobKey(PUBLIC, made.layers[0].digest)
    target, secret, now = peering.target(key, 0), SECRET.encode(), time.time()
    good = peering.sign(secret, "GET", target, now=now)
    assert await say(cluster, target, good) == 200
    for clock in (now - 55, now + 55):
        assert await say(cluster, target, peering.sign(secret, "GET", target, now=clock)) == 200
    refused = {
        "unsigned": (target, ""),
        "nonsense": (target, "Entrepot-1 time=1 nonce=2 mac=3"),
        "another secret": (target, peering.sign(b"guessed", "GET", target, now=now)),
        "too old": (target, peering.sign(secret, "GET", target, now=now - 65)),
        "from the future": (target, peering.sign(secret, "GET", target, now=now + 65)),
        "of another target": (peering.target(key, 1), good),
        "of another method": (target, peering.sign(secret, "HEAD", target, now=now)),
    }
    for why, (asked, signature) in refused.items():
        assert await say(cluster, asked, signature) == 403, why
    for odd in ("/peer/v1/other", "/peer/v2/ping", "/v2/", f"/peer/v1/blobs/../x/{key.digest}"):
        signature = peering.sign(secret, "GET", odd, now=now)
        assert await say(cluster, odd, signature) in {400, 403}, odd


async def test_a_replica_gives_what_it_has_from_any_offset_and_never_fetches_for_another(
    cluster: Cluster,
) -> None:
    made = cluster.upstream.add("app", image(SIZE, 5_000), "v1")
    blob = made.layers[0]
    await cluster.start(1)
    right(blob, await cluster.pull(0, layer(0, made)))
    before = len(cluster.upstream.seen)
    # A clock that is half a minute off does not matter.
    peers = HttpPeers(SECRET.encode(), clock=lambda: time.time() - 30)
    try:
        for start in (0, 1, SIZE // 2, SIZE):
            async with peers.open_blob(
                cluster.peers[0], BlobKey(PUBLIC, blob.digest), start=start
            ) as body:
                assert body is not None
                assert (body.size, body.offset) == (SIZE, start)
                assert b"".join([c async for c in body.chunks]) == blob.body[start:]
        unfetched = BlobKey(PUBLIC, made.layers[1].digest)
        for key in (unfetched, BlobKey("another-group", blob.digest)):
            async with peers.open_blob(cluster.peers[0], key, start=0) as body:
                assert body is None
    finally:
        await peers.aclose()
    assert len(cluster.upstream.seen) == before


@pytest.mark.parametrize("how", ["refused", "blackhole", "wrong secret"])
async def test_replicas_that_cannot_reach_each_other_fetch_once_each(
    cluster: Cluster, how: str
) -> None:
    made = cluster.upstream.add("app", image(SIZE), "v1")
    blob = made.layers[0]
    slow = Fault(rate_bytes_s=SIZE / 4)
    cluster.upstream.inject(slow, kind="blob", method="GET", times=None)

    async def nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    hole = await asyncio.start_server(nothing, "127.0.0.1", 0)
    try:
        port = free_port() if how == "refused" else hole.sockets[0].getsockname()[1]
        for number in range(3):
            match how:
                case "wrong secret":
                    await cluster.start(1, peer_secret=f"the secret of {number} and of nobody else")
                case _:
                    # They would have different addresses, hence the different paths.
                    advertised = f"http://127.0.0.1:{port}/{number}"
                    await cluster.start(1, advertise_url=advertised)
        gots = await asyncio.gather(*cluster.pulls(layer(0, made), 0, 0, 1, 1, 2, 2))
    finally:
        hole.close()
    right(blob, *gots)
    assert cluster.fetched() <= 3 * SIZE
