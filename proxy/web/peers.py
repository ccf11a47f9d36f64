"""The peer listener: what this replica has, or is just getting, for other replicas.

It never starts a fetch, so nothing is forwarded twice. Nothing is withheld for
verification either: the asking replica verifies before its clients see the end.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from aiohttp import web

from proxy.cache import peering
from proxy.cache.content import Bytes, Content, File
from proxy.cache.flights import Flights
from proxy.cache.following import Following
from proxy.cache.local import LocalBlobs
from proxy.cache.spool import Spool
from proxy.errors import EntrepotError
from proxy.oci.ranges import ByteRange
from proxy.ports import BlobKey, Clock
from proxy.web.send import Sender, deliver

# Then "nothing yet": who asked looks again, and knows that we live.
_WAIT_HEAD_S = 3.0


class PeerHandler:
    """Answers signed requests of other replicas. `identity` names this one."""

    def __init__(
        self,
        *,
        secret: bytes,
        identity: str,
        flights: Flights,
        local: LocalBlobs,
        clock: Clock,
        send_stall_s: float,
        sent: Callable[[int], None],
    ) -> None:
        self._secret = secret
        self._identity = identity
        self._flights = flights
        self._local = local
        self._clock = clock
        self._send_stall_s = send_stall_s
        self._sent = sent

    async def __call__(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request."""
        signature = request.headers.get("Authorization", "")
        genuine = peering.signed(
            self._secret, signature, request.method, request.raw_path, now=self._clock()
        )
        if not genuine:
            return web.Response(status=403, text="not signed by a replica\n")
        if request.raw_path == peering.PING:
            return web.Response(text=self._identity)
        asked = peering.parse_target(request.raw_path)
        if asked is None or request.method != "GET":
            return web.Response(status=400, text="not a request of version 1\n")
        key, start = asked
        content = await self._content(key, start)
        if content is None:
            return web.Response(status=404, text="neither here nor on its way\n")
        return await self._send(request, content, start)

    async def _send(
        self, request: web.BaseRequest, content: Content, start: int
    ) -> web.StreamResponse:
        try:
            if start > content.size:
                return web.Response(status=416, text="beyond the end\n")
            written = content.written if isinstance(content, File) else content.size
            response = web.StreamResponse(
                headers={"Entrepot-Size": str(content.size), "Entrepot-Written": str(written)}
            )
            response.content_length = content.size - start
            await response.prepare(request)
            sender = Sender(request, response, stall_s=self._send_stall_s)
            try:
                complete = await deliver(sender, content, [ByteRange(start, content.size)])
            finally:
                self._sent(sender.sent)
            if complete:
                await response.write_eof()
            return response
        finally:
            content.close()

    async def _content(self, key: BlobKey, start: int) -> Content | None:
        flight = self._flights.get(key)
        if flight is not None:
            try:
                async with asyncio.timeout(_WAIT_HEAD_S):
                    found = await flight.wait_any_content()
            except (EntrepotError, TimeoutError):
                return None
            if isinstance(found, bytes):
                return Bytes(found, "join")
            # Where only ranges are brought, the rest of it may never come.
            if (
                isinstance(found, Spool)
                and found.file is not None
                and not flight.parting
                and (flight.whole or found.readable(start, whole=False) > start)
            ):
                following = Following(flight, found.size, demanding=False)
                return File(
                    found.file.hold(), "join", spool=found, following=following, unverified=True
                )
        file = self._local.peek(key) or await self._local.open_file(key)
        return None if file is None else File(file, "hit")
