"""Routing: method, raw request target and Host to one frozen value.

Pure, and it decides everything that can be decided without looking anything
up: a request that means nothing ends here, so no later layer meets a client's
string.

Three URL shapes reach the same content (clients differ in where they let a
mirror's path go; containerd, BuildKit, k3s and regctl add `ns=` to any):

    A  /v2/<name>/...             with ns=<upstream>, a listener host or a default
    B  /v2/<upstream>/<name>/...  podman, BuildKit, crane; containerd override_path
    C  /<upstream>/v2/<name>/...  dockerd mirrors with a path

C wins; then B, unless `ns` names another upstream (a Harbor project may well
be called `docker.io`); then `ns`; then the listener's host; then the default.
The list of upstreams is closed: `ns` is compared, never dialled.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypedDict

from proxy.errors import UnknownRoute, UnknownUpstream, UnsupportedOperation
from proxy.oci.digest import Digest
from proxy.oci.endpoints import (
    Addressed,
    Catalog,
    GetBlob,
    GetManifest,
    GetReferrers,
    ListTags,
    Ping,
    Route,
)
from proxy.oci.names import Repository, parse_reference
from proxy.oci.targets import absolute_form, after_v2, page, plain, query_values

__all__ = [
    "Addressed",
    "Catalog",
    "GetBlob",
    "GetManifest",
    "GetReferrers",
    "ListTags",
    "Ping",
    "Route",
    "RouteTable",
    "UpstreamNames",
]

_PORT = re.compile(r":[0-9]*\Z")


@dataclass(frozen=True, slots=True, kw_only=True)
class UpstreamNames:
    """What selects one upstream.

    `name` and `aliases` are compared with path components and `ns` (so they may
    hold a port, though only `ns` can then say them); `hosts` with the Host
    header, port or not. `library`: one-component names get `library/`, as on
    Docker Hub. Case never matters.
    """

    name: str
    aliases: tuple[str, ...] = ()
    hosts: tuple[str, ...] = ()
    library: bool = False


class _Shared(TypedDict):
    upstream: str
    repository: Repository
    client_name: str
    client_path: str
    namespace: str | None


class _Request(NamedTuple):
    """A request taken apart, nothing in it chosen yet.

    by_prefix: the upstream before `/v2` (shape C). by_ns: the one that `ns`
    names; None if there is none, or if it names nobody.
    """

    path: str
    query: dict[str, str]
    ns: str | None
    host: str | None
    by_prefix: UpstreamNames | None
    by_ns: UpstreamNames | None


class RouteTable:
    """All upstreams there are, by everything that may call them.

    Raises `ValueError` when two upstreams claim one name, or when `default` is
    nobody's.
    """

    def __init__(self, upstreams: Sequence[UpstreamNames], default: str | None) -> None:
        self._by_name: dict[str, UpstreamNames] = {}
        self._by_host: dict[str, UpstreamNames] = {}
        for upstream in upstreams:
            for name in (upstream.name, *upstream.aliases):
                _claim(self._by_name, name, upstream)
            for host in upstream.hosts:
                _claim(self._by_host, host, upstream)
        if default is not None and default.lower() not in self._by_name:
            raise ValueError(f"the default upstream {default!r} is not configured")
        self._default = None if default is None else self._by_name[default.lower()]

    def route(self, method: str, target: str, host: str | None) -> Route:
        """What is asked. `target` is the raw request target, in origin or absolute
        form; `host` the Host header, if any.

        Raises `InvalidName` (first of all, for any path that is not plain),
        `InvalidTag`, `InvalidDigest`, `InvalidPage`, `UnsupportedOperation`,
        `UnknownRoute`, `UnknownUpstream`.
        """
        raw_path, _, query_text = target.partition("?")
        if not raw_path.startswith("/"):
            raw_path, host = absolute_form(raw_path, host)
        prefix, rest = after_v2(plain(raw_path))
        if method not in {"GET", "HEAD"}:
            raise UnsupportedOperation("this registry is for pulling only")
        by_prefix = None if prefix is None else self._known(prefix)
        query = query_values(query_text) if query_text else {}
        ns = query.get("ns")
        # ASCII: other letters may have a lower case in ASCII, and ns is echoed.
        by_ns = self._by_name.get(ns.lower()) if ns and ns.isascii() else None
        request = _Request(raw_path, query, ns or None, host, by_prefix, by_ns)

        # Nothing may follow the word after a keyword, so this finds the last one:
        # `blobs`, `manifests` and `tags` are good components of a name as well.
        parts = rest.rsplit("/", 2)
        name, keyword, word = parts if len(parts) == 3 else ("", "", "")
        match keyword:
            case "manifests":
                reference = parse_reference(word)
                return GetManifest(**self._inside(name, request), reference=reference)
            case "blobs":
                return GetBlob(**self._inside(name, request), digest=Digest.parse(word))
            case "referrers":
                kind = query.get("artifactType") or None
                digest = Digest.parse(word)
                return GetReferrers(
                    **self._inside(name, request), digest=digest, artifact_type=kind
                )
            case "tags" if word == "list":
                n, last = page(query)
                return ListTags(**self._inside(name, request), n=n, last=last)
            case _:
                return self._outside(rest, request)

    def _inside(self, name: str, request: _Request) -> _Shared:
        """Who is asked for what, for an endpoint inside the repository `name`."""
        repository = name
        chosen = request.by_prefix
        if chosen is None:
            first, _, tail = name.partition("/")
            # `lab/manifests/x` asks for a repository called `lab`, in shape A.
            chosen = self._in_path(first, request) if tail else None
            if chosen is not None:
                repository = tail
            else:
                chosen = self._named(request) or self._fallback(first, tail)
        if chosen.library and "/" not in repository:
            repository = f"library/{repository}"
        return {
            "upstream": chosen.name,
            "repository": Repository.parse(repository),
            "client_name": name,
            "client_path": request.path,
            "namespace": request.ns if request.by_ns is chosen else None,
        }

    def _outside(self, rest: str, request: _Request) -> Ping | Catalog:
        """The endpoints that belong to no repository."""
        chosen, first, tail = request.by_prefix, "", rest
        if chosen is None:
            first, _, tail = rest.partition("/")
            chosen = self._in_path(first, request)
            if chosen is None:
                chosen, tail = self._named(request), rest
        upstream = None if chosen is None else chosen.name
        if tail == "":
            return Ping(upstream=upstream)
        if tail == "_catalog":
            n, last = page(request.query)
            namespace = request.ns if chosen is not None and request.by_ns is chosen else None
            return Catalog(
                upstream=upstream, client_path=request.path, namespace=namespace, n=n, last=last
            )
        if "/blobs/uploads/" in rest:
            raise UnsupportedOperation("this registry is for pulling only")
        raise UnknownRoute("the registry API has no such endpoint")

    def _known(self, name: str) -> UpstreamNames:
        upstream = self._by_name.get(name.lower())
        if upstream is None:
            raise _unknown(name)
        return upstream

    def _in_path(self, first: str, request: _Request) -> UpstreamNames | None:
        """The upstream that the first component names, unless `ns` names another."""
        upstream = self._by_name.get(first.lower())
        return upstream if request.ns is None or upstream is request.by_ns else None

    def _named(self, request: _Request) -> UpstreamNames | None:
        """The upstream that `ns`, or else the listener's host, stands for."""
        if request.ns is not None:
            if request.by_ns is None:
                raise _unknown(request.ns)
            return request.by_ns
        if request.host is None or not self._by_host:
            return None
        host = request.host.lower()
        return self._by_host.get(host) or self._by_host.get(_PORT.sub("", host).rstrip("."))

    def _fallback(self, first: str, tail: str) -> UpstreamNames:
        if self._default is None:
            raise UnknownUpstream("the path names no upstream, and there is no default")
        if self._default.library and tail and "." in first:
            # Docker Hub's namespaces have no dots: this is another registry's
            # name, and none of the default's business.
            raise _unknown(first)
        return self._default


def _unknown(name: str) -> UnknownUpstream:
    return UnknownUpstream(f"no upstream called {name[:100]!r} is configured")


def _claim(table: dict[str, UpstreamNames], name: str, upstream: UpstreamNames) -> None:
    owner = table.setdefault(name.lower(), upstream)
    if owner is not upstream:
        raise ValueError(f"{owner.name!r} and {upstream.name!r} are both called {name!r}")
