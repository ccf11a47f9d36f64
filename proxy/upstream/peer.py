"""Other replicas as sources: reading the spool of a fill that runs elsewhere.

Bytes are not trusted more than an upstream's: the reader hashes them itself. A
refused or reset connection means that the process is gone (`PeerGone`), silence
that it may only be stuck (`TransferBroken`); the reader draws its conclusions.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import aiohttp
from yarl import URL

from proxy import tracing
from proxy.cache import peering
from proxy.cache.lru import Lru
from proxy.errors import PeerGone, PeerUnreachable, TransferBroken
from proxy.ports import BlobKey, Body

STALL_S = 10.0
_CONNECT_S = 2.0
# Longer than a living replica takes to say that it has nothing yet (`web/peers.py`),
# and so short that our own client still has its answer in time.
_HEAD_S = 5.0
# One that is silent is not waited for by every blob anew.
_SHUNNED_S = 30.0
_SHUNNED_MAX = 256
_READ_BUFFER_BYTES = 1024 * 1024


class HttpPeers:
    """`cache.peering.Peers` over HTTP; one connection pool for all replicas."""

    def __init__(
        self, secret: bytes, *, stall_s: float = STALL_S, clock: Callable[[], float] = time.time
    ) -> None:
        self._secret = secret
        self._stall_s = stall_s
        self._clock = clock
        self._session: aiohttp.ClientSession | None = None
        self._silent_since: Lru[str, float] = Lru(_SHUNNED_MAX)

    @asynccontextmanager
    async def open_blob(
        self, owner: str, key: BlobKey, *, start: int, ahead_max: int | None = None
    ) -> AsyncIterator[Body | None]:
        """See `Peers`."""
        target = peering.target(key, start)
        response = await self._get(owner, target)
        try:
            if response.status == 404:
                yield None
                return
            size = response.headers.get("Entrepot-Size", "")
            if response.status != 200 or not size.isdecimal():
                raise TransferBroken(f"the replica at {owner} answered {response.status}")
            written = response.headers.get("Entrepot-Written", size)
            if ahead_max is not None and written.isdecimal() and start > int(written) + ahead_max:
                yield None
                return
            yield Body(int(size), start, self._chunks(response, int(size) - start))
        finally:
            # Never drained: what is left of the body is of no use.
            response.close()

    async def ping(self, url: str) -> str | None:
        """The identity of the replica at `url`; None if none of ours answers there."""
        try:
            async with asyncio.timeout(_CONNECT_S + 1):
                response = await self._get(url, peering.PING)
                async with response:
                    return await response.text() if response.status == 200 else None
        except (TransferBroken, TimeoutError, aiohttp.ClientError):
            return None

    async def aclose(self) -> None:
        """Close all connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def _get(self, owner: str, target: str) -> aiohttp.ClientResponse:
        signature = peering.sign(self._secret, "GET", target, now=self._clock())
        headers = {
            "Authorization": signature,
            "Accept-Encoding": "identity",
            **tracing.headers(),
        }
        url = URL(owner.rstrip("/") + target, encoded=True)
        if time.monotonic() - (self._silent_since.get(owner) or -_SHUNNED_S) < _SHUNNED_S:
            raise PeerUnreachable(f"the replica at {owner} did not answer a moment ago")
        try:
            async with asyncio.timeout(_HEAD_S):
                return await self._opened().get(url, headers=headers, allow_redirects=False)
        except aiohttp.ServerDisconnectedError as error:
            raise PeerGone(f"the replica at {owner} hung up") from error
        except aiohttp.ClientConnectorError as error:
            # Only a refusal says that there is no process; the rest may be the network.
            kind = (
                PeerGone if isinstance(error.os_error, ConnectionRefusedError) else PeerUnreachable
            )
            raise kind(f"the replica at {owner} can't be reached") from error
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            self._silent_since.put(owner, time.monotonic())
            raise PeerUnreachable(f"the replica at {owner} does not answer") from error

    async def _chunks(
        self, response: aiohttp.ClientResponse, expected: int
    ) -> AsyncIterator[bytes]:
        received = 0
        try:
            while True:
                async with asyncio.timeout(self._stall_s):
                    chunk = await response.content.readany()
                if not chunk:
                    break
                received += len(chunk)
                yield chunk
        except TimeoutError as error:
            raise TransferBroken(
                f"the other replica sent nothing for {self._stall_s:g} s"
            ) from error
        except (aiohttp.ClientError, OSError) as error:
            raise PeerGone("the other replica cut the connection") from error
        if received < expected:
            raise PeerGone("the other replica ended early")

    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0),
                auto_decompress=False,
                cookie_jar=aiohttp.DummyCookieJar(),
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_S),
                read_bufsize=_READ_BUFFER_BYTES,
                trust_env=False,
            )
        return self._session
