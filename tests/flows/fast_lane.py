"""A proxy in this process whose fast lane can be looked into, under a clock of its own."""

from __future__ import annotations

import ssl
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from proxy.app import Entrepot
from proxy.cache.assembly import Cache
from proxy.config import load
from proxy.ports import PUBLIC, BlobKey
from proxy.upstream.offline import Severable
from proxy.upstream.registry import RegistryUpstream
from proxy.web.fastlane import FastLane
from proxy.web.server import PullServer
from tests.support.fake_registry import FakeRegistry
from tests.support.images import Content, image
from tests.support.raw_http import RawAnswer, RawClient, connected
from tests.support.waiting import until

IMAGES = [image(300, 5_000, seed=str(number)) for number in range(3)]
SMALL = IMAGES[0].layers[0]


@dataclass(slots=True)
class Clock:
    """Goes on by itself and can be put forward."""

    ahead_s: float = 0.0

    def __call__(self) -> float:
        return time.time() + self.ahead_s


@dataclass(slots=True)
class Proxy:
    """A proxy in this process, seen from inside, too."""

    entrepot: Entrepot
    upstream: FakeRegistry
    clock: Clock
    asked: int = 0
    repeated: int = field(default=0)
    tls: ssl.SSLContext | None = None
    """What its clients are to connect with."""

    @property
    def address(self) -> str:
        return self.entrepot.address

    @property
    def cache(self) -> Cache:
        assert self.entrepot.status is not None
        return self.entrepot.status._cache

    @property
    def server(self) -> PullServer:
        assert self.entrepot.status is not None
        return self.entrepot.status.servers[0]

    @property
    def lane(self) -> FastLane:
        assert self.server.lane is not None
        return self.server.lane

    async def ask(self, client: RawClient, head: bytes) -> RawAnswer:
        """One request, counted."""
        self.asked += 1
        self.repeated += head in self.lane.answers
        await client.send(head)
        return await client.receive(to_head=head.startswith(b"HEAD"))

    async def delete(self, blob: Content) -> None:
        """From the disk, as eviction and scrubs do."""
        assert self.entrepot.status is not None
        await self.entrepot.status._backing.local.blobs.delete(BlobKey(PUBLIC, blob.digest))

    def breaker_forgets(self) -> None:
        """As if so much time had passed that the upstream is tried again."""
        assert self.entrepot.status is not None
        severable = self.entrepot.status._upstreams["lab"]
        assert isinstance(severable, Severable)
        client = severable.client
        assert isinstance(client, RegistryUpstream)
        monotonic = client._breaker.monotonic
        client._breaker.monotonic = lambda: monotonic() + 120

    def count(self, name: str, **labels: str) -> float:
        """The sum of all samples of a metric that have these labels."""
        return sum(
            sample.value
            for family in self.entrepot.telemetry.registry.collect()
            for sample in family.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        )

    async def settled(self) -> None:
        """Until what was fetched is kept."""
        await until(lambda: len(self.cache.flights) == 0, "all fills have ended")


@asynccontextmanager
async def running(root: Path, upstream: FakeRegistry, **settings: Any) -> AsyncIterator[Proxy]:
    clock = Clock()
    values: dict[str, Any] = {
        "listen": "127.0.0.1:0",
        "admin_listen": "127.0.0.1:0",
        "data_dir": str(root / "data"),
        "presets": False,
        "default_upstream": "lab",
        "access_log": False,
        "disk_free_bytes_min": 0,
        "tag_fresh_s": 60,
        "negative_s": 0,
        "upstreams": {"lab": {"url": upstream.url}},
        **settings,
    }
    async with Entrepot(load(None, {}, values), clock=clock) as entrepot:
        yield Proxy(entrepot, upstream, clock)


async def warm(proxy: Proxy, head: bytes) -> RawAnswer:
    """Ask until it is in the fast lane; its answer, from there."""
    async with connected(proxy.address, tls=proxy.tls) as client:
        for one in (head.replace(b"HEAD", b"GET"), head, head):
            await proxy.ask(client, one)
            await proxy.settled()
        assert head in proxy.lane.answers, head
        return await proxy.ask(client, head)


MANIFEST = "/v2/lab/app/manifests/v1"
BLOB = f"/v2/lab/app/blobs/{SMALL.digest}"


def seen(answer: RawAnswer) -> tuple[int, list[tuple[str, str]], bytes]:
    """All of an answer that may not differ. Why something can't be had may be said
    in other words the second time.
    """
    headers = [(name, value) for name, value in answer.headers if name != "Date"]
    if answer.status < 400:
        return answer.status, headers, answer.body
    return answer.status, [one for one in headers if one[0] != "Content-Length"], b""
