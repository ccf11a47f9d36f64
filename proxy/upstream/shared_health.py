"""What replicas tell each other of their upstreams: that one fails, limits us, is
back, and how many pulls are left.

So that the second replica need not wait for a dead upstream itself, nor run into
a limit that the first was told of. About once a second each replica says what it
saw itself lately, and hears what others did, only of upstreams that are in use.
Values live for seconds and carry ages, not times: clocks may differ. What is lost
is found out first-hand, as by a replica alone.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

from proxy.ports import Coordination, Quota
from proxy.upstream.account import Account
from proxy.upstream.breaker import News
from proxy.upstream.registry import RegistryUpstream

EVERY_S = 1.0
_IN_USE_S = 60.0
_VALUE_S = 3.0
# Said again so often that everybody who looks every second has heard it.
_SAID_S = 5.0
_TROUBLE = frozenset({"failing", "limited"})


@dataclass(slots=True)
class _Known:
    """Of one upstream: what was heard last of each topic, and the quotas that all
    know, by the topics of its logins.
    """

    heard: dict[str, str] = field(default_factory=dict)
    said: News | None = None
    said_as: int = 0
    count: int = 0
    quotas: dict[str, Quota | None] = field(default_factory=dict)


class SharedHealth:
    """Owns the task that does it; `async with` starts and stops it."""

    def __init__(
        self,
        upstreams: Sequence[RegistryUpstream],
        coordination: Coordination,
        *,
        monotonic: Callable[[], float] = time.monotonic,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._upstreams = upstreams
        self._coordination = coordination
        self._monotonic = monotonic
        self._clock = clock
        self._identity = secrets.token_hex(8)
        self._known = {one.name: _Known() for one in upstreams}
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._repeat(), name="shared health")
        return self

    async def __aexit__(self, *_exc: object) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def exchange(self) -> None:
        """Hear, then say, once; never raises."""
        now = self._monotonic()
        in_use = [one for one in self._upstreams if now - one.breaker.used_at < _IN_USE_S]
        await asyncio.gather(*(self._exchange(one) for one in in_use))

    async def _repeat(self) -> None:
        while True:
            await asyncio.sleep(EVERY_S)
            await self.exchange()

    async def _exchange(self, upstream: RegistryUpstream) -> None:
        known = self._known[upstream.name]
        accounts = list(upstream.accounts)
        trouble, fine, *quotas = await asyncio.gather(
            self._hear(upstream, known, "trouble"),
            self._hear(upstream, known, "ok"),
            *(self._hear(upstream, known, _quota_of(account)) for account in accounts),
        )
        _tell_breaker(upstream, trouble, fine)
        for account, quota in zip(accounts, quotas, strict=True):
            await self._share_quota(upstream, account, known, quota)
        await self._say_news(upstream, known)

    async def _hear(
        self, upstream: RegistryUpstream, known: _Known, topic: str
    ) -> dict[str, Any] | None:
        """What another replica says for the first time; each is heard once."""
        found = await self._coordination.get(_key(upstream, topic))
        try:
            said = json.loads(found or b"null")
        except (ValueError, RecursionError):
            return None
        match said:
            case {"by": str(by), "id": str(number)} if by != self._identity:
                if known.heard.get(topic) == by + number:
                    return None
                known.heard[topic] = by + number
                return dict(said)
            case _:
                return None

    async def _say(
        self, upstream: RegistryUpstream, topic: str, number: int, more: dict[str, object]
    ) -> None:
        said = {"by": self._identity, "id": str(number), **more}
        key = _key(upstream, topic)
        await self._coordination.put(key, json.dumps(said).encode(), ttl_s=_VALUE_S)

    async def _say_news(self, upstream: RegistryUpstream, known: _Known) -> None:
        news, now = upstream.breaker.news, self._monotonic()
        if news is None or now >= max(news.until, news.at + _SAID_S):
            return
        if news is not known.said:
            known.said = news
            known.said_as = known.count = known.count + 1
        about: dict[str, object] = {
            "state": news.state,
            "reason": news.reason,
            "age_s": now - news.at,
            "left_s": max(0.0, news.until - now),
        }
        topic = "trouble" if news.state in _TROUBLE else "ok"
        await self._say(upstream, topic, known.said_as, about)

    async def _share_quota(
        self,
        upstream: RegistryUpstream,
        account: Account,
        known: _Known,
        heard: dict[str, Any] | None,
    ) -> None:
        ours, topic = account.budget.quota, _quota_of(account)
        if ours is not None and ours is not known.quotas.get(topic):
            # Read since the last look, so at least as new as what others say.
            known.quotas[topic] = ours
            known.count += 1
            about: dict[str, object] = {
                "limit": ours.limit,
                "remaining": ours.remaining,
                "window_s": ours.window_s,
                "source": ours.source,
            }
            await self._say(upstream, topic, known.count, about)
            return
        match heard:
            case {
                "limit": int() | None as limit,
                "remaining": int() | None as remaining,
                "window_s": int() | None as window_s,
                "source": str() | None as source,
            }:
                known.quotas[topic] = quota = Quota(
                    limit=limit,
                    remaining=remaining,
                    window_s=window_s,
                    source=source,
                    read_at=self._clock(),
                )
                upstream.accounts.ledger.heard(account.budget, quota)
            case _:
                pass


def _tell_breaker(
    upstream: RegistryUpstream, trouble: dict[str, Any] | None, fine: dict[str, Any] | None
) -> None:
    match trouble:
        case {
            "state": "failing",
            "reason": str(reason),
            "age_s": int() | float() as age_s,
            "left_s": int() | float() as left_s,
        }:
            upstream.breaker.hear_failing(reason, age_s=age_s, left_s=left_s)
        case {"state": "limited", "left_s": int() | float() as left_s}:
            upstream.breaker.hear_limited(left_s)
        case _:
            pass
    match fine:
        case {"age_s": int() | float() as age_s}:
            # After trouble: of both, the newer one stands.
            upstream.breaker.hear_ok(age_s=age_s)
        case _:
            pass


def _quota_of(account: Account) -> str:
    return f"quota/{account.id}" if account.id else "quota"


def _key(upstream: RegistryUpstream, topic: str) -> str:
    return f"health/{upstream.name}/{topic}"
