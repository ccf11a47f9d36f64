"""One question to an upstream: admitted, authorized, redirected, in time.

`Exchange.open` gives the head of the final answer; reading its body is the
caller's. Statuses that mean trouble (429, 408, 5xx) are raised here, all others
are answers. Leaving the context closes the connection at once unless the body
was read to its end: nothing is drained.

Redirects are followed by hand, five at most, because each hop is a decision
(`realms.py`); where they lead is never remembered: signed URLs expire.
Authorization goes to the upstream's own scheme, host and port only, or to
another host a token that this very host asked for.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager

import aiohttp
from yarl import URL

from proxy.cache.shared import Shared
from proxy.errors import (
    AccessDenied,
    BadUpstreamAnswer,
    UpstreamLimited,
    UpstreamUnavailable,
)
from proxy.events import QuotaRead, UpstreamAnswered
from proxy.ports import Clock, Observe, Quota
from proxy.upstream.answers import Answer, Ask
from proxy.upstream.authorization import Authorization, Authorizer
from proxy.upstream.bodies import discard
from proxy.upstream.breaker import Breaker, Call
from proxy.upstream.quota import parse_quota, parse_retry_after
from proxy.upstream.realms import Origin, redirect_target
from proxy.upstream.session import Session, UpstreamConfig
from proxy.upstream.shared_tokens import SharedTokens
from proxy.upstream.token_request import TokenRequests
from proxy.upstream.tokens import Tokens
from proxy.upstream.translate import LIBRARY_ERRORS, naming, no_answer

REDIRECTS_MAX = 5
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
# Unknown, then wrong scope, then right: no honest registry needs more.
_TRIES_MAX = 3


class Exchange:
    """All questions to one upstream."""

    def __init__(
        self,
        config: UpstreamConfig,
        *,
        breaker: Breaker,
        observe: Observe,
        clock: Clock,
        monotonic: Callable[[], float],
        shared: Shared | None = None,
    ) -> None:
        self._config = config
        self._breaker = breaker
        self._observe = observe
        self._clock = clock
        self._monotonic = monotonic
        self._session = Session(config)
        requests = TokenRequests(
            config, self._session, observe=observe, clock=clock, monotonic=monotonic
        )
        ask = requests.ask
        if shared is not None:
            ask = SharedTokens(config.name, ask, shared=shared, clock=clock).ask
        self._tokens = Tokens(ask, monotonic=monotonic)
        self._authorizer = Authorizer(config, self._tokens, self._ping)
        self.quota: Quota | None = None
        self._blob_connections = asyncio.Semaphore(config.blob_connections_max)

    @asynccontextmanager
    async def open(self, ask: Ask) -> AsyncIterator[Answer]:
        """Ask, and hold the connection while the context lasts.

        Raises `AccessDenied` when a token is refused, `UpstreamLimited`,
        `UpstreamUnavailable`, `BadUpstreamAnswer`.
        """
        with self._breaker.enter("blob" if ask.operation == "blob" else "api") as call:
            async with AsyncExitStack() as held:
                yield await self._head(ask, call, held)

    async def aclose(self) -> None:
        """Cut everything."""
        await self._tokens.aclose()
        await self._session.aclose()

    def know_quota(self, quota: Quota) -> None:
        """The newest reading, whoever read it."""
        self.quota = quota
        self._observe(
            QuotaRead(upstream=self._config.name, limit=quota.limit, remaining=quota.remaining)
        )

    async def _head(self, ask: Ask, call: Call, held: AsyncExitStack) -> Answer:
        name, waiting = self._config.name, ask.streams
        try:
            async with asyncio.timeout(self._config.head_s):
                if ask.streams:
                    await held.enter_async_context(self._blob_connections)
                waiting = False
                with naming(name):
                    answer = await self._authorized(ask)
                held.callback(answer.response.close)
        except TimeoutError as error:
            if waiting:
                # Our own limit: no fault of the upstream's.
                raise UpstreamUnavailable(f"{name}: all connections for blobs are busy") from error
            unavailable = no_answer(name, self._config.origin.host, error)
            call.failed(str(unavailable))
            raise unavailable from error
        except UpstreamLimited as error:
            call.limited(error.retry_after_s)
            raise
        except BadUpstreamAnswer:
            raise
        except UpstreamUnavailable as error:
            call.failed(str(error))
            raise
        except AccessDenied:
            call.succeeded()
            raise
        call.succeeded()
        return answer

    async def _authorized(self, ask: Ask) -> Answer:
        """The answer to the best Authorization that we have."""
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
        if ask.operation == "manifest":
            self._read_quota(response)
        await self._raise_trouble(response)
        shown = sent is not None and sent.proves_us
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

    def _read_quota(self, response: aiohttp.ClientResponse) -> None:
        quota = parse_quota(response.headers, now=self._clock())
        if quota is not None:
            self.know_quota(quota)
