"""The pull listener: aiohttp's low-level server with our limits and our errors."""

from __future__ import annotations

import asyncio
import ssl
import time
from typing import Any

from aiohttp import http_exceptions, web
from aiohttp.web_protocol import RequestHandler

from proxy.web.exchange import API_VERSION
from proxy.web.fastlane import HEAD_BYTES_MAX, Answer, FastLane
from proxy.web.problems import Problem

# 1,024 clients that connect at once wait 1.0 s (p99) at 128 and 0.17 s at 4096.
BACKLOG = 4096
_KEEPALIVE_S = 75.0
_FIRST_HEAD_S = 30.0
_LINGER_S = 5.0
_SHED_LINGER_S = 2.0
_HEADERS_MAX = 128
_LINE_BYTES_MAX = 8190
_SHED_BODY = Problem(503, "UNAVAILABLE", "too many connections", {}).body()
_SHED_HEADERS = {
    "Content-Type": "application/json",
    "Content-Length": str(len(_SHED_BODY)),
    "Connection": "close",
    **API_VERSION,
}
_SHED = b"HTTP/1.1 503 Service Unavailable\r\n%b\r\n%b" % (
    "".join(f"{name}: {value}\r\n" for name, value in _SHED_HEADERS.items()).encode(),
    _SHED_BODY,
)
# The first that fits. aiohttp's own words quote the bytes that it could not read.
_REFUSALS: tuple[tuple[type[BaseException], str], ...] = (
    (http_exceptions.LineTooLong, "the request line or a header field is too long"),
    (http_exceptions.InvalidHeader, "a header field can't be read"),
    (http_exceptions.InvalidURLError, "the request target can't be read"),
    (http_exceptions.BadHttpMethod, "this is no HTTP request"),
    (http_exceptions.BadStatusLine, "the request line can't be read"),
    (http_exceptions.PayloadEncodingError, "the request body can't be read"),
)
_UNREADABLE = "the request can't be read"
_END = b"\r\n\r\n"


