"""Tokens: asked for once, shared by all who need the same, renewed early.

A token is kept by what it was asked with (realm, service, scope, identity), in
memory only, and never longer than 90 % of its life. However many requests want
the same one, the token endpoint is asked once (single flight). The dance with
the endpoint itself is in `token_request.py`.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from proxy.oci.challenge import TokenReply

TOKENS_MAX = 4096
"""Per upstream; the least recently used one goes first. ~3 KB each."""

_RENEW_AT = 0.9


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenKey:
    """What a token is asked with. `scope` entries are sorted, so equal is equal.

    `ours`: with our credentials, if the realm may see them. `challenger` is
    the host that wants it; a token is never shown to another one.
    """

    realm: str
    service: str | None
    scope: tuple[str, ...]
    ours: bool
    challenger: str


@dataclass(frozen=True, slots=True)
class Token:
    """A token. `with_credentials`: the endpoint knew who was asking.

    `fresh`: it was asked for just now, so a refusal is not for its age.
    """

    text: str = field(repr=False)
    with_credentials: bool
    fresh: bool


@dataclass(frozen=True, slots=True)
class Granted:
    """What `token_request.py` brings home."""

    reply: TokenReply
    with_credentials: bool
    fresh: bool = True
    """False: somebody else asked for it, a while ago."""


@dataclass(frozen=True, slots=True)
class _Kept:
    token: Token
    until: float


class Tokens:
    """The tokens of one upstream. `ask` gets one from its endpoint."""

    def __init__(
        self, ask: Callable[[TokenKey], Awaitable[Granted]], *, monotonic: Callable[[], float]
    ) -> None:
        self._ask = ask
        self._monotonic = monotonic
        self._kept: OrderedDict[TokenKey, _Kept] = OrderedDict()
        self._asking: dict[TokenKey, asyncio.Task[Token]] = {}

    async def get(self, key: TokenKey) -> Token:
        """A usable token; raises what `ask` raises.

        A caller that is cancelled does not take the others' request with it.
        """
        kept = self._kept.get(key)
        if kept is not None and self._monotonic() < kept.until:
            self._kept.move_to_end(key)
            return kept.token
        task = self._asking.get(key)
        if task is None:
            task = asyncio.create_task(self._renew(key), name=f"token for {key.challenger}")
            self._asking[key] = task
            task.add_done_callback(_retrieve)
        return await asyncio.shield(task)

    def drop(self, key: TokenKey, token: Token) -> None:
        """Forget `token` (not a newer one in its place): it was refused."""
        kept = self._kept.get(key)
        if kept is not None and kept.token.text == token.text:
            del self._kept[key]

    async def aclose(self) -> None:
        """Stop asking."""
        tasks = list(self._asking.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _renew(self, key: TokenKey) -> Token:
        try:
            began = self._monotonic()
            granted = await self._ask(key)
        finally:
            del self._asking[key]
        text, known = granted.reply.token, granted.with_credentials
        # Its life began when it was issued: not after we began to ask.
        until = began + _RENEW_AT * granted.reply.expires_in_s
        self._kept[key] = _Kept(Token(text, known, fresh=False), until)
        self._kept.move_to_end(key)
        while len(self._kept) > TOKENS_MAX:
            self._kept.popitem(last=False)
        return Token(text, known, fresh=granted.fresh)


def _retrieve(task: asyncio.Task[Token]) -> None:
    """All callers may have left; asyncio would call its failure unheard of."""
    if not task.cancelled():
        task.exception()
