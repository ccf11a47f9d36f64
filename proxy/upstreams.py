"""The configured upstreams, in the terms of those who use them: clients, names for
routing, rules for tags and for what may be shown.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from proxy.cache.exposure import Expose
from proxy.cache.freshness import Policy
from proxy.cache.shared import Shared
from proxy.config import Settings, UpstreamSettings
from proxy.errors import StartupError, UpstreamUnavailable
from proxy.oci.routes import RouteTable, UpstreamNames
from proxy.ports import Coordination, Observe, Upstream
from proxy.upstream.docker_config import DockerConfig
from proxy.upstream.identity import credential_source
from proxy.upstream.registry import RegistryUpstream
from proxy.upstream.session import UpstreamConfig
from proxy.upstream.shared_health import SharedHealth


@asynccontextmanager
async def open_upstreams(
    settings: Settings,
    observe: Observe,
    shared: Shared,
    *,
    together: Coordination | None = None,
) -> AsyncIterator[dict[str, Upstream]]:
    """Clients of all configured upstreams, by name; none of them dials yet.

    `together`: where replicas tell each other how their upstreams are.
    Raises `StartupError`.
    """
    docker_config = None
    if settings.docker_config_file is not None:
        try:
            docker_config = DockerConfig(settings.docker_config_file)
        except UpstreamUnavailable as error:
            raise StartupError(str(error)) from error
    upstreams: dict[str, RegistryUpstream] = {}
    for name, one in settings.upstreams.items():
        config = UpstreamConfig(
            name=name,
            url=one.url,
            credentials=credential_source(one, docker_config),
            ca_file=None if one.ca_file is None else str(one.ca_file),
            insecure=one.insecure,
            proxy_url=None if one.proxy is None else one.proxy.get_secret_value(),
            token_realms=one.token_realms,
            connect_s=one.connect_s,
            head_s=one.head_s,
            stall_s=one.stall_s,
            connections_max=one.connections_max,
            manifest_bytes_max=settings.manifest_bytes_max,
        )
        upstreams[name] = RegistryUpstream(config, observe=observe, shared=shared)
    async with AsyncExitStack() as stack:
        for upstream in upstreams.values():
            stack.push_async_callback(upstream.aclose)
        if together is not None:
            health = SharedHealth(list(upstreams.values()), together)
            await stack.enter_async_context(health)
        yield dict(upstreams)


def routes(settings: Settings) -> RouteTable:
    """How requests find their upstream."""
    names = [
        UpstreamNames(name=name, aliases=one.aliases, hosts=one.hosts, library=one.library)
        for name, one in settings.upstreams.items()
    ]
    return RouteTable(names, settings.default_upstream)


def policies(settings: Settings) -> dict[str, Policy]:
    """How long tags count as fresh, by upstream."""
    return {name: _policy(settings, one) for name, one in settings.upstreams.items()}


def expose(settings: Settings) -> dict[str, Expose]:
    """What upstreams with credentials may show, by upstream."""
    return {
        name: one.expose if isinstance(one.expose, str) else tuple(one.expose)
        for name, one in settings.upstreams.items()
    }


def _policy(settings: Settings, one: UpstreamSettings) -> Policy:
    fresh_s = settings.tag_fresh_s if one.tag_fresh_s is None else one.tag_fresh_s
    stale_s = settings.tag_stale_max_s if one.tag_stale_max_s is None else one.tag_stale_max_s
    return Policy(fresh_s=fresh_s, stale_max_s=stale_s)
