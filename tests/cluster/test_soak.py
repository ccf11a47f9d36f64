"""Anything may fail at any moment, and the promises hold when all is well again.

What happens, to whom and for how long depends on the seed only
(`SOAK_SEED`; what happened is told when it fails). How long it goes on is
`SOAK_S`: 25 s by default, in which each kind of trouble comes about once.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import random
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, suppress

import pytest

from proxy.config.storage import S3Settings
from proxy.ports import PUBLIC, BlobKey
from proxy.storage.s3.janitor import sweep
from proxy.storage.s3.store import S3Storage
from tests.cluster.conftest import REPLICAS, Cluster, Got
from tests.cluster.relay import Relay, relay_to
from tests.support.fake_registry import Fault
from tests.support.images import Content, image
from tests.support.processes import free_port
from tests.support.waiting import until

SOAK_S = float(os.environ.get("SOAK_S", "25"))
SEED = int(os.environ.get("SOAK_SEED", "1"))
CLIENTS = 6
IMAGES = 12
SIZES = (2_000, 300_000, 9_000_000, 20_000_000)
SPOILED = 3
"""Answers of the upstream that one trouble with it spoils."""
FILES_MAX = 150
"""Open files of a replica that serves nobody."""
WEEK_S = 7 * 86400.0
KINDS = (
    *("kill", "pause", "restart", "upstream", "deaf", "cut off"),
    *("redis dies", "redis forgets", "redis freezes"),
    *("s3 dies", "s3 freezes", "s3 refuses", "s3 is slow"),
)


class Soak:
    """One run: clients pull all the time, one thing at a time is broken and mended."""

    def __init__(self, cluster: Cluster, seed: int, s3: Relay, peers: list[Relay]) -> None:
        self.cluster, self.s3, self.peers = cluster, s3, peers
        self.chance = random.Random(seed)
        self.images = [
            cluster.upstream.add(
                "app", image(*self.chance.sample(SIZES, 3), seed=f"soak-{seed}-{n}"), f"v{n}"
            )
            for n in range(IMAGES)
        ]
        self.over = asyncio.Event()
        self.story: list[str] = []
        self.wrong: list[tuple[str, Got]] = []
        self.completed = 0
        self.spoiled = 0
        self.flipped = 0
        self.deaths = 0
        self._kinds: list[str] = []

    @property
    def blobs(self) -> list[Content]:
        return [blob for made in self.images for blob in made.blobs]

    async def client(self, seed: int) -> None:
        """Pull random images at random replicas; judge what was completed."""
        chance = random.Random(seed)
        while not self.over.is_set():
            number = chance.randrange(IMAGES)
            await self.pull(chance.randrange(REPLICAS), number, tries=3)

    async def pull(self, replica: int, number: int, *, tries: int) -> bool:
        """Whether all of an image came; what came whole but wrong is noted."""
        made = self.images[number]
        wanted: list[tuple[str, Content]] = [(f"manifests/v{number}", made.manifest)]
        wanted += [(f"blobs/{blob.digest}", blob) for blob in made.blobs]
        good = True
        for path, content in wanted:
            got = await self.cluster.pull(
                replica, f"/v2/lab/app/{path}", failover=True, tries=tries, wanted=content
            )
            right = got.sha256 == str(content.digest)
            self.completed += right
            good = good and not got.error and right
            # Who was cut, and puts pieces together, may hold a byte from before it was found
            # out that the upstream lied: it looks at the digest, as this one does.
            lied = got.size == content.size and got.wrong_bytes <= self.flipped
            if not got.error and not right and not (got.resumes and lied):
                self.wrong.append((path, got))
        return good

    def next_trouble(self) -> tuple[str, int, float]:
        """Kind, replica, seconds. Each kind comes before any comes again."""
        if not self._kinds:
            self._kinds = self.chance.sample(KINDS, len(KINDS))
        return self._kinds.pop(), self.chance.randrange(REPLICAS), self.chance.uniform(0.2, 2.0)

    async def trouble(self) -> None:
        """Break something, let it be broken for a while, mend it."""
        kind, number, while_s = self.next_trouble()
        self.story.append(f"{kind} ({number}) for {while_s:.2f} s")
        cluster, replica, peer = self.cluster, self.cluster.replicas[number], self.peers[number]
        match kind:
            case "kill":
                self.deaths += 1
                await asyncio.to_thread(replica.kill)
                await self.pause(while_s)
                await asyncio.to_thread(replica.start)
            case "pause":
                replica.pause()
                await self.pause(while_s)
                replica.resume()
            case "restart":
                self.deaths += 1
                await asyncio.to_thread(replica.restart)
            case "deaf":
                peer.flows.clear()
                await self.pause(while_s)
                peer.flows.set()
            case "cut off":
                await peer.cut()
                await self.pause(while_s)
                await peer.start()
            case "upstream":
                faults = (Fault(reset_at=1_000_000), Fault(flip_at=1_000), Fault(status=503))
                self.spoiled += SPOILED
                fault = self.chance.choice(faults)
                self.flipped += 0 if fault.flip_at is None else SPOILED
                cluster.upstream.inject(fault, kind="blob", method="GET", times=SPOILED)
            case _:
                await self.trouble_beside(kind, while_s)

    async def trouble_beside(self, kind: str, while_s: float) -> None:
        """The same of what the replicas share."""
        cluster = self.cluster
        match kind:
            case "redis dies":
                await asyncio.to_thread(cluster.redis.stop)
                await self.pause(while_s)
                await asyncio.to_thread(cluster.redis.start)
            case "redis forgets":
                cluster.redis.command("FLUSHALL")
            case "redis freezes":
                cluster.redis.pause()
                await self.pause(while_s)
                cluster.redis.resume()
            case "s3 dies":
                await asyncio.to_thread(cluster.s3.kill)
                await self.pause(while_s)
                await asyncio.to_thread(cluster.s3.start)
            case "s3 freezes":
                cluster.s3.pause()
                await self.pause(while_s)
                cluster.s3.resume()
            case "s3 refuses":
                self.s3.refusing = 403
                await self.pause(while_s)
                self.s3.refusing = None
            case "s3 is slow":
                self.s3.rate_bytes_s = 1_000_000
                await self.pause(while_s)
                self.s3.rate_bytes_s = None
            case _:
                raise AssertionError(kind)

    async def pause(self, s: float) -> None:
        with suppress(TimeoutError):
            await asyncio.wait_for(self.over.wait(), s)


@pytest.fixture
async def soak(cluster: Cluster) -> AsyncIterator[Soak]:
    """Three replicas that reach each other and S3 through relays."""
    async with AsyncExitStack() as stack:
        s3 = await stack.enter_async_context(relay_to(cluster.s3.port))
        storage = {"s3": cluster.s3.settings(prefix=cluster.folder.name, endpoint=s3.url)}
        peers: list[Relay] = []
        for number in range(REPLICAS):
            port = free_port()
            peers.append(await stack.enter_async_context(relay_to(port)))
            await cluster.start(
                1,
                storage=storage,
                peer_listen=f"127.0.0.1:{port}",
                advertise_url=peers[number].url,
            )
            cluster.peers[number] = peers[number].url
        yield Soak(cluster, SEED, s3, peers)
        await cluster.each(*(replica.kill for replica in cluster.replicas))


async def test_promises_hold_after_any_sequence_of_troubles(soak: Soak) -> None:
    cluster, told = soak.cluster, (SEED, soak.story)
    loop = asyncio.get_running_loop()
    ends_at = loop.time() + SOAK_S
    clients = [asyncio.create_task(soak.client(SEED * 1000 + n)) for n in range(CLIENTS)]
    while loop.time() < ends_at:
        await soak.trouble()
        await soak.pause(0.5)
    soak.over.set()
    await asyncio.gather(*clients)
    cluster.upstream.heal()
    assert not soak.wrong, (told, soak.wrong)
    assert soak.completed > 0, told

    async def all_pulled() -> bool:
        return all(
            [
                await soak.pull(n, number, tries=4)
                for number in range(IMAGES)
                for n in range(REPLICAS)
            ]
        )

    await until(all_pulled, f"all can be pulled again {told}", deadline_s=90)
    assert not soak.wrong, (told, soak.wrong)
    await cluster.stored()
    # What all have costs nothing any more, and before each replica at worst fetched
    # each blob once: the other replicas, Redis and S3 were away when it was asked.
    fetched = cluster.fetched()
    assert await all_pulled(), told
    assert cluster.fetched() == fetched, told
    size = sum(blob.size for blob in soak.blobs)
    again = soak.spoiled * max(SIZES) + soak.deaths * max(SIZES)
    assert fetched <= REPLICAS * size + again, (told, fetched / size)
    await nothing_left(soak)
    await all_stored(soak)


async def nothing_left(soak: Soak) -> None:
    """No claims, debts, reservations, files or connections; half a spool that can be
    resumed may stay.
    """
    cluster, told = soak.cluster, (SEED, soak.story)

    async def quiet() -> bool:
        claims = cluster.redis.command("KEYS", "entrepot:lease:blob/*")
        owed = [p for r in cluster.replicas for p in (r.data_dir / "pending").rglob("*")]
        gauges = [
            await cluster.metric(number, f"entrepot_{name} ")
            for number in range(REPLICAS)
            for name in ("flights_in_progress", "followers", "disk_reserved_bytes")
        ]
        files = [len(os.listdir(f"/proc/{replica.pid}/fd")) for replica in cluster.replicas]
        return (
            not claims
            and not any(path.is_file() for path in owed)
            and not any(gauges)
            and max(files) <= FILES_MAX
        )

    await until(quiet, f"no claims, nothing owed, nothing held {told}", deadline_s=90)
    for replica in cluster.replicas:
        left = {path.name for path in (replica.data_dir / "spool").rglob("*") if path.is_file()}
        assert all(f"{name}.journal" in left for name in left if not name.endswith(".journal"))
        assert not any("Traceback" in line for line in replica.log_text().splitlines()), told


async def all_stored(soak: Soak) -> None:
    """Each blob is in S3 as it should be, and of uploads nothing else."""
    cluster, told = soak.cluster, (SEED, soak.story)
    settings = S3Settings(**cluster.s3.settings(prefix=cluster.folder.name))
    async with S3Storage(settings, observe=lambda _event: None) as s3:
        contents = [*soak.blobs, *(made.manifest for made in soak.images)]
        for content in contents:
            async with s3.blobs.open(BlobKey(PUBLIC, content.digest)) as body:
                assert body is not None, (told, content.digest)
                found = hashlib.sha256()
                async for chunk in body.chunks:
                    found.update(chunk)
            assert found.hexdigest() == content.digest.hex, told
        kept = {key.digest async for key in s3.blobs.list(PUBLIC)}
        assert kept == {content.digest for content in contents}, told
        await sweep(s3.client, lambda: time.time() + WEEK_S)
        page = await s3.client.call("list_multipart_uploads", {"Prefix": s3.client.full("blobs/")})
        assert not page.get("Uploads"), told
