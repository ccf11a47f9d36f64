"""The other replicas: do they answer where they say they are?"""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import urlsplit

from proxy.config import Settings, host_and_port
from proxy.doctor.finding import Finding
from proxy.upstream.peer import HttpPeers

_LOCAL = ("127.", "localhost", "::1")
_ANY = frozenset({"0.0.0.0", "::"})  # noqa: S104 - compared, not bound


async def examine(settings: Settings, others: Sequence[str], *, running: bool) -> list[Finding]:
    """`others`: where further replicas should be reached from here, as URLs."""
    if settings.peer_listen is None or settings.peer_secret is None:
        return []
    peers = HttpPeers(settings.peer_secret.get_secret_value().encode())
    try:
        own = await _own(settings, peers, running=running)
        return [own, *[await _other(peers, url) for url in others]]
    finally:
        await peers.aclose()


async def _own(settings: Settings, peers: HttpPeers, *, running: bool) -> Finding:
    name, url = "advertise_url", settings.advertise_url
    if url is None:
        host, port = host_and_port(settings.peer_listen or "")
        if host in _ANY:
            said = "advertise_url is found out at start; the server's log says how that went"
            return Finding(name, "skipped", said)
        url = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
    host = urlsplit(url).hostname or ""
    if host.startswith(_LOCAL):
        todo = "set advertise_url to an address of this machine in the replicas' network"
        said = f"{url} is each replica itself; the others will not find this one"
        return Finding(name, "warn", said, todo)
    if not running:
        return Finding(name, "skipped", f"no server is running that would answer at {url}")
    if await peers.ping(url) is None:
        todo = "set advertise_url to where others reach peer_listen, and open that port"
        return Finding(name, "fail", f"no replica with our secret answers at {url}", todo)
    return Finding(name, "ok", f"a replica with our secret answers at {url}")


async def _other(peers: HttpPeers, url: str) -> Finding:
    if await peers.ping(url) is None:
        todo = "is it up, is the port open from here, and does it have the same peer_secret?"
        return Finding(f"peer {url}", "fail", f"no replica with our secret answers at {url}", todo)
    return Finding(f"peer {url}", "ok", f"a replica with our secret answers at {url}")
