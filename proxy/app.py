"""Composition root: settings become objects, objects become servers.

The only module that knows every implementation, and the owner of all lifetimes:
what is opened here is closed here, in reverse order.
"""

from __future__ import annotations

import asyncio
import contextlib
import resource
import secrets
import signal
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from typing import Self

import structlog
from aiohttp import web

from proxy import __version__, logs
from proxy.backing import Backing, check_advertised, open_backing
from proxy.cache.assembly import Cache, Limits
from proxy.config import Settings
from proxy.errors import StartupError
from proxy.events import PeerServed
from proxy.status import Status
from proxy.telemetry import Telemetry
from proxy.upkeep import Upkeep
from proxy.upstreams import expose, open_upstreams, policies, routes
from proxy.web.access import access_log
from proxy.web.ops import admin_app
from proxy.web.peers import PeerHandler
from proxy.web.redirect import Redirector
from proxy.web.registry import RegistryHandler
from proxy.web.server import BACKLOG, PullServer, listen
from proxy.web.tls import Certificates

# Writers of spools; more would only queue in the disk.
_DISK_THREADS = 8
_FILES_WANTED = 65_536

log = structlog.get_logger("entrepot")


def run(settings: Settings) -> int:
    """Serve until SIGTERM or SIGINT; the exit code. Raises `StartupError`."""
    logs.configure(settings.log_format, settings.log_level)
    _raise_file_limit()
    return asyncio.run(_serve(settings))


async def _serve(settings: Settings) -> int:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    async with Entrepot(settings) as entrepot:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        print(_greeting(entrepot), flush=True)  # noqa: T201 - for the person who started it
        await stop.wait()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)  # A second one ends it at once.
        await entrepot.drain()
    return 0


