"""Redis: reached, allowed, new enough, quick, and of the same time."""

from __future__ import annotations

import secrets
import time
from collections.abc import Awaitable
from typing import Any

from proxy.backing import redis_config
from proxy.config import RedisSettings
from proxy.coordination.redis_client import SOCKET_S, Client, new_client
from proxy.doctor.finding import Finding, skewed

VERSION_MIN = (6, 2)
_SLOW_S = SOCKET_S / 3
_PINGS = 5
_AWAY = (
    "check url, firewall and that it runs; without it each replica fetches for itself, "
    "nothing is lost"
)


async def examine(settings: RedisSettings) -> list[Finding]:
    """Probe keys live under our prefix and are deleted again."""
    try:
        client = new_client(redis_config(settings))
    except ValueError as error:
        return [Finding("redis", "fail", str(error), "mend `redis` in the configuration")]
    probe = f"{settings.prefix}:doctor:{secrets.token_hex(8)}"
    try:
        reached = await _reach(client, probe)
        if reached.state == "fail":
            return [reached]
        return [
            reached,
            await _rights(client, probe),
            await _version(client),
            await _clock(client),
        ]
    finally:
        await client.aclose()


async def _reach(client: Client, probe: str) -> Finding:
    took = []
    for _ in range(_PINGS):
        began = time.monotonic()
        error = await _refusal(client.execute("GET", probe))
        took.append(time.monotonic() - began)
        if error is not None:
            return Finding("redis", "fail", f"Redis: {error}", _todo(error))
    median_s = sorted(took)[_PINGS // 2]
    said = f"Redis answers in {median_s * 1000:.1f} ms"
    if median_s > _SLOW_S:
        todo = f"bring it nearer: an answer after {SOCKET_S:g} s counts as none"
        return Finding("redis", "warn", said, todo)
    return Finding("redis", "ok", said)


async def _rights(client: Client, probe: str) -> Finding:
    """Each command that the server uses, on keys of ours."""
    scores = f"{probe}:scores"
    commands: tuple[tuple[str | int, ...], ...] = (
        ("SET", probe, "x", "PX", 10_000),
        ("GET", probe),
        ("EVAL", "return redis.call('get', KEYS[1])", 1, probe),
        ("ZADD", scores, "GT", 1, "x"),
        ("ZMSCORE", scores, "x"),
        ("ZREMRANGEBYRANK", scores, 0, -1),
        ("DEL", probe),
    )
    refused = []
    for words in commands:
        error = await _refusal(client.execute(*words))
        if error is not None:
            refused.append(f"{words[0]} ({error})")
    if refused:
        return Finding(
            "redis rights",
            "fail",
            "Redis refuses " + ", ".join(refused),
            "the user needs ~PREFIX* +eval +get +set +del +zadd +zmscore +zremrangebyrank, and "
            "the server must take writes (no replica, memory left)",
        )
    return Finding("redis rights", "ok", "all commands that are needed are allowed")


async def _version(client: Client) -> Finding:
    name = "redis version"
    answer: list[Any] = []
    if await _refusal(client.execute("INFO", "server"), answer) is not None:
        return Finding(name, "skipped", "INFO is not allowed to us")
    told = _one_nodes(answer[0], "redis_version")
    text = told.get("redis_version") if isinstance(told, dict) else None
    if not isinstance(text, str):
        return Finding(name, "skipped", "it does not say its version")
    version = tuple(int(part) for part in text.split(".")[:2] if part.isdecimal())
    if version < VERSION_MIN:
        return Finding(name, "fail", f"Redis {text} is too old", "6.2 or newer is needed")
    return Finding(name, "ok", f"Redis {text}")


async def _clock(client: Client) -> Finding:
    answer: list[Any] = []
    if await _refusal(client.execute("TIME"), answer) is not None:
        return Finding("clock redis", "skipped", "TIME is not allowed to us")
    told = _one_nodes(answer[0])
    if not isinstance(told, tuple | list) or not told:
        return Finding("clock redis", "skipped", "it does not say what time it is")
    return skewed("clock redis", float(told[0]), now=time.time(), whose="Redis")


def _one_nodes(answer: Any, key: str | None = None) -> Any:
    """The answer, or one node's where a Cluster gave one for each."""
    if isinstance(answer, dict) and answer and (key is None or key not in answer):
        return next(iter(answer.values()))
    return answer


async def _refusal(asked: Awaitable[Any], answer: list[Any] | None = None) -> str | None:
    """Why not; None if it was done."""
    try:
        done = await asked
    except Exception as error:  # noqa: BLE001 - redis-py raises anything (see `Client`), and all of it is a finding
        return str(error) or type(error).__name__
    if answer is not None:
        answer.append(done)
    return None


def _todo(error: str) -> str:
    said = error.lower()
    if "auth" in said or "password" in said or "noperm" in said or "wrongpass" in said:
        return "check username and password"
    if "certificate" in said or "ssl" in said:
        return "give its authority as ca_file, and write rediss:// where it speaks TLS"
    return _AWAY
