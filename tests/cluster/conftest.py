"""Three real replicas, real Redis, real S3, a counting upstream in this process."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import redis as redis_py

from tests.support.entrepot import Entrepot
from tests.support.fake_registry import FakeRegistry
from tests.support.images import Content, Image
from tests.support.processes import free_port
from tests.support.redis_server import RedisServer
from tests.support.seaweed import Seaweed
from tests.support.waiting import until

REPLICAS = 3
SECRET = "a secret of the test replicas"
CLIENT_S = 60.0
_TRIES = 12


@dataclass(slots=True)
class Got:
    """What a client that resumes, as containerd does, ended up with.

    `status` and `error` are of its last try; an `error` is what remained.
    `wrong_bytes`: how many were others than `wanted`, where that was said.
    """

    sha256: str = ""
    size: int = 0
    wrong_bytes: int = 0
    resumes: int = 0
    first_byte_s: float = -1.0
    status: int = 0
    error: str = ""
    headers: dict[str, str] = field(default_factory=dict)


def _differing(chunk: bytes, body: bytes, at: int) -> int:
    """How many bytes of `chunk` are not what `body` has from `at` on."""
    there = body[at : at + len(chunk)]
    if chunk == there:
        return 0
    return len(chunk) - sum(one == other for one, other in zip(chunk, there, strict=False))


def right(content: Content, *gots: Got) -> None:
    """All bytes, and none but those."""
    for got in gots:
        assert (got.error, got.size, got.sha256) == ("", content.size, str(content.digest)), got


def layer(number: int, image: Image) -> str:
    """The path at which a client asks for a layer of `image` in the repository `app`."""
    return f"/v2/lab/app/blobs/{image.layers[number].digest}"


@dataclass(slots=True)
class Cluster:
    """Replicas and what they share."""

    folder: Path
    upstream: FakeRegistry
    redis: RedisServer
    s3: Seaweed
    client: aiohttp.ClientSession
    replicas: list[Entrepot] = field(default_factory=list)
    peers: list[str] = field(default_factory=list)
    """Where each replica is reached by the others."""

    def settings(self, number: int, **more: Any) -> dict[str, Any]:
        return {
            "presets": False,
            "default_upstream": "lab",
            "disk_free_bytes_min": 0,
            "drain_s": 2,
            # How many connections are worth it depends on how busy this machine is.
            "blob_connections_max": 1,
            "storage": {"s3": self.s3.settings(prefix=self.folder.name)},
            "redis": {"url": self.redis.url},
            "peer_listen": self.peers[number].removeprefix("http://"),
            "peer_secret": SECRET,
            **more,
        }

    async def start(
        self,
        count: int = REPLICAS,
        *,
        lab: dict[str, Any] | None = None,
        host: str = "127.0.0.1",
        **more: Any,
    ) -> None:
        """More replicas, all at once, at `host`; `lab`: more about the upstream, `more`:
        settings, or what else `Entrepot` takes.
        """
        first = len(self.replicas)
        for number in range(first, first + count):
            self.peers.append(f"http://{host}:{free_port()}")
            self.replicas.append(
                Entrepot(
                    self.folder / f"replica-{number}",
                    upstreams={"lab": {"url": self.upstream.url, **(lab or {})}},
                    host=host,
                    **self.settings(number, **more),
                )
            )
        await self.each(*(one.start for one in self.replicas[first:]))

    async def each(self, *works: Callable[[], object]) -> None:
        """Blocking work, all at once, while clients go on."""
        await asyncio.gather(*(asyncio.to_thread(work) for work in works))

    async def pull(
        self,
        number: int,
        path: str,
        *,
        failover: bool = False,
        tries: int = _TRIES,
        method: str = "GET",
        wanted: Content | None = None,
    ) -> Got:
        """A body from one replica, resumed with Range after a cut (elsewhere, if
        `failover`: behind one address the next try may land on any replica).
        """
        loop = asyncio.get_running_loop()
        began, hasher, got = loop.time(), hashlib.sha256(), Got()
        for attempt in range(tries):
            replica = self.replicas[(number + (attempt if failover else 0)) % len(self.replicas)]
            headers = {"Range": f"bytes={got.size}-"} if got.size else {}
            try:
                async with (
                    asyncio.timeout(CLIENT_S),
                    self.client.request(method, replica.url + path, headers=headers) as response,
                ):
                    got.status, got.headers = response.status, dict(response.headers)
                    got.error = "" if response.status in {200, 206} else await response.text()
                    async for chunk in response.content.iter_any():
                        if got.first_byte_s < 0:
                            got.first_byte_s = loop.time() - began
                        if wanted is not None:
                            got.wrong_bytes += _differing(chunk, wanted.body, got.size)
                        got.size += len(chunk)
                        hasher.update(chunk)
            except (aiohttp.ClientError, ConnectionError, TimeoutError) as error:
                got.error = repr(error)
            if not got.error:
                break
            got.resumes += 1
            if attempt < tries - 1:
                await asyncio.sleep(0.1)
        got.sha256 = "sha256:" + hasher.hexdigest()
        return got

    def pulls(self, path: str, *numbers: int, failover: bool = False) -> list[asyncio.Task[Got]]:
        """A client at each of these replicas, at once."""
        return [
            asyncio.create_task(self.pull(number, path, failover=failover)) for number in numbers
        ]

    async def metric(self, number: int, name: str) -> float:
        """The sum over labels of one replica's metric; `name` may hold the first labels."""
        async with self.client.get(self.replicas[number].admin + "/metrics") as response:
            lines = (await response.text()).splitlines()
        return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(name))

    def owner(self, blob: Content) -> int | None:
        """Who holds the claim on a blob, and so fetches it."""
        return self.owner_of(f"blob/public/{blob.digest}")

    def owner_of(self, name: str) -> int | None:
        """Who holds a claim."""
        try:
            said = self.redis.command("GET", f"entrepot:lease:{name}")
        except redis_py.RedisError:
            return None
        return None if said is None else self.peers.index(json.loads(said)["owner"])

    async def owned(self, blob: Content) -> int:
        """Who fetches it, once somebody does."""
        await until(lambda: self.owner(blob) is not None, "a replica claims the blob")
        owner = self.owner(blob)
        assert owner is not None
        return owner

    async def following(self, count: int, *numbers: int) -> None:
        """Until these replicas have `count` followers in all."""

        async def joined() -> bool:
            counts = [await self.metric(n, "entrepot_followers ") for n in numbers]
            return sum(counts) >= count

        await until(joined, f"{count} clients follow")

    async def stored(self, *numbers: int) -> None:
        """Until nothing waits to be brought to S3."""

        async def none() -> bool:
            counts = [
                await self.metric(n, gauge)
                for n in numbers or range(len(self.replicas))
                # In this order: what is no fill any more is an upload already.
                for gauge in ("entrepot_flights_in_progress ", "entrepot_pending_uploads ")
            ]
            return not any(counts)

        await until(none, "all is stored", deadline_s=60)

    def fetched(self, *blobs: Content) -> int:
        """Bytes of these blobs (of all, if none is named) that the upstream has sent."""
        names = {str(blob.digest) for blob in blobs}
        return sum(
            one.sent
            for one in self.upstream.requests(kind="blob", method="GET")
            if not names or one.reference in names
        )


@pytest.fixture(scope="session")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Seaweed]:
    """One S3 server for all; each test has its own prefix."""
    with Seaweed(tmp_path_factory.mktemp("s3")) as server:
        yield server


@pytest.fixture
async def upstream() -> AsyncIterator[FakeRegistry]:
    """An empty, well-behaved registry."""
    async with FakeRegistry() as registry:
        yield registry


@pytest.fixture
async def cluster(tmp_path: Path, upstream: FakeRegistry, s3: Seaweed) -> AsyncIterator[Cluster]:
    """Redis and S3 are up; replicas are started by the test."""
    async with AsyncExitStack() as stack:
        processes = stack.enter_context(ExitStack())
        redis = RedisServer(tmp_path / "redis")
        processes.callback(redis.stop)
        await asyncio.to_thread(redis.start)
        client = await stack.enter_async_context(
            aiohttp.ClientSession(auto_decompress=False, connector=aiohttp.TCPConnector(limit=0))
        )
        one = Cluster(tmp_path, upstream, redis, s3, client)
        try:
            yield one
        finally:
            await one.each(*(replica.kill for replica in one.replicas))
            if not s3.running:  # as a test may have left it
                await one.each(s3.start)
