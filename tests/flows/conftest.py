"""The whole proxy in this process, on loopback ports, in front of fake registries."""

from __future__ import annotations

import asyncio
import hashlib
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from multidict import CIMultiDictProxy

from proxy.app import Entrepot
from proxy.config import load
from proxy.upstream.offline import Severable
from proxy.upstream.registry import RegistryUpstream
from tests.support.fake_registry import FakeRegistry
from tests.support.images import Image
from tests.support.waiting import until

DEADLINE_S = 30.0


@dataclass(slots=True)
class Answer:
    """What a client saw. `cut`: the body ended before its Content-Length."""

    status: int
    headers: CIMultiDictProxy[str]
    body: bytes
    cut: bool

    @property
    def sha256(self) -> str:
        return "sha256:" + hashlib.sha256(self.body).hexdigest()

    @property
    def code(self) -> str:
        """The OCI code of an error envelope."""
        (error,) = json.loads(self.body)["errors"]
        return str(error["code"])


@dataclass(slots=True)
class Running:
    """A running proxy and a client of it."""

    entrepot: Entrepot
    client: aiohttp.ClientSession
    scheme: str = "http"

    @property
    def url(self) -> str:
        return f"{self.scheme}://{self.entrepot.address}"

    async def ask(self, path: str, method: str = "GET", **headers: str) -> Answer:
        """One request, its body read to the end or to where it is cut."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        async with asyncio.timeout(DEADLINE_S):
            async with self.client.request(
                method, self.url + path, headers=named, allow_redirects=False
            ) as response:
                received, cut = bytearray(), False
                try:
                    async for chunk in response.content.iter_any():
                        received += chunk
                except (aiohttp.ClientPayloadError, ConnectionError):
                    cut = True
                return Answer(response.status, response.headers, bytes(received), cut)

    async def pull(self, repository: str, image: Image, *references: str) -> None:
        """All of an image as a client does it, by these references of its root."""
        for reference in (*references, *(str(one.digest) for one in image.manifests)):
            answer = await self.ask(f"{repository}/manifests/{reference}")
            assert answer.status == 200, (reference, answer.body)
        for blob in image.blobs:
            answer = await self.ask(f"{repository}/blobs/{blob.digest}")
            assert (answer.status, answer.body) == (200, blob.body)
        await self.settled()

    async def settled(self) -> None:
        """Until what was fetched is kept: clients have their bytes before that."""
        assert self.entrepot.status is not None
        flights = self.entrepot.status._cache.flights
        await until(lambda: len(flights) == 0, "all fills have ended")

    def let_time_pass(self, upstream: str, seconds: float) -> None:
        """For the breaker of an upstream, which then may let a request through again."""
        assert self.entrepot.status is not None
        severable = self.entrepot.status._upstreams[upstream]
        assert isinstance(severable, Severable)
        client = severable.client
        assert isinstance(client, RegistryUpstream)
        clock = client._breaker.monotonic
        client._breaker.monotonic = lambda: clock() + seconds

    async def status(self) -> dict[str, Any]:
        """The admin listener's status page."""
        async with self.client.get(f"http://{self.entrepot.admin_address}/status") as response:
            return dict(await response.json())

    async def metric(self, name: str, **labels: str) -> float:
        """The sum of all samples of a metric that have these labels."""
        total = 0.0
        for family in self.entrepot.telemetry.registry.collect():
            for sample in family.samples:
                if sample.name == name and labels.items() <= sample.labels.items():
                    total += sample.value
        return total


Start = Callable[..., Awaitable[Running]]


@dataclass(slots=True)
class World:
    """Starts proxies; all of them are stopped when the test ends."""

    root: Path
    stack: AsyncExitStack = field(default_factory=AsyncExitStack)
    clock: Callable[[], float] = time.time
    """What the proxies that are started from now on go by."""

    async def start(
        self, upstreams: dict[str, FakeRegistry | dict[str, Any]], **settings: Any
    ) -> Running:
        """A proxy with these upstreams (a fake, or a settings mapping with its `url`).

        Started again with the same `data_dir`, it finds what the last one left.
        """
        configured = {
            name: {"url": one.url} if isinstance(one, FakeRegistry) else one
            for name, one in upstreams.items()
        }
        overrides: dict[str, Any] = {
            "listen": "127.0.0.1:0",
            "admin_listen": "127.0.0.1:0",
            "data_dir": str(self.root / "data"),
            "presets": False,
            "default_upstream": next(iter(upstreams)),
            "access_log": False,
            "disk_free_bytes_min": 0,
            "tag_fresh_s": 0,
            "drain_s": 1,
            # How many connections are worth it depends on how busy this machine is.
            "blob_connections_max": 1,
            "upstreams": configured,
            **settings,
        }
        entrepot = await self.stack.enter_async_context(
            Entrepot(load(None, {}, overrides), clock=self.clock)
        )
        client = await self.stack.enter_async_context(
            aiohttp.ClientSession(auto_decompress=False, connector=aiohttp.TCPConnector(limit=0))
        )
        return Running(entrepot, client)


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    """Where proxies are started."""
    world = World(tmp_path)
    async with world.stack:
        yield world


@pytest.fixture
async def upstream() -> AsyncIterator[FakeRegistry]:
    """An empty, well-behaved registry."""
    async with FakeRegistry() as registry:
        yield registry
