"""Each upstream, asked for `/v2/` by the very client that the server uses."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

from proxy.cache.shared import Shared
from proxy.config import Settings, UpstreamSettings
from proxy.config.presets import PRESETS
from proxy.coordination.local import LocalCoordination
from proxy.doctor.finding import Finding, State, skew
from proxy.errors import (
    AccessDenied,
    BadUpstreamAnswer,
    EntrepotError,
    StartupError,
    UpstreamLimited,
)
from proxy.events import Event
from proxy.upstream.answers import PING
from proxy.upstream.offline import Severable
from proxy.upstream.registry import RegistryUpstream
from proxy.upstreams import open_upstreams


async def examine(settings: Settings) -> list[Finding]:
    """All at once; one that was only preset may be out of reach on purpose."""
    shared = Shared(LocalCoordination(), alone=True)
    try:
        async with open_upstreams(settings, _unheard, shared) as upstreams:
            found: Sequence[list[Finding]] = await asyncio.gather(
                *(
                    _examine(one, settings.upstreams[name])
                    for name, one in upstreams.items()
                    if isinstance(one, Severable)
                )
            )
    except StartupError as error:
        return [Finding("upstreams", "fail", str(error), "mend docker_config_file")]
    return [finding for several in found for finding in several]


async def _examine(upstream: Severable, settings: UpstreamSettings) -> list[Finding]:
    if upstream.offline:
        said = f"{upstream.name} is offline by the settings, and is not asked"
        return [Finding(f"upstream {upstream.name}", "ok", said)]
    client = upstream.client
    return await _ask(client, settings) if isinstance(client, RegistryUpstream) else []


async def _ask(upstream: RegistryUpstream, settings: UpstreamSettings) -> list[Finding]:
    name = f"upstream {upstream.name}"
    preset = PRESETS.get(upstream.name)
    wanted = preset is None or settings != UpstreamSettings(**preset)
    trouble: State = "fail" if wanted else "warn"
    where = f"{upstream.name} ({upstream.url})"
    try:
        status, date = await upstream.ping()
    except AccessDenied as error:
        if not upstream.credentialed:
            return [Finding(name, "ok", f"{where} answers, and shows nothing without a login")]
        todo = "check user name and password, and whether a token has expired"
        return [Finding(name, "fail", f"{where} refuses our credentials: {error}", todo)]
    except UpstreamLimited as error:
        todo = "log in (username, password), or wait"
        return [Finding(name, "warn", f"{where} limits us: {error}", todo)]
    except EntrepotError as error:
        return [Finding(name, trouble, f"{error} ({upstream.url})", _todo(error, wanted=wanted))]
    clock = skew(f"clock {upstream.name}", date, now=time.time(), whose=upstream.name)
    if status == 401 and upstream.credentialed:
        return [Finding(name, "fail", f"{where} refuses our credentials", "check them"), clock]
    refused = await _refused(upstream)
    if refused is not None:
        return [Finding(name, "fail", f"{where} refuses {refused}", "check its password"), clock]
    if status in {200, 401}:
        login = ", our login is accepted" if upstream.credentialed else ""
        return [Finding(name, "ok", f"{where} answers{login}"), clock]
    todo = "is the URL that of a registry? Its API is at URL/v2/"
    return [Finding(name, trouble, f"{where} answers {status} to /v2/", todo), clock]


async def _refused(upstream: RegistryUpstream) -> str | None:
    """Which of several logins is not let in; None where all are, or there is but one."""
    if len(list(upstream.accounts)) < 2:
        return None
    try:
        names = await upstream.accounts.refused(PING)
    except EntrepotError as error:
        return f"to say whether it knows all logins: {error}"
    return f"the login {', '.join(names)}" if names else None


def _todo(error: EntrepotError, *, wanted: bool) -> str:
    said = str(error).lower()
    if "certificate" in said or "ssl" in said or "tls" in said:
        return "give its authority as ca_file; a wrong clock makes good certificates bad, too"
    if isinstance(error, BadUpstreamAnswer):
        return "is the URL that of a registry, and no login page in between?"
    if not wanted:
        return "if this network is not to reach it, nothing; `presets: false` leaves it out"
    return "check name resolution, firewall and `proxy`; then its own status page"


def _unheard(_event: Event) -> None:
    pass
