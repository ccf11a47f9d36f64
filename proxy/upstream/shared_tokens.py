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
from proxy.oci.challenge import TokenReply
from proxy.ports import Clock
from proxy.upstream.tokens import Granted, TokenKey

_SHARED_SHARE = 0.8
_ASKED_AGAIN_S = 20.0


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
        self._asked: Lru[TokenKey, float] = Lru(4096)

    async def ask(self, key: TokenKey) -> Granted:
        """A token of ours or of another replica's asking. Raises what asking raises."""
        now = self._clock()
        again = now - (self._asked.get(key) or 0.0) < _ASKED_AGAIN_S
        self._asked.put(key, now)
        if again:
            return await self._ask(key)
        ours: list[Granted] = []

        async def work() -> bytes:
            granted = await self._ask(key)
            ours.append(granted)
            document = {
                "token": granted.reply.token,
                "until": self._clock() + granted.reply.expires_in_s,
                "known": granted.with_credentials,
            }
            return json.dumps(document).encode()

        name = self._name(key)
        # How long it lives is only known afterwards; no token lives less than a minute.
        outcome = await self._shared.once(name, work, ttl_s=60 * _SHARED_SHARE)
        if not ours:
            return await self._read(key, outcome)
        lives_s = ours[0].reply.expires_in_s
        if outcome is not None and lives_s > 60:
            await self._shared.tell(name, outcome, ttl_s=lives_s * _SHARED_SHARE)
        return ours[0]

    async def _read(self, key: TokenKey, outcome: bytes | None) -> Granted:
        match json.loads(outcome or b"null"):
            case {"token": str(token), "until": float(until), "known": bool(known)}:
                left_s = until - self._clock()
                if left_s > 1:
                    return Granted(TokenReply(token, left_s, None), with_credentials=known)
            case _:
                pass
        return await self._ask(key)

    def _name(self, key: TokenKey) -> str:
        text = repr((key.realm, key.service, key.scope, key.ours, key.challenger))
        return f"token/{self._upstream}/{hashlib.sha256(text.encode()).hexdigest()}"
