"""What is offered beside pulls: all of it made here, with the lifetimes of its background
work, and its pages for the admin listener.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Self

from aiohttp import web

from proxy.backing import Backing
from proxy.cache.assembly import Cache
from proxy.config import Settings
from proxy.naming import Names
from proxy.ports import Clock, Observe, Upstream
from proxy.telemetry import Telemetry


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What services are made from."""

    settings: Settings
    cache: Cache
    backing: Backing
    upstreams: Mapping[str, Upstream]
    names: Names
    observe: Observe
    clock: Clock
    telemetry: Telemetry


class Services:
    """All of them. `async with` starts and ends what they do in the background."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._stack = AsyncExitStack()
        self._pages: list[web.RouteDef] = []

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_exc: object) -> None:
        await self._stack.aclose()

    def pages(self) -> list[web.RouteDef]:
        """For the admin listener."""
        return self._pages
