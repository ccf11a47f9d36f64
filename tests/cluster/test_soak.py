"""Anything may fail at any moment, and the promises hold when all is well again.

The order of events depends on the seed only (`ENTREPOT_SOAK_SEED`, printed when it
fails); how long it goes on is `ENTREPOT_SOAK_S`, 20 s by default.
"""

from __future__ import annotations

import asyncio
import os
import random
from contextlib import suppress

from tests.cluster.conftest import Cluster, Got, eventually
from tests.support.fake_registry import Fault
from tests.support.images import Content, Image, image

SOAK_S = float(os.environ.get("ENTREPOT_SOAK_S", "20"))
SEED = int(os.environ.get("ENTREPOT_SOAK_SEED", "1"))
IMAGES = 12
SIZES = (2_000, 300_000, 9_000_000, 20_000_000)


class Soak:
    """One run: clients pull all the time, one thing at a time is broken and mended."""

    def __init__(self, cluster: Cluster, seed: int) -> None:
        self.cluster = cluster
        self.chance = random.Random(seed)
        self.images = [
            cluster.upstream.add(
                "app", image(*self.chance.sample(SIZES, 3), seed=f"soak-{seed}-{n}"), f"v{n}"
            )
            for n in range(IMAGES)
        ]
        self.over = asyncio.Event()
        self.wrong: list[tuple[str, Got]] = []
        self.completed = 0
        self.lives = 3

    async def client(self, seed: int) -> None:
        """Pull random images at random replicas; judge what was completed."""
        chance = random.Random(seed)
        while not self.over.is_set():
            made = chance.choice(self.images)
            await self.pull(chance.randrange(3), made, f"v{self.images.index(made)}", tries=3)

    async def pull(self, number: int, made: Image, tag: str, *, tries: int) -> bool:
        """Whether all of it came; what came whole but wrong is noted."""
        wanted: list[tuple[str, Content]] = [(f"manifests/{tag}", made.manifest)]
        wanted += [(f"blobs/{blob.digest}", blob) for blob in made.blobs]
        good = True
        for path, content in wanted:
            got = await self.cluster.pull(number, f"/v2/lab/app/{path}", failover=True, tries=tries)
            self.completed += not got.error
            good = good and not got.error
            if not got.error and got.sha256 != str(content.digest):
                self.wrong.append((path, got))
        return good

    async def trouble(self) -> None:
        """Break something, let it be broken for a while, mend it."""
        cluster, chance = self.cluster, self.chance
        replica = cluster.replicas[chance.randrange(3)]
        kinds = ("kill", "pause", "restart", "redis", "flush", "frozen redis", "s3", "upstream")
        kind, while_s = chance.choice(kinds), chance.uniform(0.2, 2.0)
        match kind:
            case "kill":
                self.lives += 1
                await asyncio.to_thread(replica.kill)
                await self.pause(while_s)
                await asyncio.to_thread(replica.start)
            case "pause":
                replica.pause()
                await self.pause(while_s)
                replica.resume()
            case "restart":
                self.lives += 1
                await asyncio.to_thread(replica.restart)
            case "redis":
                await asyncio.to_thread(cluster.redis.stop)
                await self.pause(while_s)
                await asyncio.to_thread(cluster.redis.start)
            case "flush":
                cluster.redis.command("FLUSHALL")
            case "frozen redis":
                cluster.redis.pause()
                await self.pause(while_s)
                cluster.redis.resume()
            case "s3":
                await asyncio.to_thread(cluster.s3.kill)
                await self.pause(while_s)
                await asyncio.to_thread(cluster.s3.start)
            case _:
                fault = chance.choice(
                    (Fault(reset_at=1_000_000), Fault(flip_at=1_000), Fault(status=503))
                )
                cluster.upstream.inject(fault, kind="blob", method="GET", times=3)

    async def pause(self, s: float) -> None:
        with suppress(TimeoutError):
            await asyncio.wait_for(self.over.wait(), s)


async def test_promises_hold_after_any_sequence_of_troubles(cluster: Cluster) -> None:
    await cluster.start()
    soak = Soak(cluster, SEED)
    loop = asyncio.get_running_loop()
    ends_at = loop.time() + SOAK_S
    clients = [asyncio.create_task(soak.client(SEED * 1000 + number)) for number in range(6)]
    while loop.time() < ends_at:
        await soak.trouble()
        await soak.pause(0.5)
    soak.over.set()
    await asyncio.gather(*clients)
    cluster.upstream.heal()
    assert not soak.wrong, (SEED, soak.wrong)
    assert soak.completed > 0

    async def all_pulled() -> bool:
        return all(
            [
                await soak.pull(number, made, f"v{n}", tries=4)
                for n, made in enumerate(soak.images)
                for number in range(3)
            ]
        )

    await eventually(all_pulled, what=f"all can be pulled again (seed {SEED})", s=90)
    assert not soak.wrong, (SEED, soak.wrong)
    await cluster.stored()
    size = sum(blob.size for made in soak.images for blob in made.blobs)
    # Each life of a replica may cost one fetch of what was on its way, and no more.
    assert cluster.fetched() <= size * soak.lives, SEED

    async def nothing_left() -> bool:
        leases = cluster.redis.command("KEYS", "entrepot:lease:blob/*")
        pending = [p for r in cluster.replicas for p in (r.data_dir / "pending").rglob("*")]
        return not leases and not any(path.is_file() for path in pending)

    await eventually(nothing_left, what=f"no claims, nothing pending (seed {SEED})", s=70)
    for replica in cluster.replicas:
        left = {path.name for path in (replica.data_dir / "spool").rglob("*") if path.is_file()}
        # What is left can be resumed: a spool with its journal.
        assert all(f"{name}.journal" in left for name in left if not name.endswith(".journal"))
