"""The configured upstreams, in the terms of those who use them: clients, names for
routing, rules for tags and for what may be shown.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from proxy.cache.exposure import Expose
from proxy.cache.freshness import Policy
from proxy.cache.shared import Shared
from proxy.cache.tag_rules import Rule
from proxy.config import Settings, UpstreamSettings
from proxy.config.link import UpstreamLinkSettings
from proxy.config.moments import seconds
from proxy.config.quota import Reserve
from proxy.errors import StartupError, UpstreamUnavailable
from proxy.oci.routes import RouteTable, UpstreamNames
from proxy.ports import Clock, Coordination, Observe, Upstream
from proxy.telemetry import Telemetry
from proxy.upstream.docker_config import DockerConfig
from proxy.upstream.identity import credential_sources
from proxy.upstream.link.pacer import Limits, Link
from proxy.upstream.link.report import LinkReport
from proxy.upstream.link.timetable import Timetable
from proxy.upstream.offline import Severable
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
    link: Link | None = None,
) -> AsyncIterator[dict[str, Upstream]]:
    """Clients of all configured upstreams, by name; none of them dials yet.

    `together`: where replicas tell each other how their upstreams are. `link`: what
    `open_link` made of the settings; None: without caps.
    Raises `StartupError`.
    """
    docker_config = None
    if settings.docker_config_file is not None:
        try:
            docker_config = DockerConfig(settings.docker_config_file)
        except UpstreamUnavailable as error:
            raise StartupError(str(error)) from error
    link = link or Link()
    upstreams: dict[str, RegistryUpstream] = {}
    for name, one in settings.upstreams.items():
        sources = credential_sources(one, docker_config)
        config = UpstreamConfig(
            name=name,
            url=one.url,
            credentials=sources[0] if sources else None,
            further_credentials=sources[1:],
            quota_reserve=Reserve.parse(one.quota_reserve),
            quota_warm_reserve=Reserve.parse(one.quota_warm_reserve),
            ca_file=None if one.ca_file is None else str(one.ca_file),
            insecure=one.insecure,
            proxy_url=None if one.proxy is None else one.proxy.get_secret_value(),
            token_realms=one.token_realms,
            connect_s=one.connect_s,
            head_s=one.head_s,
            stall_s=one.stall_s,
            connections_max=one.connections_max,
            manifest_bytes_max=settings.manifest_bytes_max,
            link=link.of(name),
        )
        upstreams[name] = RegistryUpstream(config, observe=observe, shared=shared)
    async with AsyncExitStack() as stack:
        for upstream in upstreams.values():
            stack.push_async_callback(upstream.aclose)
        if together is not None:
            health = SharedHealth(list(upstreams.values()), together)
            await stack.enter_async_context(health)
        yield {
            name: Severable(client, observe=observe, offline=is_offline(settings, name))
            for name, client in upstreams.items()
        }


def open_link(settings: Settings, clock: Clock) -> Link:
    """The link that all upstreams share, with the caps of the settings."""
    zone = settings.link.time_zone
    return Link(
        _limits(settings.link, zone),
        {name: _limits(one.link, zone) for name, one in settings.upstreams.items()},
        clock=clock,
    )


def report_on(link: Link, settings: Settings, telemetry: Telemetry) -> LinkReport:
    """For the status page; the metrics read it from now on."""
    report = LinkReport(link)
    telemetry.link.read(settings.upstreams, report.rate, report.waiting)
    telemetry.late(lambda: report.tell(telemetry.observe))
    return report


def _limits(said: UpstreamLinkSettings, zone: str | None) -> Limits:
    return Limits(Timetable.of(said, zone), said.fetches_max)


def is_offline(settings: Settings, name: str) -> bool:
    """Whether the settings forbid to dial an upstream."""
    one = settings.upstreams[name]
    return settings.offline if one.offline is None else one.offline


def routes(settings: Settings) -> RouteTable:
    """How requests find their upstream."""
    names = [
        UpstreamNames(name=name, aliases=one.aliases, hosts=one.hosts, library=one.library)
        for name, one in settings.upstreams.items()
    ]
    return RouteTable(names, settings.default_upstream)


def policies(settings: Settings) -> dict[str, Policy]:
    """How long tags count as fresh, by upstream."""
    return {name: _policy(settings, name, one) for name, one in settings.upstreams.items()}


def expose(settings: Settings) -> dict[str, Expose]:
    """What upstreams with credentials may show, by upstream."""
    return {
        name: one.expose if isinstance(one.expose, str) else tuple(one.expose)
        for name, one in settings.upstreams.items()
    }


def _policy(settings: Settings, name: str, one: UpstreamSettings) -> Policy:
    fresh_s = settings.tag_fresh_s if one.tag_fresh_s is None else one.tag_fresh_s
    stale_s = settings.tag_stale_max_s if one.tag_stale_max_s is None else one.tag_stale_max_s
    return Policy(
        fresh_s=fresh_s,
        stale_max_s=stale_s,
        upstream=name,
        rules=tuple(
            Rule(
                match=rule.match, fresh_s=rule.fresh_s, immutable=rule.immutable, cached=rule.cache
            )
            for rule in (*one.tag_rules, *settings.tag_rules)
        ),
        as_of=None if one.as_of is None else seconds(one.as_of),
    )
