"""A `RegistryUpstream` for a test, with a clock that the test moves and a list of
the events that it stated.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from proxy.events import Event
from proxy.oci.digest import Digest
from proxy.oci.names import Repository
from proxy.upstream.credentials import Credentials, CredentialSource
from proxy.upstream.registry import RegistryUpstream
from proxy.upstream.session import UpstreamConfig
from tests.support.fake_registry import FakeRegistry

EPOCH_S = 1_700_000_000.0


@dataclass(slots=True)
class Ticks:
    """A monotonic clock that stands still unless it is moved."""

    now_s: float = 1000.0

    def __call__(self) -> float:
        return self.now_s


@dataclass(slots=True)
class Rotating:
    """Credentials that change when they are asked for anew."""

    old: Credentials | None
    new: Credentials | None
    asked: list[bool] = field(default_factory=list)

    async def get(self, *, refresh: bool = False) -> Credentials | None:
        self.asked.append(refresh)
        return self.new if any(self.asked) else self.old


@dataclass(slots=True)
class Asking:
    """What a test holds: the client, its clock, its events."""

    upstream: RegistryUpstream
    ticks: Ticks
    events: list[Event]

    def stated(self, kind: type[Any]) -> list[Any]:
        """The events of one type, in order."""
        return [event for event in self.events if isinstance(event, kind)]

    async def blob(
        self, repository: Repository, digest: Digest, start: int = 0, end: int | None = None
    ) -> bytes | None:
        """A blob, or its part, whole."""
        async with self.upstream.open_blob(repository, digest, start=start, end=end) as body:
            return None if body is None else b"".join([chunk async for chunk in body.chunks])


@asynccontextmanager
async def asking(
    where: FakeRegistry | str,
    credentials: Credentials | CredentialSource | None = None,
    **settings: Any,
) -> AsyncIterator[Asking]:
    """A client of `where`; `settings` are fields of `UpstreamConfig`."""
    source = (
        Rotating(credentials, credentials) if isinstance(credentials, Credentials) else credentials
    )
    config = UpstreamConfig(
        name="up",
        url=where if isinstance(where, str) else where.url,
        credentials=source,
        **settings,
    )
    ticks, events = Ticks(), list[Event]()
    upstream = RegistryUpstream(
        config, observe=events.append, clock=lambda: EPOCH_S, monotonic=ticks
    )
    try:
        yield Asking(upstream, ticks, events)
    finally:
        await upstream.aclose()
