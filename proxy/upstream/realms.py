"""Where requests may go, and who may see our credentials. Pure decisions.

An upstream's answers name other places: `Location` of a redirect, `realm` of a
challenge. Both are written by somebody else, so both are checked here before
anything is dialled, and a password goes only where its owner would expect it.

Not decided here: what a *name* resolves to. Inside a company a redirect to
`minio.internal` is normal; only literal addresses can be judged by looking.

Sources: go-containerregistry `bearer.go` (`validateRealmURL`) and
`fetcher.go` (`checkRedirectSSRF`); containerd sends no Authorization across hosts.
"""

from __future__ import annotations

import contextlib
import functools
import ipaddress
import re
import socket
from collections.abc import Collection
from typing import TYPE_CHECKING, NamedTuple

from yarl import URL

from proxy.errors import BadUpstreamAnswer

if TYPE_CHECKING:
    from publicsuffixlist import PublicSuffixList

# What aiohttp may put on the wire as it is: no spaces, controls or raw UTF-8.
_SENDABLE = re.compile(r"[\x21-\x7e]+")
_HOST = re.compile(r"[A-Za-z0-9._-]+|[0-9A-Fa-f:.]+(?:%[A-Za-z0-9]+)?")
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")


class Origin(NamedTuple):
    """Scheme, host (lower case) and port: what "the same server" means."""

    scheme: str
    host: str
    port: int

    @classmethod
    def of(cls, url: URL) -> Origin:
        """The origin of an absolute http(s) URL."""
        return cls(url.scheme, (url.raw_host or "").lower().rstrip("."), url.port or 0)


def is_private(host: str) -> bool:
    """Whether `host` is a literal (or localhost) outside the public Internet.

    Also sees through the spellings that resolvers take for addresses
    (`127.1`, `0x7f000001`, `2130706433`, `::ffff:10.0.0.1`).
    """
    if host == "localhost" or host.endswith(".localhost"):
        return True
    address = _address(host.partition("%")[0])
    if address is None:
        return False
    if isinstance(address, ipaddress.IPv6Address):
        address = _inner(address) or address
    return not address.is_global or address.is_multicast


def redirect_target(upstream: Origin, current: URL, location: str) -> URL:
    """The absolute URL that `location` leads to, exactly as it was signed.

    Raises `BadUpstreamAnswer` for other schemes, for https → http, for user
    info, and for private addresses unless the upstream is one itself.
    """
    target = _absolute(location, current)
    if target is None:
        raise BadUpstreamAnswer("a redirect leads to something that is no http(s) address")
    if current.scheme == "https" and target.scheme != "https":
        raise BadUpstreamAnswer("a redirect leads from https to http")
    _refuse_private(upstream, Origin.of(target), "a redirect")
    return target


def realm_url(
    upstream: Origin, challenger: Origin, realm: str, token_realms: Collection[str]
) -> URL:
    """The token endpoint that `challenger` named, if it may be asked at all.

    https, or plain http where nothing is lost by it: the challenger itself
    speaks http, and the realm is on the same host, loopback, or listed.
    Raises `BadUpstreamAnswer` otherwise.
    """
    target = _absolute(realm, None)
    if target is None:
        raise BadUpstreamAnswer("the realm of the challenge is no http(s) address")
    origin = Origin.of(target)
    if origin.scheme != "https":
        plain = origin.host == challenger.host or origin.host in token_realms
        loopback = _is_loopback(origin.host) and _is_loopback(challenger.host)
        if challenger.scheme != "http" or not (plain or loopback):
            raise BadUpstreamAnswer(f"the realm {origin.host} is not https")
    if origin.host != challenger.host:
        _refuse_private(upstream, origin, "the realm")
    return target


def may_see_credentials(upstream: Origin, realm: Origin, token_realms: Collection[str]) -> bool:
    """Whether our password may be shown to a token endpoint of this upstream.

    The first question about a foreign host reads the public suffix list from
    disk; ask from a thread.
    """
    if realm.host == upstream.host or realm.host in token_realms:
        return True
    owner = _registrable_domain(upstream.host)
    return owner is not None and owner == _registrable_domain(realm.host)


def _absolute(text: str, base: URL | None) -> URL | None:
    """Never requoted: a signature covers the bytes as they were sent."""
    if _SENDABLE.fullmatch(text) is None:
        return None
    try:
        url = URL(text, encoded=True)
        if base is not None:
            url = base.join(url)
        known = url.scheme in {"http", "https"} and url.port is not None and url.raw_user is None
    except ValueError:
        return None
    return url.with_fragment(None) if known and _HOST.fullmatch(url.raw_host or "") else None


def _refuse_private(upstream: Origin, target: Origin, what: str) -> None:
    if target.host == upstream.host or is_private(upstream.host):
        return
    if is_private(target.host):
        raise BadUpstreamAnswer(f"{what} leads to the private address {target.host}")


def _is_loopback(host: str) -> bool:
    address = _address(host)
    return host == "localhost" or (address is not None and address.is_loopback)


def _inner(address: ipaddress.IPv6Address) -> ipaddress.IPv4Address | None:
    """The IPv4 address that a mapped, 6to4 or NAT64 address leads to."""
    if address in _NAT64:
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped or address.sixtofour


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(host)
    try:
        return ipaddress.IPv4Address(socket.inet_aton(host))
    except OSError:
        return None


@functools.lru_cache(maxsize=256)
def _registrable_domain(host: str) -> str | None:
    """`docker.io` of `auth.docker.io`; None for addresses and for names under
    no known public suffix: `a.cluster.local` and `b.cluster.local` may well
    belong to two parties.
    """
    if _address(host) is not None:
        return None
    domain: str | None = _public_suffixes().privatesuffix(host)
    return domain


@functools.cache
def _public_suffixes() -> PublicSuffixList:
    # Its table takes time and memory; most upstreams never need it.
    from publicsuffixlist import PublicSuffixList  # noqa: PLC0415 - see above

    return PublicSuffixList(accept_unknown=False)