class Entrepot:
    """A running proxy. `async with` starts and ends it.

    `address` and `admin_address` are `host:port` as really bound. Entering
    raises `StartupError`.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.telemetry = Telemetry()
        self.address = ""
        self.admin_address = ""
        self.status: Status | None = None
        self._stack = AsyncExitStack()
        self._pull_site: web.TCPSite | None = None
        self._draining = False

    async def __aenter__(self) -> Self:
        """Everything is opened before the pull port accepts."""
        async with AsyncExitStack() as stack:
            await self._start(stack)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, *_exc: object) -> None:
        await self._stack.aclose()

    async def drain(self) -> None:
        """Stop accepting and let what runs finish, within the configured times."""
        self._draining = True
        log.info("draining", delay_s=self.settings.drain_delay_s, limit_s=self.settings.drain_s)
        await asyncio.sleep(self.settings.drain_delay_s)
        if self._pull_site is not None:
            await self._pull_site.stop()
        if self.status is not None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self.settings.drain_s):
                    await self.status.wait_idle()

    async def _start(self, stack: AsyncExitStack) -> None:
        settings, observe = self.settings, self.telemetry.observe
        backing = await stack.enter_async_context(open_backing(settings, observe))
        upstreams = await stack.enter_async_context(
            open_upstreams(
                settings,
                observe,
                backing.shared,
                together=backing.coordination if backing.fleet.together else None,
            )
        )
        disk = stack.enter_context(ThreadPoolExecutor(_DISK_THREADS, thread_name_prefix="disk"))
        cache = Cache(
            local=backing.local.blobs,
            records=backing.records,
            fleet=backing.fleet,
            shared=backing.shared,
            coordination=backing.coordination,
            disk=disk,
            observe=observe,
            clock=time.time,
            policies=policies(settings),
            expose=expose(settings),
            limits=_limits(settings),
        )
        stack.push_async_callback(cache.aclose)
        self.status = status = Status(cache, backing, upstreams)
        self.telemetry.gauges(status.gauges())
        handler = RegistryHandler(
            routes=routes(settings),
            upstreams=upstreams,
            tags=cache.tags,
            blobs=cache.blobs,
            listings=cache.listings,
            observe=observe,
            access=access_log(enabled=settings.access_log),
            header_budget_s=settings.header_budget_s,
            send_stall_s=settings.send_stall_s,
            relay_429=frozenset(n for n, one in settings.upstreams.items() if one.relay_429),
            dockerd_blob_404=settings.dockerd_blob_404,
            redirector=_redirector(settings, backing, cache),
        )
        upkeep = Upkeep(settings, backing, upstreams, observe)
        await stack.enter_async_context(upkeep)
        await self._listen_admin(stack, status, upkeep)
        await self._listen_peers(stack, backing, cache)
        await self._listen(stack, status, handler)

    async def _listen(
        self, stack: AsyncExitStack, status: Status, handler: RegistryHandler
    ) -> None:
        settings = self.settings
        certificates = _certificates(settings)
        if certificates is not None:
            await asyncio.to_thread(certificates.load)
            following = asyncio.create_task(certificates.follow())
            stack.callback(following.cancel)
        server = PullServer(
            handler,
            connections_max=settings.connections_max,
            header_bytes_max=settings.header_bytes_max,
        )
        status.server = server
        # What runs has had drain_s already. Not 0: to aiohttp that means "no limit".
        runner = web.ServerRunner(server, shutdown_timeout=0.1)
        await runner.setup()
        stack.push_async_callback(runner.cleanup)
        tls = None if certificates is None else certificates.context
        try:
            self._pull_site = await listen(
                runner, settings.listen, tls=tls, reuse_port=settings.reuse_port
            )
        except OSError as error:
            raise StartupError(f"can't listen at {settings.listen}: {error.strerror}") from error
        self.address = _bound(runner)

    async def _listen_peers(self, stack: AsyncExitStack, backing: Backing, cache: Cache) -> None:
        secret = self.settings.peer_secret
        if backing.peer_socket is None or secret is None:
            return
        identity = secrets.token_hex(8)
        handler = PeerHandler(
            secret=secret.get_secret_value().encode(),
            identity=identity,
            flights=cache.flights,
            local=backing.local.blobs,
            clock=time.time,
            send_stall_s=self.settings.send_stall_s,
            sent=lambda count: self.telemetry.observe(PeerServed(count=count)),
        )
        server = web.Server(handler, handler_cancellation=True, access_log=None)
        runner = web.ServerRunner(server, shutdown_timeout=0.1)
        await runner.setup()
        stack.push_async_callback(runner.cleanup)
        await web.SockSite(runner, backing.peer_socket, backlog=BACKLOG).start()
        checking = asyncio.create_task(check_advertised(backing, identity))
        stack.callback(checking.cancel)

    async def _listen_admin(self, stack: AsyncExitStack, status: Status, upkeep: Upkeep) -> None:
        async def scrub() -> dict[str, object]:
            return (await upkeep.scrub()).document()

        async def evict(dry_run: bool) -> dict[str, object]:
            return (await upkeep.expire(dry_run=dry_run)).document()

        app = admin_app(
            ready=self._missing,
            metrics=self.telemetry.render,
            status=status.document,
            scrub=scrub,
            evict=evict,
        )
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
        await runner.setup()
        stack.push_async_callback(runner.cleanup)
        try:
            await listen(runner, self.settings.admin_listen)
        except OSError as error:
            raise StartupError(
                f"can't listen at {self.settings.admin_listen}: {error.strerror}"
            ) from error
        self.admin_address = _bound(runner)

    def _missing(self) -> str | None:
        if self._draining:
            return "draining"
        return None if self._pull_site is not None else "starting"


def _limits(settings: Settings) -> Limits:
    return Limits(
        memory_bytes_max=settings.memory_bytes_max,
        memory_object_bytes_max=settings.memory_object_bytes_max,
        manifest_bytes_max=settings.manifest_bytes_max,
        flights_max=settings.flights_max,
        header_budget_s=settings.header_budget_s,
        revalidate_budget_s=settings.revalidate_budget_s,
        negative_s=settings.negative_s,
        expose_recheck_s=settings.expose_recheck_s,
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


def _bound(runner: web.BaseRunner) -> str:
    host, port = runner.addresses[0][:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _raise_file_limit() -> None:
    """As far as the hard limit allows: a socket for each client, a file for each blob."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _FILES_WANTED if hard == resource.RLIM_INFINITY else min(hard, _FILES_WANTED)
    if soft < wanted:
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _greeting(entrepot: Entrepot) -> str:
    settings, address = entrepot.settings, entrepot.address
    scheme = "https" if settings.tls_cert_file is not None else "http"
    insecure = "" if scheme == "https" else " --tls-verify=false"
    host = address.replace("0.0.0.0", "127.0.0.1")  # noqa: S104 - printed, not bound
    return (
        f"entrepot {__version__} (Python {sys.version.split()[0]}) serves pulls at "
        f"{scheme}://{address}, health and metrics at http://{entrepot.admin_address}, "
        f"keeps content in {settings.data_dir}\n"
        "Try:\n"
        f"  curl {scheme}://{host}/v2/\n"
        f"  podman pull{insecure} {host}/docker.io/library/alpine\n"
        f"  curl http://{entrepot.admin_address}/metrics"
    )
