"""Keeps web pages off the admin listener.

It has no passwords: that it listens where only operators are is its protection. An
operator's browser is there as well, and runs what any page tells it to. So nothing is
done for a browser that works for a page: it says so (`Origin`, `Sec-Fetch-Site`), or
can't send what is asked of it without asking first (`Content-Type`: Fetch, "CORS-
safelisted request-header"). A page whose name was made to lead here (DNS rebinding) looks
to the browser like this listener's own, and only the `Host` header tells: it is a name in
public DNS, which whoever runs this has to allow.
"""

from __future__ import annotations

import socket
from collections.abc import Iterable
from ipaddress import ip_address

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

# Asked by probes and Prometheus, by whatever name; they show nothing of content.
_OPEN = frozenset({"/livez", "/readyz", "/metrics"})
_OWN_SITES = frozenset({"none", "same-origin"})
# Public DNS has no such names, so no page can have one.
_PRIVATE = (".local", ".internal", ".localhost", ".svc", ".cluster.local")
_WRITES = frozenset({"POST", "PUT", "PATCH", "DELETE"})
_TYPES = frozenset({"application/json", "application/octet-stream"})


def guarded(hosts: Iterable[str] = ()) -> Middleware:
    """Answers 403 to what a web page may have sent.

    `hosts`: further names of this listener, `host[:port]`; the port does not matter.
    """
    known = frozenset({_name(one) for one in hosts} | {socket.gethostname().lower()})

    @web.middleware
    async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
        trouble = _trouble(request, known)
        if trouble is not None:
            return web.Response(status=403, text=f"{trouble}\n")
        return await handler(request)

    return guard


def _trouble(request: web.Request, known: frozenset[str]) -> str | None:
    """Why it is not answered, None if it is."""
    site = request.headers.get("Sec-Fetch-Site", "none")
    if "Origin" in request.headers or site not in _OWN_SITES:
        return "the admin listener does nothing for web pages"
    # Without one it is no browser; `request.host` would put in a name of ours.
    host = request.headers.get("Host")
    if request.path not in _OPEN and host is not None and not _allowed(_name(host), known):
        return (
            f"the admin listener does not answer to the name {_name(host)[:100]!r}: "
            "use its address, or add the name to `admin_hosts`"
        )
    if request.method in _WRITES and not _typed(request):
        return "the admin listener takes Content-Type: application/json"
    return None


def _typed(request: web.Request) -> bool:
    """Whether the body is of a type that a page can't send unasked."""
    given = request.headers.get("Content-Type")
    if given is None:
        # Of no type is what a page posts untyped; its PUT is always asked about first.
        return request.method == "PUT" or not request.body_exists
    return given.partition(";")[0].strip().lower() in _TYPES


def _allowed(name: str, known: frozenset[str]) -> bool:
    if "." not in name or name in known or name.endswith(_PRIVATE):
        return True
    try:
        ip_address(name)
    except ValueError:
        return False
    return True


def _name(host: str) -> str:
    """`Registry.lan.:5001` -> `registry.lan`, `[::1]:5001` -> `::1`."""
    if host.startswith("["):
        return host[1:].partition("]")[0].lower()
    return host.partition(":")[0].rstrip(".").lower()
