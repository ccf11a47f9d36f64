"""One token for all replicas: whoever needs it first asks, the others read it.

Tokens live for minutes and are only shared for part of that, through the same
Redis that everything short-lived goes through. A token that was asked for again
(the upstream refused the first) is not read from there, or a revoked one would
come back.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Awaitable, Callable

from proxy.cache.lru import Lru
from proxy.cache.shared import Shared
from proxy.oci.challenge import EXPIRES_S_MIN, TokenReply
from proxy.ports import Clock
from proxy.upstream.tokens import Granted, TokenKey

_SHARED_SHARE = 0.8
_REMEMBERED_MAX = 4096


class SharedTokens:
    """Wraps the asking of one upstream's endpoint."""

    def __init__(
        self,
        upstream: str,
        ask: Callable[[TokenKey], Awaitable[Granted]],
        *,
        shared: Shared,
        clock: Clock,
    ) -> None:
        self._upstream = upstream
        self._ask = ask
        self._shared = shared
        self._clock = clock
        self._good_until: Lru[TokenKey, float] = Lru(_REMEMBERED_MAX)

    async def ask(self, key: TokenKey) -> Granted:
        """A token of ours or of another replica's asking. Raises what asking raises."""
        name = self._name(key)
        if self._clock() < (self._good_until.get(key) or 0.0):
            # It is wanted again before its time: the upstream refused it.
            granted = await self._asked(key)
            await self._shared.tell(name, self._told(granted), ttl_s=_shared_s(granted))
            return granted
        ours: list[Granted] = []

        async def work() -> bytes:
            ours.append(await self._asked(key))
            return self._told(ours[0])

        # How long it lives is only known afterwards; no token lives less than a minute.
        outcome = await self._shared.once(name, work, ttl_s=EXPIRES_S_MIN * _SHARED_SHARE)
        if not ours:
            return self._read(key, outcome or b"") or await self._asked(key)
        if outcome is not None and ours[0].reply.expires_in_s > EXPIRES_S_MIN:
            await self._shared.tell(name, outcome, ttl_s=_shared_s(ours[0]))
        return ours[0]

    async def _asked(self, key: TokenKey) -> Granted:
        granted = await self._ask(key)
        self._remember(key, granted)
        return granted

    def _remember(self, key: TokenKey, granted: Granted) -> None:
        # Shorter than a holder keeps it, and longer than others are told of it.
        self._good_until.put(key, self._clock() + granted.reply.expires_in_s * _SHARED_SHARE)

    def _told(self, granted: Granted) -> bytes:
        document = {
            "token": granted.reply.token,
            "until": self._clock() + granted.reply.expires_in_s,
            "lives_s": granted.reply.expires_in_s,
            "known": granted.with_credentials,
        }
        return json.dumps(document).encode()

    def _read(self, key: TokenKey, outcome: bytes) -> Granted | None:
        """None for what makes no sense, or has lived."""
        try:
            document = json.loads(outcome)
        except (ValueError, RecursionError):
            return None
        match document:
            case {
                "token": str(token),
                "until": int(until) | float(until),
                "lives_s": int(lives_s) | float(lives_s),
                "known": bool(known),
            }:
                # A clock that is behind must not make it live longer.
                left_s = min(until - self._clock(), lives_s)
                if left_s > 1:
                    reply = TokenReply(token, left_s, None)
                    granted = Granted(reply, with_credentials=known, fresh=False)
                    self._remember(key, granted)
                    return granted
            case _:
                pass
        return None

    def _name(self, key: TokenKey) -> str:
        text = repr((key.realm, key.service, key.scope, key.ours, key.challenger))
        return f"token/{self._upstream}/{hashlib.sha256(text.encode()).hexdigest()}"


def _shared_s(granted: Granted) -> float:
    return granted.reply.expires_in_s * _SHARED_SHARE
