"""Nodes that pull as containerd does, each with a store of its own.

HEAD by tag, GET by digest, the platform's manifest, then config and layers, three
at a time and only those it does not hold. What is cut is resumed with Range; an
error is tried again later. Bodies are verified: a demo that serves wrong bytes
says so.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import random
from collections import Counter, OrderedDict
from dataclasses import dataclass, field
from typing import Any

import aiohttp

from tests.demo.library import TAG, Registry, popular

_ACCEPT = (
    "application/vnd.docker.distribution.manifest.v2+json, "
    "application/vnd.docker.distribution.manifest.list.v2+json, "
    "application/vnd.oci.image.manifest.v1+json, "
    "application/vnd.oci.image.index.v1+json, */*"
)
_HEADERS = {"User-Agent": "containerd/2.1.4", "Accept": _ACCEPT}
_LAYERS_AT_ONCE = 3
_RESUMES = 5
_HELD_MAX = 24
_THINK_S = 0.6
_PATIENCE_S = 60.0


class Refused(Exception):
    """It answered, but not with what was asked for."""


@dataclass(slots=True)
class Crowd:
    """All nodes. `pulled` counts images by "ok" and by what went wrong."""

    urls: list[str]
    registries: list[Registry]
    client: aiohttp.ClientSession
    pulled: Counter[str] = field(default_factory=Counter)
    received_bytes: int = 0

    async def work(self, nodes: int) -> None:
        """Until cancelled."""
        async with asyncio.TaskGroup() as group:
            for number in range(nodes):
                group.create_task(Node(self, number).work())

    async def roll_out(self, registry: Registry, repository: str, nodes: int) -> None:
        """All at once and from empty stores, as an orchestrator does it."""
        fresh = [Node(self, 1000 + number) for number in range(nodes)]
        await asyncio.gather(*(node.pull(registry, repository) for node in fresh))

    async def leave_early(self, registry: Registry) -> None:
        """A client that asks for a large blob and is gone after its first bytes."""
        repository = registry.repositories[0]
        blob = max(registry.images[repository].blobs, key=lambda one: one.size)
        url = f"{self.urls[0]}/v2/{repository}/blobs/{blob.digest}?ns={registry.name}"
        async with (
            aiohttp.ClientSession(headers=_HEADERS, read_bufsize=1024) as client,
            client.get(url) as response,
        ):
            await response.content.read(1)
            if response.connection is not None and response.connection.transport is not None:
                response.connection.transport.abort()


class Node:
    """One machine, bound to one replica as behind a load balancer."""

    def __init__(self, crowd: Crowd, number: int) -> None:
        self._crowd = crowd
        self._url = crowd.urls[number % len(crowd.urls)]
        self._chance = random.Random(number)
        self._held: OrderedDict[str, None] = OrderedDict()
        self._slots = asyncio.Semaphore(_LAYERS_AT_ONCE)

    async def work(self) -> None:
        """Pull what is popular, with pauses, until cancelled."""
        while True:
            await asyncio.sleep(self._chance.expovariate(1 / _THINK_S))
            await self.pull(*popular(self._crowd.registries, self._chance))

    async def pull(self, registry: Registry, repository: str) -> None:
        """An image; what goes wrong is counted."""
        try:
            async with asyncio.timeout(_PATIENCE_S):
                await self._image(registry, repository)
        except Refused as refused:
            self._crowd.pulled[str(refused)] += 1
        except (aiohttp.ClientError, ConnectionError, TimeoutError) as error:
            self._crowd.pulled[type(error).__name__] += 1
        else:
            self._crowd.pulled["ok"] += 1

    async def _image(self, registry: Registry, repository: str) -> None:
        ns = registry.name
        digest = await self._resolve(ns, repository)
        manifest = await self._manifest(ns, repository, digest)
        if self._chance.random() < 0.1:
            await self._ask("GET", f"/v2/{repository}/referrers/{digest}", ns)
        if "manifests" in manifest:
            manifest = await self._manifest(ns, repository, manifest["manifests"][0]["digest"])
        wanted = [manifest["config"], *manifest["layers"]]
        missing = [one["digest"] for one in wanted if one["digest"] not in self._held]
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(self._blob(ns, repository, one)) for one in missing]
        if not all(task.result() for task in tasks):
            raise Refused("a layer could not be had")

    async def _resolve(self, ns: str, repository: str) -> str:
        status, headers, _ = await self._ask("HEAD", f"/v2/{repository}/manifests/{TAG}", ns)
        if status != 200:
            raise Refused(f"tag: {status}")
        return str(headers["Docker-Content-Digest"])

    async def _manifest(self, ns: str, repository: str, digest: str) -> dict[str, Any]:
        status, _, body = await self._ask("GET", f"/v2/{repository}/manifests/{digest}", ns)
        if status != 200:
            raise Refused(f"manifest: {status}")
        _verified(digest, hashlib.sha256(body))
        return dict(json.loads(body))

    async def _blob(self, ns: str, repository: str, digest: str) -> bool:
        """Whether it could be had."""
        hasher, size = hashlib.sha256(), 0
        url = f"{self._url}/v2/{repository}/blobs/{digest}?ns={ns}"
        async with self._slots:
            for _ in range(_RESUMES):
                headers = {**_HEADERS, **({"Range": f"bytes={size}-"} if size else {})}
                try:
                    async with self._crowd.client.get(url, headers=headers) as response:
                        if response.status not in {200, 206}:
                            return False
                        async for chunk in response.content.iter_any():
                            hasher.update(chunk)
                            size += len(chunk)
                            self._crowd.received_bytes += len(chunk)
                except (aiohttp.ClientPayloadError, ConnectionError):
                    continue
                _verified(digest, hasher)
                self._hold(digest)
                return True
        return False

    def _hold(self, digest: str) -> None:
        """As on a node that collects garbage."""
        self._held[digest] = None
        while len(self._held) > _HELD_MAX:
            self._held.popitem(last=False)

    async def _ask(
        self, method: str, path: str, ns: str
    ) -> tuple[int, aiohttp.typedefs.LooseHeaders, bytes]:
        url = f"{self._url}{path}?ns={ns}"
        async with self._crowd.client.request(method, url, headers=_HEADERS) as response:
            return response.status, response.headers, await response.read()


def _verified(digest: str, hasher: Any) -> None:
    if f"sha256:{hasher.hexdigest()}" != digest:
        raise AssertionError(f"wrong bytes for {digest}")
