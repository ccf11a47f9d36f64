"""What to put into Authorization: before a request, and after a 401.

What an upstream wants is learned from the 401 of a resource, or from a ping of
`/v2/` where the resource does not say (old gcr.io) or where credentials must be
presented from the start: a registry that hides what is private says 404 to a
stranger, and a 404 to a stranger proves nothing. Once learned, tokens for other
repositories are fetched without another 401.

Which request gets the header at all (own origin only) is `exchange.py`'s part.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from typing import Literal

from proxy.errors import AccessDenied
from proxy.oci.challenge import Challenge, choose, parse_challenges, pull_scope
from proxy.upstream.realms import Origin, realm_url
from proxy.upstream.session import UpstreamConfig
from proxy.upstream.token_request import basic
from proxy.upstream.tokens import Token, TokenKey, Tokens

Identity = Literal["ours", "anonymous"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Authorization:
    """A header and where it came from. `proves_us`: it holds our credentials,
    or a token that was given for them.
    """

    header: str = field(repr=False)
    proves_us: bool
    key: TokenKey | None = None
    token: Token | None = None


class Authorizer:
    """What one upstream wants to see. `ping` asks `/v2/` without Authorization
    and gives back the lines of its challenge.
    """

    def __init__(
        self, config: UpstreamConfig, tokens: Tokens, ping: Callable[[], Awaitable[list[str]]]
    ) -> None:
        self._config = config
        self._tokens = tokens
        self._ping = ping
        self._pinged = False
        self._pinging = asyncio.Lock()
        self._learned: Challenge | None = None

    async def before(self, repository: str, identity: Identity) -> Authorization | None:
        """What to send with a first request; None: nothing, as far as we know."""
        proving = identity == "ours" and self._config.credentials is not None
        if self._learned is None and proving:
            await self._learn_by_ping()
        if self._learned is None:
            return None
        try:
            return await self._answer(self._learned, pull_scope(repository), identity)
        except AccessDenied:
            # Quay shows public repositories without any token: try, unless we
            # must be known to be believed.
            if proving:
                raise
            return None

    async def after_401(
        self,
        lines: Iterable[str],
        repository: str,
        identity: Identity,
        sent: Authorization | None,
    ) -> Authorization | None:
        """What to try next; None: nothing, the 401 stands.

        A token that was just given is not asked for again unless it is called
        invalid; how often that may go on is the caller's limit.
        """
        challenge = choose(parse_challenges(lines))
        if challenge is None and sent is None:
            await self._learn_by_ping()
            challenge = self._learned
        elif challenge is None:
            challenge = self._learned
        else:
            self._learned = Challenge(challenge.scheme, challenge.realm, challenge.service)
        if challenge is None:
            return None
        if challenge.scheme == "basic":
            return await self._basic(identity, sent)
        scope = challenge.scope or pull_scope(repository)
        if sent is not None and sent.key is not None and sent.token is not None:
            if sent.key == self._key(challenge, scope, identity):
                if challenge.error == "insufficient_scope":
                    return None
                if sent.token.fresh and challenge.error != "invalid_token":
                    return None
            self.refused(sent)
        return await self._answer(challenge, scope, identity)

    async def unasked(self, identity: Identity) -> Authorization | None:
        """Our credentials for a registry that never asked for any.

        For a 404 that was said to a stranger; only ever to its own origin.
        """
        return await self._basic(identity, None)

    async def at_another_host(
        self, lines: Iterable[str], repository: str, host: Origin
    ) -> Authorization | None:
        """Something to show to a host that we were redirected to, and that said 401.

        Always an anonymous token: its challenge could name our own realm, and
        a token got there with our credentials would go to a stranger.
        """
        challenge = choose(parse_challenges(lines))
        if challenge is None or challenge.scheme != "bearer":
            return None
        key = self._key(challenge, challenge.scope or pull_scope(repository), "anonymous", host)
        return await self._bearer(key)

    def refused(self, shown: Authorization) -> None:
        """Forget a token that another host did not take."""
        if shown.key is not None and shown.token is not None:
            self._tokens.drop(shown.key, shown.token)

    async def _learn_by_ping(self) -> None:
        async with self._pinging:
            if not self._pinged:
                self._learned = choose(parse_challenges(await self._ping())) or self._learned
                self._pinged = True

    async def _answer(
        self, challenge: Challenge, scope: str, identity: Identity
    ) -> Authorization | None:
        if challenge.scheme == "basic":
            return await self._basic(identity, None)
        return await self._bearer(self._key(challenge, scope, identity))

    async def _bearer(self, key: TokenKey) -> Authorization:
        token = await self._tokens.get(key)
        return Authorization(
            header=f"Bearer {token.text}",
            proves_us=token.with_credentials,
            key=key,
            token=token,
        )

    async def _basic(self, identity: Identity, sent: Authorization | None) -> Authorization | None:
        source = self._config.credentials
        if identity == "anonymous" or source is None:
            return None
        credentials = await source.get(refresh=sent is not None)
        if credentials is None or not credentials.password:
            return None
        header = basic(credentials)
        if sent is not None and sent.header == header:
            return None
        return Authorization(header=header, proves_us=True)

    def _key(
        self, challenge: Challenge, scope: str, identity: Identity, host: Origin | None = None
    ) -> TokenKey:
        own = self._config.origin
        realm = realm_url(own, host or own, challenge.realm or "", self._config.token_realms)
        return TokenKey(
            realm=str(realm),
            service=challenge.service,
            scope=tuple(sorted(set(scope.split()))),
            ours=identity == "ours" and self._config.credentials is not None,
            challenger=(host or own).host,
        )
