"""One login at an upstream, or none: what is asked as whom, and what came of it.

A question goes out with the best Authorization that this login has, over all its
redirects, five at most. They are followed by hand, because each hop is a decision
(`realms.py`); where they lead is never remembered: signed URLs expire.
Authorization goes to the upstream's own scheme, host and port only, or to
another host a token that this very host asked for.

Which of several logins is to ask is decided in `accounts.py`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import aiohttp
from yarl import URL

from proxy.cache.shared import Shared
from proxy.errors import BadUpstreamAnswer, UpstreamLimited, UpstreamUnavailable
from proxy.events import UpstreamAnswered
from proxy.ports import Clock, Observe
from proxy.upstream.answers import Answer, Ask
from proxy.upstream.authorization import Authorization, Authorizer
from proxy.upstream.bodies import discard
from proxy.upstream.credentials import CredentialSource, account_id, masked
from proxy.upstream.quota import parse_retry_after
from proxy.upstream.quota_budget import Budget
from proxy.upstream.quota_ledger import Ledger
from proxy.upstream.realms import Origin, redirect_target
from proxy.upstream.session import Session, UpstreamConfig
from proxy.upstream.shared_tokens import SharedTokens
from proxy.upstream.token_request import TokenRequests
from proxy.upstream.tokens import Tokens
from proxy.upstream.translate import LIBRARY_ERRORS, no_answer

REDIRECTS_MAX = 5
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
# Unknown, then wrong scope, then right: no honest registry needs more.
_TRIES_MAX = 3


class Account:
    """Asks as one login. `budget`: its pulls; `ledger`: where they are written down."""

    def __init__(
        self,
        config: UpstreamConfig,
        session: Session,
        source: CredentialSource | None,
        *,
        ledger: Ledger,
        alone: bool,
        observe: Observe,
        clock: Clock,
        monotonic: Callable[[], float],
        shared: Shared | None = None,
    ) -> None:
        """`alone`: there is no other login at this upstream."""
        self._config = config = replace(config, credentials=source)
        self._session = session
        self._ledger = ledger
        self._observe = observe
        self._clock = clock
        self._monotonic = monotonic
        requests = TokenRequests(config, session, observe=observe, clock=clock, monotonic=monotonic)
        ask = requests.ask
        # Replicas may be told of logins in another order: a token goes by whose it is.
        self.id = "" if alone else account_id(source)
        if shared is not None:
            name = f"{config.name}/{self.id}" if self.id else config.name
            ask = SharedTokens(name, ask, shared=shared, clock=clock).ask
        self._tokens = Tokens(ask, monotonic=monotonic)
        self._authorizer = Authorizer(config, self._tokens, self._ping)
        self.name = masked(source)
        self.budget: Budget = ledger.budget()
        self._passed_over_until = -math.inf
        self._passed_over_for = ""
        self.used_at = 0
        """When it was last asked for something that counts: a number that grows."""

    @property
    def passed_over(self) -> tuple[str, float]:
        """Why it is not asked now ("limited", "refused"; "": it may be), and for how
        many seconds more.
        """
        left_s = self._passed_over_until - self._monotonic()
        return (self._passed_over_for, left_s) if left_s > 0 else ("", 0.0)

    def pass_over(self, reason: str, seconds: float) -> None:
        """Others are asked instead for a while, where there are any."""
        self._passed_over_until = self._monotonic() + seconds
        self._passed_over_for = reason

    async def aclose(self) -> None:
        """Stop asking for tokens."""
        await self._tokens.aclose()

    async def answer(self, ask: Ask) -> Answer:
        """The answer to the best Authorization that we have.

        Raises `AccessDenied` when a token is refused, `UpstreamLimited`,
        `UpstreamUnavailable`, `BadUpstreamAnswer`.
        """
        with self._ledger.under_way(self.budget, ask):
            sent = await self._authorizer.before(ask.repository, ask.identity)
            answer = await self._follow(ask, sent)
            for _ in range(_TRIES_MAX - 1):
                following = await self._following(ask, answer, sent)
                if following is None:
                    break
                sent = following
                answer = await self._follow(ask, sent)
            return answer

    async def _following(
        self, ask: Ask, answer: Answer, sent: Authorization | None
    ) -> Authorization | None:
        if ask.operation == "ping" and self._config.credentials is None:
            return None  # A challenge is an answer, and there is no scope to ask a token for.
        unknown = answer.status == 404 and sent is None and not answer.proven
        refused = answer.status == 401 and not answer.elsewhere
        if not (unknown or refused):
            return None
        await discard(answer.response, self._config.name)
        if unknown:
            return await self._authorizer.unasked(ask.identity)
        lines = answer.response.headers.getall("WWW-Authenticate", [])
        return await self._authorizer.after_401(lines, ask.repository, ask.identity, sent)

    async def _ping(self) -> list[str]:
        ask = Ask(operation="ping", method="GET", repository="", path="/v2/", identity="anonymous")
        answer = await self._follow(ask, None)
        await discard(answer.response, self._config.name)
        # A challenge that another host wrote says nothing of this one.
        return [] if answer.elsewhere else answer.response.headers.getall("WWW-Authenticate", [])

    async def _follow(self, ask: Ask, sent: Authorization | None) -> Answer:
        """One question with one Authorization, over all its redirects."""
        query = f"?{ask.query}" if ask.query else ""
        url = URL(f"{self._config.base}{ask.path}{query}", encoded=True)
        began, status = self._monotonic(), 0
        try:
            response, elsewhere = await self._hops(ask, url, sent)
            status = response.status
        finally:
            self._observe(
                UpstreamAnswered(
                    upstream=self._config.name,
                    operation=ask.operation,
                    method=ask.method,
                    status=status,
                    duration_s=self._monotonic() - began,
                )
            )
        shown = sent is not None and sent.proves_us
        ours = self._config.credentials is None or shown
        self._ledger.answered(self.budget if ours else None, ask, response)
        await self._raise_trouble(response)
        stranger = ask.identity == "anonymous" or self._config.credentials is None
        return Answer(response, shown, shown or stranger, elsewhere)

    async def _hops(
        self, ask: Ask, url: URL, sent: Authorization | None
    ) -> tuple[aiohttp.ClientResponse, bool]:
        own, name = self._config.origin, self._config.name
        elsewhere: dict[Origin, Authorization] = {}
        for _ in range(REDIRECTS_MAX + 1):
            origin = Origin.of(url)
            shown = sent if origin == own else elsewhere.get(origin)
            response = await self._send(ask, url, shown)
            location = response.headers.get("Location")
            if response.status in _REDIRECTS and location is not None:
                await discard(response, name)
                url = redirect_target(own, url, location)
                continue
            if response.status != 401 or origin == own:
                return response, origin != own
            await discard(response, name)
            if shown is not None:
                self._authorizer.refused(shown)
                return response, True
            lines = response.headers.getall("WWW-Authenticate", [])
            answered = await self._authorizer.at_another_host(lines, ask.repository, origin)
            if answered is None:
                return response, True
            elsewhere[origin] = answered
        raise BadUpstreamAnswer(f"{name} redirects without end")

    async def _send(
        self, ask: Ask, url: URL, shown: Authorization | None
    ) -> aiohttp.ClientResponse:
        headers = dict(ask.headers)
        if shown is not None:
            headers["Authorization"] = shown.header
        try:
            return await self._session.request(ask.method, url, headers=headers)
        except LIBRARY_ERRORS as error:
            raise no_answer(self._config.name, url.raw_host or "", error) from error

    async def _raise_trouble(self, response: aiohttp.ClientResponse) -> None:
        status, name = response.status, self._config.name
        if status == 429:
            await discard(response, name)
            retry_after = response.headers.get("Retry-After")
            raise UpstreamLimited(
                f"{name} limits our requests",
                retry_after_s=parse_retry_after(retry_after, now=self._clock()),
            )
        if status == 408 or status >= 500:
            await discard(response, name)
            raise UpstreamUnavailable(f"{name} answered {status}")
