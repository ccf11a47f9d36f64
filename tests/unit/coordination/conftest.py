"""One real Redis for each module, emptied for each test, and replicas on it.

Where there is no redis-server the tests that want one are skipped, saying so.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any

import pytest

from proxy.coordination.redis import RedisConfig, RedisCoordination, Timings
from proxy.events import CoordinationMoved, Event, LeaseMoved
from tests.support.redis_server import RedisServer, running

# A claim outlasts a moment without a processor.
QUICK = Timings(lease_s=1.0, renew_s=0.1, retry_s=0.1, retry_max_s=0.2, flush_s=0.05)


@dataclass
class Seen:
    """What a replica's coordination said."""

    events: list[Event] = field(default_factory=list)

    @property
    def states(self) -> list[str]:
        return [one.state for one in self.events if isinstance(one, CoordinationMoved)]

    @property
    def reasons(self) -> list[str]:
        return [one.reason for one in self.events if isinstance(one, CoordinationMoved)]

    @property
    def leases(self) -> list[str]:
        return [one.outcome for one in self.events if isinstance(one, LeaseMoved)]


NewReplica = Callable[..., Any]


@pytest.fixture(scope="module")
def running_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    server = RedisServer(tmp_path_factory.mktemp("redis") / "single")
    with running(server):
        yield server


@pytest.fixture
def server(running_server: RedisServer) -> Iterator[RedisServer]:
    """Running, awake and empty, whatever the test before did to it."""
    if not running_server.process.running:
        running_server.start()
    running_server.command("FLUSHALL")
    yield running_server
    if running_server.process.running:
        running_server.resume()


@pytest.fixture
async def stack() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as stack:
        yield stack


@pytest.fixture
def replica(server: RedisServer, stack: AsyncExitStack) -> NewReplica:
    """Start one more replica: `await replica("one")`, at http://one.test."""

    async def start(
        name: str, seen: Seen | None = None, timings: Timings = QUICK, **more: Any
    ) -> RedisCoordination:
        config = more.pop("config", None) or RedisConfig(url=server.url)
        observe = (seen or Seen()).events.append
        return await stack.enter_async_context(
            RedisCoordination(
                config,
                advertise_url=f"http://{name}.test",
                observe=observe,
                timings=timings,
                **more,
            )
        )

    return start
