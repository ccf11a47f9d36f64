"""A server, running or not, from its configuration outwards."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from proxy.admin_client import trouble_at
from proxy.config import Settings
from proxy.doctor import machine, peers, upstreams
from proxy.doctor.finding import Finding


async def examine(settings: Settings, admin: str, others: Sequence[str]) -> list[Finding]:
    """All checks. `admin`: URL of the admin listener, `others`: of further replicas'
    peer listeners. Changes nothing but probe keys and files, which it removes.
    """
    trouble = await asyncio.to_thread(trouble_at, f"{admin}/livez")
    running = trouble is None
    findings = [_server(admin, trouble)]
    if running:
        findings.append(await _ready(admin))
    findings += await asyncio.to_thread(machine.examine, settings, running=running)
    findings += await upstreams.examine(settings)
    if settings.redis is not None:
        from proxy.doctor import redis  # noqa: PLC0415 - heavy, and only used here

        findings += await redis.examine(settings.redis)
    if settings.storage.s3 is not None:
        from proxy.doctor import s3  # noqa: PLC0415 - heavy, and only used here

        findings += await s3.examine(settings.storage.s3)
    findings += await peers.examine(settings, others, running=running)
    return findings


def _server(admin: str, trouble: str | None) -> Finding:
    if trouble is None:
        return Finding("server", "ok", f"a server is running and answers at {admin}")
    said = f"no server is running with this configuration ({admin}: {trouble})"
    return Finding("server", "skipped", said)


async def _ready(admin: str) -> Finding:
    trouble = await asyncio.to_thread(trouble_at, f"{admin}/readyz")
    if trouble is None:
        return Finding("ready", "ok", "it takes requests")
    todo = "it is starting or draining; its log says which"
    return Finding("ready", "warn", f"it does not take requests yet, or any more: {trouble}", todo)
