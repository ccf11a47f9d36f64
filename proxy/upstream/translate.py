"""From aiohttp's and the system's exceptions to ours: the edge of this layer.

Messages name the upstream and the host, never a URL: queries of signed URLs
and tokens must not end up in logs or answers.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import aiohttp

from proxy.errors import BadUpstreamAnswer, UpstreamUnavailable

LIBRARY_ERRORS = (aiohttp.ClientError, OSError, TimeoutError, ValueError)
"""All that a request may raise for reasons outside this program.

`ValueError`: aiohttp's for heads and URLs that it won't send or can't read.
"""


def no_answer(name: str, host: str, error: BaseException) -> UpstreamUnavailable:
    """What `error` means when it came in place of an answer's head."""
    return _kind(error)(f"{name}: {_said(host, error)}")


@contextmanager
def naming(name: str) -> Iterator[None]:
    """Put the upstream's name before what the pure parsers, who don't know it,
    say of its answers.
    """
    try:
        yield
    except BadUpstreamAnswer as error:
        if str(error).startswith(name):
            raise
        raise type(error)(f"{name}: {error}") from error


def _kind(error: BaseException) -> type[UpstreamUnavailable]:
    gibberish = isinstance(error, aiohttp.ClientResponseError | aiohttp.ClientPayloadError)
    refused = isinstance(error, aiohttp.ClientHttpProxyError)
    unsendable = isinstance(error, ValueError) and not isinstance(error, OSError)
    return BadUpstreamAnswer if (gibberish and not refused) or unsendable else UpstreamUnavailable


def _said(host: str, error: BaseException) -> str:
    said = next((text for kind, text in _TEXTS if isinstance(error, kind)), _UNUSABLE)
    return said.format(host=host, status=getattr(error, "status", ""))


_UNUSABLE = "{host} sent something that can't be used"
# The first that fits: from the particular to the general.
_TEXTS: tuple[tuple[type[BaseException], str], ...] = (
    (aiohttp.ClientHttpProxyError, "the proxy on the way to {host} answered {status}"),
    (aiohttp.ClientConnectorCertificateError, "the certificate of {host} is not trusted"),
    (aiohttp.ClientSSLError, "no TLS with {host}"),
    (aiohttp.ClientConnectorDNSError, "the name {host} can't be resolved"),
    (aiohttp.ConnectionTimeoutError, "{host} did not accept a connection in time"),
    (TimeoutError, "{host} did not answer in time"),
    (aiohttp.ClientProxyConnectionError, "the proxy on the way to {host} can't be reached"),
    (aiohttp.ClientConnectorError, "no connection to {host}"),
    (aiohttp.ClientResponseError, "{host} sent something that is no HTTP answer"),
    (aiohttp.ClientPayloadError, "{host} sent something that is no HTTP answer"),
    (aiohttp.ClientConnectionError, "{host} closed the connection without an answer"),
    (OSError, "{host} closed the connection without an answer"),
)
