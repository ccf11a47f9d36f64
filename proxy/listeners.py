"""The listeners for operators and for other replicas: each a server of its own."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Awaitable
from contextlib import AsyncExitStack
from typing import Protocol

from aiohttp import web

from proxy.backing import Backing, check_advertised
from proxy.cache.assembly import Cache
from proxy.config import Settings
from proxy.errors import StartupError
from proxy.events import PeerServed
from proxy.ports import Observe
from proxy.web.peers import PeerHandler
from proxy.web.server import BACKLOG, listen


async def listen_admin(stack: AsyncExitStack, address: str, app: web.Application) -> str:
    """Serve `app` until `stack` ends; `host:port` as really bound. Raises `StartupError`."""
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    stack.push_async_callback(runner.cleanup)
    try:
        await listen(runner, address)
    except OSError as error:
        raise StartupError(f"can't listen at {address}: {error.strerror}") from error
    return bound(runner)


async def listen_to_peers(
    stack: AsyncExitStack,
    settings: Settings,
    backing: Backing,
    cache: Cache,
    *,
    secret: bytes,
    observe: Observe,
) -> None:
    """Serve other replicas at `backing.peer_socket` until `stack` ends."""
    identity = secrets.token_hex(8)
    handler = PeerHandler(
        secret=secret,
        identity=identity,
        flights=cache.flights,
        local=backing.local.blobs,
        clock=time.time,
        send_stall_s=settings.send_stall_s,
        sent=lambda count: observe(PeerServed(count=count)),
    )
    server = web.Server(handler, handler_cancellation=True, access_log=None)
    runner = web.ServerRunner(server, shutdown_timeout=0.1)
    await runner.setup()
    stack.push_async_callback(runner.cleanup)
    if backing.peer_socket is not None:
        await web.SockSite(runner, backing.peer_socket, backlog=BACKLOG).start()
    checking = asyncio.create_task(check_advertised(backing, identity))
    stack.callback(checking.cancel)


class Documented(Protocol):
    """What an admin command did, for whoever asked for it."""

    def document(self) -> dict[str, object]: ...


async def documented(work: Awaitable[Documented]) -> dict[str, object]:
    """The outcome of an admin command as JSON. Raises like it."""
    return (await work).document()


def bound(runner: web.BaseRunner) -> str:
    """Where it listens: `host:port`."""
    host, port = runner.addresses[0][:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
