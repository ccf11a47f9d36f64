"""One question to an upstream: admitted, authorized, redirected, in time.

`Exchange.open` gives the head of the final answer; reading its body is the
caller's. Statuses that mean trouble (429, 408, 5xx) are raised here, all others
are answers. Leaving the context closes the connection at once unless the body
was read to its end: nothing is drained.

Who asks, of several logins, is decided in `accounts.py`; how one asks, and how
redirects are followed, in `account.py`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager

from proxy.cache.shared import Shared
from proxy.errors import (
    AccessDenied,
    BadUpstreamAnswer,
    UpstreamLimited,
    UpstreamUnavailable,
)
from proxy.ports import Clock, Observe
from proxy.upstream.account import Account
from proxy.upstream.accounts import Accounts
from proxy.upstream.answers import Answer, Ask
from proxy.upstream.breaker import Breaker, Call
from proxy.upstream.quota_ledger import Ledger
from proxy.upstream.session import Session, UpstreamConfig
from proxy.upstream.translate import naming, no_answer


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
        self._session = Session(config)
        ledger = Ledger(
            config.name,
            reserve=config.quota_reserve,
            warm_reserve=config.quota_warm_reserve,
            observe=observe,
            clock=clock,
            monotonic=monotonic,
        )
        sources = (config.credentials, *config.further_credentials)
        logins = [
            Account(
                config,
                self._session,
                source,
                ledger=ledger,
                alone=len(sources) == 1,
                observe=observe,
                clock=clock,
                monotonic=monotonic,
                shared=shared,
            )
            for source in sources
        ]
        self.accounts = Accounts(config.name, logins, ledger)
        self._blob_connections = asyncio.Semaphore(config.blob_connections_max)

    @asynccontextmanager
    async def open(self, ask: Ask) -> AsyncIterator[Answer]:
        """Ask, and hold the connection while the context lasts.

        Raises `AccessDenied` when a token is refused, `UpstreamLimited`,
        `UpstreamUnavailable`, `BadUpstreamAnswer`; `QuotaKept` without asking.
        """
        account = self.accounts.choose(ask)
        with self._breaker.enter("blob" if ask.operation == "blob" else "api") as call:
            async with AsyncExitStack() as held:
                yield await self._head(account, ask, call, held)

    async def aclose(self) -> None:
        """Cut everything."""
        await self.accounts.aclose()
        await self._session.aclose()

    async def _head(self, account: Account, ask: Ask, call: Call, held: AsyncExitStack) -> Answer:
        name, waiting = self._config.name, ask.streams
        try:
            async with asyncio.timeout(self._config.head_s):
                if ask.streams:
                    await held.enter_async_context(self._blob_connections)
                waiting = False
                with naming(name):
                    answer = await self.accounts.answer(account, ask)
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
