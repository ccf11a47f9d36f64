"""The listeners for pulls: each an address with its server, its handler and its fast lane.

A fast lane knows answers by the bytes of requests alone, so two listeners that answer
the same request differently must never share one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass

from aiohttp import web

from proxy.backing import Backing
from proxy.cache.assembly import Cache
from proxy.config import Settings
from proxy.config.moments import seconds
from proxy.errors import StartupError
from proxy.listeners import bound
from proxy.ports import Clock, Observe, Upstream
from proxy.telemetry import Telemetry
from proxy.telemetry.traces import Traces
from proxy.upstreams import routes
from proxy.web.access import access_log, repeated_log
from proxy.web.fastlane import FastLane
from proxy.web.missing import Missing
from proxy.web.redirect import Redirector
from proxy.web.refusals import Refusals
from proxy.web.registry import RegistryHandler
from proxy.web.repeats import Repeats
from proxy.web.server import PullServer, listen
from proxy.web.tls import Certificates
from proxy.web.uses import Account

# Of the memory for small objects, so much again may hold answers made of them.
_LANE_SHARE = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """What pulls are served from, and who hears of them."""

    settings: Settings
    cache: Cache
    backing: Backing
    upstreams: Mapping[str, Upstream]
    observe: Observe
    clock: Clock
    telemetry: Telemetry
    account: Account
    traces: Traces


class Pulls:
    """All listeners for pulls. `addresses` are `host:port` as really bound, `listen` first."""

    def __init__(self, shown: Shown) -> None:
        self._shown = shown
        settings = shown.settings
        self._asked: list[tuple[str, float | None]] = [(settings.listen, None)]
        for one in settings.listeners:
            as_of = None if one.as_of is None else seconds(one.as_of)
            self._asked.append((one.listen, as_of))
        self._lane_bytes_max = settings.memory_bytes_max // _LANE_SHARE // len(self._asked)
        self._refusals = Refusals(
            Missing(shown.observe),
            relay_429=frozenset(n for n, one in settings.upstreams.items() if one.relay_429),
            dockerd_blob_404=settings.dockerd_blob_404,
        )
        self._sites: list[web.TCPSite] = []
        self.servers: list[PullServer] = []
        self.addresses: list[str] = []

    @property
    def accepting(self) -> bool:
        """Whether all addresses are served."""
        return len(self._sites) == len(self._asked)

    async def open(self, stack: AsyncExitStack) -> None:
        """Serve until `stack` ends. Raises `StartupError`."""
        certificates = _certificates(self._shown.settings)
        if certificates is not None:
            await asyncio.to_thread(certificates.load)
            following = asyncio.create_task(certificates.follow())
            stack.callback(following.cancel)
        for address, as_of in self._asked:
            await self._listen(stack, address, as_of, certificates)

    async def stop_accepting(self) -> None:
        """What runs goes on."""
        for site in self._sites:
            await site.stop()

    async def _listen(
        self,
        stack: AsyncExitStack,
        address: str,
        as_of: float | None,
        certificates: Certificates | None,
    ) -> None:
        settings = self._shown.settings
        lane = self._lane(stack)
        server = PullServer(
            self._handler(lane, as_of),
            connections_max=settings.connections_max,
            header_bytes_max=settings.header_bytes_max,
            lane=lane,
        )
        # What runs has had drain_s already. Not 0: to aiohttp that means "no limit".
        runner = web.ServerRunner(server, shutdown_timeout=0.1)
        await runner.setup()
        stack.push_async_callback(runner.cleanup)
        tls = None if certificates is None else certificates.context
        try:
            site = await listen(runner, address, tls=tls, reuse_port=settings.reuse_port)
        except OSError as error:
            raise StartupError(f"can't listen at {address}: {error.strerror}") from error
        self._sites.append(site)
        self.servers.append(server)
        self.addresses.append(bound(runner))

    def _lane(self, stack: AsyncExitStack) -> FastLane:
        shown = self._shown
        lane = FastLane(
            self._lane_bytes_max,
            observe=shown.observe,
            clock=shown.clock,
            log=repeated_log(enabled=shown.settings.access_log),
            account=shown.account,
            untraced=shown.traces.untraced,
        )
        shown.telemetry.late(lane.flush)
        stack.callback(lane.flush)
        return lane

    def _handler(self, lane: FastLane, as_of: float | None) -> RegistryHandler:
        shown = self._shown
        settings, cache = shown.settings, shown.cache
        return RegistryHandler(
            routes=routes(settings),
            upstreams=shown.upstreams,
            tags=cache.tags,
            blobs=cache.blobs,
            listings=cache.listings,
            observe=shown.observe,
            access=access_log(enabled=settings.access_log),
            header_budget_s=settings.header_budget_s,
            send_stall_s=settings.send_stall_s,
            refusals=self._refusals,
            redirector=_redirector(settings, shown.backing, cache),
            traced=shown.traces.begin,
            repeats=Repeats(lane, tags=cache.tags, blobs=cache.blobs, as_of=as_of),
            account=shown.account,
            as_of=as_of,
        )


def _redirector(settings: Settings, backing: Backing, cache: Cache) -> Redirector | None:
    s3 = settings.storage.s3
    if s3 is None or backing.presigned is None:
        return None
    return Redirector(cache.blobs, backing.presigned, bytes_min=s3.redirect_bytes_min)


def _certificates(settings: Settings) -> Certificates | None:
    if settings.tls_cert_file is None or settings.tls_key_file is None:
        return None
    return Certificates(settings.tls_cert_file, settings.tls_key_file, settings.tls_client_ca_file)
