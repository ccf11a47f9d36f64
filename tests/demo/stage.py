"""Everything the demo needs, on loopback: registries, Redis and S3 if they are
installed, replicas as real processes, Prometheus if it is installed.
"""

from __future__ import annotations

import asyncio
import shutil
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp

from tests.demo.library import MIB, Registry
from tests.demo.prometheus import Prometheus
from tests.support.entrepot import Entrepot
from tests.support.fake_auth import FakeAuth
from tests.support.fake_registry import FakeRegistry, Quirks
from tests.support.processes import free_port
from tests.support.programs import SEARCH
from tests.support.redis_server import RedisServer
from tests.support.seaweed import Seaweed

REPLICAS = 2
DISK_BYTES_MAX = 32 * MIB
PULLS = 400
TAG_FRESH_S = 1
# Each replica's: what everybody wants at once waits for it.
LINK, LINK_GHCR = "60MB/s", "3MB/s"
_HOUSEKEEPING_S = 1.0
_TOKEN_S = 20
_HUB = ("library/alpine", "library/python", "library/nginx", "library/redis", "library/postgres")
_QUAY = ("prometheus/prometheus", "team/web", "team/worker")
_GHCR = ("acme/api", "acme/jobs")


@dataclass(slots=True, kw_only=True)
class Stage:
    """What runs. `redis`, `s3` and `prometheus` are None where the program is missing."""

    folder: Path
    hub: Registry
    quay: Registry
    ghcr: Registry
    client: aiohttp.ClientSession
    replicas: list[Entrepot] = field(default_factory=list)
    redis: RedisServer | None = None
    s3: Seaweed | None = None
    prometheus: Prometheus | None = None

    @property
    def registries(self) -> list[Registry]:
        return [self.hub, self.quay, self.ghcr]

    @property
    def urls(self) -> list[str]:
        """Where clients pull."""
        return [one.url for one in self.replicas]


def weed() -> str | None:
    """SeaweedFS, if it is there."""
    return shutil.which("weed", path=f"{Path(sys.executable).parent}:{SEARCH}")


@asynccontextmanager
async def staged(folder: Path, *, port: int = 0) -> AsyncIterator[Stage]:
    """All of it, up; gone when the context ends. `port`: of the first replica."""
    async with AsyncExitStack() as stack:
        quirks = Quirks(quota=PULLS, quota_limit=f"{PULLS};w=21600")
        stage = Stage(
            folder=folder,
            hub=Registry("docker.io", await _fake(stack, quirks), _HUB, 12 * MIB),
            quay=Registry("quay.io", await _fake(stack), _QUAY, 4 * MIB),
            ghcr=Registry(
                "ghcr.io", await _fake(stack, auth=FakeAuth(expires_in_s=_TOKEN_S)), _GHCR, 8 * MIB
            ),
            client=await stack.enter_async_context(
                aiohttp.ClientSession(
                    auto_decompress=False, connector=aiohttp.TCPConnector(limit=0)
                )
            ),
        )
        fleet = shutil.which("redis-server", path=SEARCH) is not None and weed() is not None
        if fleet:
            stage.redis, stage.s3 = RedisServer(folder / "redis"), Seaweed(folder / "s3")
            await _run(
                stack, (stage.redis.start, stage.redis.stop), (stage.s3.start, stage.s3.kill)
            )
        stage.replicas = [_replica(stage, number) for number in range(REPLICAS if fleet else 1)]
        ends = [(one.start, one.stop) for one in stage.replicas]
        program = shutil.which("prometheus", path=SEARCH)
        if program is not None:
            targets = [one.admin.removeprefix("http://") for one in stage.replicas]
            stage.prometheus = Prometheus(program, folder / "prometheus", targets)
            ends.append((stage.prometheus.start, stage.prometheus.stop))
        await _run(stack, *ends)
        tidying = asyncio.create_task(_tidy(stage))
        stack.callback(tidying.cancel)
        yield stage


async def _fake(
    stack: AsyncExitStack, quirks: Quirks | None = None, auth: FakeAuth | None = None
) -> FakeRegistry:
    return await stack.enter_async_context(FakeRegistry(quirks, auth))


async def _run(stack: AsyncExitStack, *parts: tuple[Callable[[], object], ...]) -> None:
    """Start these together, and end them together; each part is (start, end)."""

    async def each(number: int) -> None:
        await asyncio.gather(*(asyncio.to_thread(part[number]) for part in parts))

    stack.push_async_callback(each, 1)
    await each(0)


async def _tidy(stage: Stage) -> None:
    """The fakes remember every request; a demo may run for days."""
    while True:
        await asyncio.sleep(_HOUSEKEEPING_S)
        for one in stage.registries:
            one.fake.seen.clear()


def _replica(stage: Stage, number: int) -> Entrepot:
    together: dict[str, Any] = {}
    if stage.redis is not None and stage.s3 is not None:
        together = {
            "storage": {"s3": stage.s3.settings()},
            "redis": {"url": stage.redis.url},
            "peer_listen": f"127.0.0.1:{free_port()}",
            "peer_secret": "known to all replicas of the demo",
        }
    upstreams: dict[str, dict[str, Any]] = {
        one.name: {"url": one.fake.url} for one in stage.registries
    }
    upstreams[stage.ghcr.name]["link"] = {"rate": LINK_GHCR}
    return Entrepot(
        stage.folder / f"replica-{number}",
        upstreams=upstreams,
        link={"rate": LINK},
        presets=False,
        default_upstream="docker.io",
        tag_fresh_s=TAG_FRESH_S,
        disk_bytes_max=DISK_BYTES_MAX,
        disk_free_bytes_min=0,
        memory_bytes_max=4 * MIB,
        drain_s=1,
        access_log=False,
        **together,
    )
