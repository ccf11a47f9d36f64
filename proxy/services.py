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
from proxy.bundles.export_pages import export_pages
from proxy.bundles.exports import Exports
from proxy.bundles.importing_made import open_importing
from proxy.cache.assembly import Cache
from proxy.cache.pin_records import name_of
from proxy.config import Settings
from proxy.explain.history import Historian
from proxy.explain.pages import pages as history_pages
from proxy.keeping import Keeping
from proxy.keeping.pages import pages as keeping_pages
from proxy.naming import Names
from proxy.ports import Clock, Observe, Upstream
from proxy.quotas import Quotas
from proxy.quotas import pages as quota_pages
from proxy.rehearsal import Rehearsals
from proxy.rehearsal.pages import pages as rehearsal_pages
from proxy.savings.keeping import Savings
from proxy.savings.ledger import Ledger
from proxy.savings.pages import pages as savings_pages
from proxy.telemetry import Telemetry
from proxy.warming import Bringing, Missing, Schedule, Warming
from proxy.warming import pages as warming_pages
from proxy.web.uses import Account


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
        self._savings = _savings(parts)

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            await self._start(stack)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, *_exc: object) -> None:
        await self._stack.aclose()

    async def _start(self, stack: AsyncExitStack) -> None:
        keeping = await self._keep(stack)
        await stack.enter_async_context(self._savings)
        self._pages += savings_pages(self._savings)
        await self._warm(stack)
        await self._import(stack, keeping)
        self._pages += _export_pages(self._parts)
        self._pages += quota_pages(_quotas(self._parts))
        self._pages += history_pages(
            Historian(self._parts.names, self._parts.cache, self._parts.upstreams)
        )
        self._pages += rehearsal_pages(_rehearsals(self._parts))

    async def _keep(self, stack: AsyncExitStack) -> Keeping:
        """First of all: what is pinned must count before anything can go."""
        parts = self._parts
        keeping = Keeping(
            parts.settings,
            parts.cache,
            parts.backing,
            parts.upstreams,
            parts.names,
            observe=parts.observe,
            clock=parts.clock,
            hand_on=parts.telemetry.hand_on,
        )
        await stack.enter_async_context(keeping)
        self._pages += keeping_pages(keeping)
        return keeping

    async def _warm(self, stack: AsyncExitStack) -> None:
        parts, settings = self._parts, self._parts.settings
        bringing = Bringing(
            parts.cache,
            parts.backing,
            fetches_max=settings.warm.fetches_max,
            flights_max=settings.flights_max,
        )
        warming = Warming(parts.cache, bringing, parts.upstreams, parts.names, parts.observe)
        missing = Missing(
            settings, parts.cache, bringing, parts.upstreams, parts.names, clock=parts.clock
        )
        schedule = Schedule(
            settings.warm,
            warming,
            parts.backing.records,
            parts.backing.coordination,
            pulled=self._savings.ledger.pulled,
            observe=parts.observe,
            clock=parts.clock,
        )
        await stack.enter_async_context(schedule)
        self._pages += warming_pages(warming, missing, schedule, settings.warm)

    async def _import(self, stack: AsyncExitStack, keeping: Keeping) -> None:
        parts = self._parts
        self._pages += await stack.enter_async_context(
            open_importing(
                parts.settings,
                parts.cache,
                parts.backing,
                parts.upstreams,
                parts.names,
                observe=parts.observe,
                clock=parts.clock,
                alone=keeping.removal.alone,
            )
        )

    @property
    def account(self) -> Account:
        """Who is told what was served."""
        return self._savings.ledger.use

    def pages(self) -> list[web.RouteDef]:
        """For the admin listener."""
        return self._pages


def _quotas(parts: Parts) -> Quotas:
    quotas = Quotas(parts.upstreams, by_client=parts.settings.savings_clients, clock=parts.clock)
    parts.telemetry.late(quotas.tell)
    return quotas


def _rehearsals(parts: Parts) -> Rehearsals:
    rehearsals = Rehearsals(parts.upstreams)
    parts.telemetry.tell(rehearsals.hear)
    return rehearsals


def _savings(parts: Parts) -> Savings:
    ledger = Ledger(
        spell=name_of,
        seconds=parts.telemetry.saved_s,
        observe=parts.observe,
        clock=parts.clock,
        by_client=parts.settings.savings_clients,
    )
    parts.telemetry.tell(ledger.hear)
    return Savings(ledger, parts.settings.data_dir, clock=parts.clock)


def _export_pages(parts: Parts) -> list[web.RouteDef]:
    exports = Exports(parts.cache.closure, parts.names, parts.upstreams, clock=parts.clock)
    return export_pages(
        exports,
        parts.cache,
        parts.upstreams,
        platforms=parts.settings.warm.platforms,
        stall_s=parts.settings.send_stall_s,
    )