class Connection(RequestHandler):
    """One client connection.

    What arrives goes to aiohttp's parser, except for heads that the fast lane knows.
    Those are answered right here, but only at the border between two requests: the
    last one is answered and taken by the client, and the parser holds no bytes (the
    last it was given ended with a blank line; had that been inside of a body, the
    request would not be over).
    """

    __slots__ = ("_hurry", "_lane", "_remote", "_server", "_whole", "head")

    def __init__(self, server: PullServer, **limits: Any) -> None:
        super().__init__(server, loop=asyncio.get_running_loop(), **limits)
        self._server = server
        self._hurry: asyncio.TimerHandle | None = None
        self._lane = server.lane
        self._remote = ""
        self._whole = True
        self.head: bytes | None = None
        """All bytes of the request that is being answered, if they came alone and at once."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Shed what is above the limit before anything is parsed."""
        super().connection_made(transport)
        loop, server = asyncio.get_running_loop(), self._server
        name = transport.get_extra_info("peername")
        self._remote = str(name[0]) if isinstance(name, tuple) and name else ""
        if len(server.connections) > server.connections_max and self.transport is not None:
            # Reads nothing any more, but does not close the socket yet: a request
            # that is unread at that moment would become a reset, and the client
            # would not see the answer.
            self.close()
            self.transport.write(_SHED)
            if self.transport.can_write_eof():
                self.transport.write_eof()
            self._hurry = loop.call_later(_SHED_LINGER_S, self.transport.abort)
        else:
            self._hurry = loop.call_later(server.first_head_s, self._end_if_silent)

    def connection_lost(self, exc: BaseException | None) -> None:
        """The client is gone, or we let go."""
        if self._hurry is not None:
            self._hurry.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Answer, or let it be parsed."""
        lane = self._lane
        if lane is not None and data:
            answer = lane.answers.get(data)
            if answer is None:
                data = self._answer_known(lane, data)
                if not data:
                    return
            elif self._answered(lane, answer):
                return
        if data:
            alone = len(data) <= HEAD_BYTES_MAX and data.find(_END) == len(data) - len(_END)
            self.head = data if alone and self._between() else None
            self._whole = data.endswith(_END)
        super().data_received(data)

    def _between(self) -> bool:
        """Whether the next byte is the first of a request, and nobody waits for an answer."""
        waiter, transport = self._waiter, self.transport
        return (
            self._whole
            and waiter is not None
            and not waiter.done()
            and transport is not None
            and not self._close
            and not self._upgraded
            and not self._buffer_paused
            and not transport.get_write_buffer_size()
        )

    def _answered(self, lane: FastLane, answer: Answer) -> bool:
        """Whether this head, which is next, could be answered at once."""
        transport = self.transport
        if transport is None or not self._between():
            return False
        now = lane.clock()
        if not (answer.since <= now < answer.until or lane.renew(answer, now)):
            return False
        if lane.untraced is not None and not lane.untraced():
            return False
        started = time.monotonic()
        transport.write(answer.ready)
        ended = time.monotonic()
        self._request_count += 1
        self._next_keepalive_close_time = ended + _KEEPALIVE_S
        lane.used(answer, self._remote, now, ended - started)
        return True

    def _answer_known(self, lane: FastLane, data: bytes) -> bytes:
        """Several heads at once, or a piece of one: what is left for the parser."""
        start = 0
        while (end := data.find(_END, start)) >= 0:
            end += len(_END)
            answer = lane.answers.get(data[start:end])
            if answer is None or not self._answered(lane, answer):
                break
            start = end
        return data[start:] if start else data

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,  # noqa: ARG002 - aiohttp's signature
    ) -> web.StreamResponse:
        """What the HTTP parser refused, as an OCI error; the connection ends."""
        if request.writer.output_size > 0:
            raise ConnectionError("the head is out already")
        if status < 500:
            text = next((words for kind, words in _REFUSALS if isinstance(exc, kind)), _UNREADABLE)
            problem = Problem(status, "UNSUPPORTED", text, {})
        else:
            problem = Problem(status, "UNKNOWN", "something unexpected went wrong", {})
        headers = {"Content-Type": "application/json", **API_VERSION}
        response = web.Response(status=status, body=problem.body(), headers=headers)
        response.force_close()
        return response

    def end_if_idle(self) -> None:
        """End as soon as no request is being answered, at best now."""
        self.close()
        if not self._request_in_progress and not self._messages:
            self.force_close()

    def _end_if_silent(self) -> None:
        """No whole head yet: a sender this slow would hold its place for ever.

        Later heads of the same connection fall under the keep-alive limit.
        """
        if self._request_count == 0:
            self.force_close()


class PullServer(web.Server):
    """Hands out `Connection`s."""

    def __init__(
        self,
        handler: Any,
        *,
        connections_max: int,
        header_bytes_max: int,
        first_head_s: float = _FIRST_HEAD_S,
        lane: FastLane | None = None,
    ) -> None:
        # Handlers own nothing, so cancelling one whose client left is safe.
        super().__init__(handler, handler_cancellation=True)
        self.connections_max = connections_max
        self.first_head_s = first_head_s
        self.lane = lane
        self._limits: dict[str, Any] = {
            "max_line_size": _LINE_BYTES_MAX,
            "max_field_size": header_bytes_max,
            "max_headers": _HEADERS_MAX,
            "keepalive_timeout": _KEEPALIVE_S,
            "lingering_time": _LINGER_S,
            "auto_decompress": False,
            "access_log": None,
        }

    def pre_shutdown(self) -> None:
        """Let go of clients that are only keeping their connection; the others'
        ends with the answer that they are being sent.
        """
        for connection in self.connections:
            if isinstance(connection, Connection):
                connection.end_if_idle()

    def __call__(self) -> RequestHandler:
        """A protocol for one accepted connection."""
        return Connection(self, **self._limits)


async def listen(
    runner: web.BaseRunner,
    address: str,
    *,
    tls: ssl.SSLContext | None = None,
    reuse_port: bool = False,
) -> web.TCPSite:
    """Start accepting at `host:port`. Raises OSError."""
    host, _, port = address.rpartition(":")
    site = web.TCPSite(
        runner,
        host.strip("[]") or None,
        int(port),
        backlog=BACKLOG,
        ssl_context=tls,
        reuse_port=reuse_port or None,
    )
    await site.start()
    return site
