"""The settings of one upstream, and the HTTP session that follows from them.

One session (one connection pool) an upstream, so that a slow upstream can't
use up the connections of another. It is opened by the first request: an
upstream that nobody asks for costs nothing.

What is switched off, and why: cookies and the environment's proxies and netrc
(nobody asked for them here); decompression (digests are over the bytes as
stored); requoting of redirects (signatures are over the bytes as sent).
"""

from __future__ import annotations

import asyncio
import math
import socket
import ssl
from dataclasses import dataclass, field

import aiohttp
from yarl import URL

from proxy import __version__, tracing
from proxy.config.quota import Reserve
from proxy.errors import UpstreamUnavailable
from proxy.upstream.credentials import CredentialSource
from proxy.upstream.link.pacer import UpstreamLink, unlimited
from proxy.upstream.realms import Origin

USER_AGENT = f"entrepot/{__version__}"
"""Some edges answer 403 to a request without one."""

READ_BUFFER_BYTES = 1024 * 1024
"""Reading from a socket pauses when twice this waits to be taken.

A reader that keeps up gets 256 KiB at a time whatever stands here (asyncio's
own limit; 64 KiB here cost half as much CPU again in a measurement, 256 KiB to
4 MiB were alike). The rest is for a reader that is busy with the disk: what
came meanwhile is handed over in one piece, and the sender need not wait.
"""

_PACED_READ_BYTES = 32 * 1024
_SEGMENT_BYTES = 1400

_HEADER_BYTES_MAX = 64 * 1024
"""Signed URLs in `Location` run to kilobytes; aiohttp's default is 8,190."""

_KEEPALIVE_S = 60.0
_DNS_TTL_S = 30


@dataclass(frozen=True, slots=True, kw_only=True)
class UpstreamConfig:
    """One upstream.

    `url` is scheme, host, port and perhaps a path that comes before `/v2/`.
    `further_credentials` are used in turn with `credentials`; `quota_reserve` and
    `quota_warm_reserve` are what `quota_budget.py` keeps back of each one's pulls.
    `token_realms` are hosts, besides those that `realms.py` finds itself, whose
    token endpoints may see the credentials. `insecure` accepts any certificate,
    of the upstream's own host only. `connect_s` bounds one connection attempt,
    `head_s` everything until an answer's head is there (waiting for a free
    connection, tokens and redirects included), `stall_s` the silence within a
    body; nothing bounds a whole transfer. `link` paces blobs.
    """

    name: str
    url: str
    credentials: CredentialSource | None = None
    further_credentials: tuple[CredentialSource, ...] = ()
    quota_reserve: Reserve = Reserve()  # noqa: RUF009 - frozen
    quota_warm_reserve: Reserve = Reserve()  # noqa: RUF009 - frozen
    ca_file: str | None = None
    insecure: bool = False
    proxy_url: str | None = None
    token_realms: tuple[str, ...] = ()
    connect_s: float = 5.0
    head_s: float = 10.0
    stall_s: float = 30.0
    connections_max: int = 32
    manifest_bytes_max: int = 8 * 1024 * 1024
    link: UpstreamLink = field(default_factory=unlimited)

    @property
    def base(self) -> URL:
        """What paths are appended to; without a slash at its end."""
        return URL(self.url.rstrip("/"))

    @property
    def origin(self) -> Origin:
        return Origin.of(self.base)

    @property
    def blob_connections_max(self) -> int:
        """Connections that blob bodies may use.

        Less than all: layers hold theirs for minutes, and a HEAD for a manifest
        must not queue behind them.
        """
        return max(1, self.connections_max - max(2, self.connections_max // 8))


class Session:
    """The lazily opened session of one upstream."""

    def __init__(self, config: UpstreamConfig) -> None:
        self._config = config
        self._session: aiohttp.ClientSession | None = None
        self._trust: bool | ssl.SSLContext = True
        self._closed = False

    async def request(
        self, method: str, url: URL, *, headers: dict[str, str], form: dict[str, str] | None = None
    ) -> aiohttp.ClientResponse:
        """Send one request, follow nothing; raises aiohttp's exceptions.

        The caller closes the response.
        """
        own = Origin.of(url).host == self._config.origin.host
        session = self._session or await self._open()
        return await session.request(
            method,
            url,
            # What a CDN is told besides may be more than its signature allows.
            headers=headers | tracing.headers() if own else headers,
            data=form,
            allow_redirects=False,
            ssl=False if self._config.insecure and own else self._trust,
            read_bufsize=self._read_bytes,
        )

    @property
    def _read_bytes(self) -> int:
        """Under a cap little is taken from the socket before it is known whether it may be."""
        capped = math.isfinite(self._config.link.rate)
        return _PACED_READ_BYTES if capped else READ_BUFFER_BYTES

    async def aclose(self) -> None:
        """Cut all connections; no request may follow."""
        self._closed = True
        if self._session is not None:
            await self._session.close()

    async def _open(self) -> aiohttp.ClientSession:
        trust: bool | ssl.SSLContext = True
        if self._config.ca_file is not None:
            # Disk work.
            trust = await asyncio.to_thread(self._trusting, self._config.ca_file)
        if self._closed:
            raise UpstreamUnavailable(f"{self._config.name} is closed")
        if self._session is None:
            self._trust, self._session = trust, _session(self._config)
        return self._session

    def _trusting(self, ca_file: str) -> ssl.SSLContext:
        """The system's authorities and those of `ca_file`: a token endpoint or
        CDN of a private registry may well be public.
        """
        context = ssl.create_default_context()
        try:
            context.load_verify_locations(ca_file)
        except OSError as error:
            name = self._config.name
            raise UpstreamUnavailable(f"{name}: its CA file can't be read: {error}") from error
        return context


def _session(config: UpstreamConfig) -> aiohttp.ClientSession:
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(
            limit=config.connections_max,
            keepalive_timeout=_KEEPALIVE_S,
            ttl_dns_cache=_DNS_TTL_S,
            socket_factory=lambda info: _socket(config, info),
        ),
        timeout=aiohttp.ClientTimeout(sock_connect=config.connect_s, sock_read=config.stall_s),
        headers={"User-Agent": USER_AGENT, "Accept-Encoding": "identity"},
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,
        requote_redirect_url=False,
        trust_env=False,
        proxy=config.proxy_url,
        read_bufsize=READ_BUFFER_BYTES,
        max_line_size=_HEADER_BYTES_MAX,
        max_field_size=_HEADER_BYTES_MAX,
    )


def _socket(config: UpstreamConfig, info: aiohttp.AddrInfoType) -> socket.socket:
    """For one connection. Under a cap, what the kernel takes in advance has come over the
    link, too; never changed later, since what it has taken beyond it would throw away.
    """
    made = socket.socket(*info[:3])
    window = config.link.window
    if window is not None:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, window)
        # Or a segment (64 KiB on loopback) may not fit, and the sender waits for its timer.
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, _SEGMENT_BYTES)
    return made
