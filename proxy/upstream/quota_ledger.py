"""What the answers of one upstream say of its pulls, and where they went.

A reading belongs to whoever was asked as: one login, or a stranger. Logins whose
answers name the same source (an address of ours: the network is limited, not the
account) draw from one pot, and what one of them reads holds for all of these.

Counted is a GET of a manifest that brought one. HEADs are free on Docker Hub.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Literal

import aiohttp

from proxy.cache import traffic
from proxy.cache.traffic import Urgency
from proxy.config.quota import Reserve
from proxy.events import QuotaRead, QuotaSpent
from proxy.ports import Clock, Observe, Quota
from proxy.upstream.answers import Ask
from proxy.upstream.quota import parse_quota
from proxy.upstream.quota_budget import Budget
from proxy.upstream.quota_forecast import Forecast, forecast
from proxy.upstream.quota_spenders import Spenders

_WORDS: Mapping[Urgency, Literal["waiting", "refresh", "warm"]] = {
    Urgency.WAITING: "waiting",
    Urgency.REFRESH: "refresh",
    Urgency.WARM: "warm",
}


def counts(ask: Ask) -> bool:
    """Whether an upstream with a quota counts this."""
    return ask.operation == "manifest" and ask.method == "GET"


class Ledger:
    """The budgets of one upstream's logins, together."""

    def __init__(
        self,
        upstream: str,
        *,
        reserve: Reserve,
        warm_reserve: Reserve,
        observe: Observe,
        clock: Clock,
        monotonic: Callable[[], float],
    ) -> None:
        self._upstream = upstream
        self._reserve = reserve
        self._warm_reserve = warm_reserve
        self._observe = observe
        self._clock = clock
        self._monotonic = monotonic
        self._stranger = self._new_budget()
        self._budgets: list[Budget] = []
        self.spenders = Spenders(monotonic)

    def budget(self) -> Budget:
        """That of one more login."""
        budget = self._new_budget()
        self._budgets.append(budget)
        return budget

    @property
    def quota(self) -> Quota | None:
        """What was read last; of several logins their sum."""
        if len(self._budgets) == 1:
            return self._budgets[0].quota
        read = [one.quota for one in self._budgets if one.quota is not None]
        if not read:
            return None
        limits = [one.limit for one in read if one.limit is not None]
        remaining = [one.remaining for one in read if one.remaining is not None]
        return Quota(
            limit=sum(limits) if limits else None,
            remaining=sum(remaining) if remaining else None,
            window_s=max((one.window_s or 0 for one in read), default=0) or None,
            source=None,
            read_at=max(one.read_at for one in read),
        )

    @property
    def reserve(self) -> int:
        """In pulls, of all logins."""
        return sum(one.reserve for one in self._budgets if one.metered)

    def forecast(self) -> Forecast:
        """Of all logins together."""
        if len(self._budgets) == 1:
            return self._budgets[0].forecast()
        left = sum(one.left for one in self._budgets)
        pace = sum(one.pace() for one in self._budgets)
        refilled_in_s = min((one.refilled_in_s for one in self._budgets), default=math.inf)
        return forecast(left, pace, refilled_in_s=refilled_in_s)

    @contextmanager
    def under_way(self, budget: Budget, ask: Ask) -> Iterator[None]:
        """While `ask` is not answered, what it costs counts as spent."""
        cost = 1 if counts(ask) and ask.identity == "ours" else 0
        budget.under_way += cost
        try:
            yield
        finally:
            budget.under_way -= cost

    def answered(self, budget: Budget | None, ask: Ask, response: aiohttp.ClientResponse) -> None:
        """An upstream's answer, to a stranger if there is no `budget`."""
        if ask.operation != "manifest":
            return
        budget = budget or self._stranger
        quota = parse_quota(response.headers, now=self._clock())
        if quota is not None:
            self.heard(budget, quota)
        elif response.status == 200 and budget.quota is not None:
            budget.read(None)
        if not counts(ask) or not budget.metered:
            return
        if response.status == 200:
            self.spenders.spent(f"{self._upstream}/{ask.repository}", traffic.current().client)
            self._spent("counted")
        elif response.status == 429:
            self._spent("limited")

    def heard(self, budget: Budget, quota: Quota) -> None:
        """A reading, whoever read it."""
        budget.read(quota)
        for other in self._budgets:
            known = None if other.quota is None else other.quota.source
            if other is not budget and known is not None and known == quota.source:
                other.read(quota)
        if budget is not self._stranger:
            self.tell()

    def kept(self) -> None:
        """Something was not asked for the sake of the budget."""
        self._spent("kept")

    def tell(self) -> None:
        """State how much is left, if that was ever said."""
        quota = self.quota
        if quota is not None:
            self._observe(
                QuotaRead(
                    upstream=self._upstream,
                    limit=quota.limit,
                    remaining=quota.remaining,
                    reserve=self.reserve,
                    runs_out_s=self.forecast().runs_out_s,
                )
            )

    def _spent(self, outcome: Literal["counted", "limited", "kept"]) -> None:
        urgency = _WORDS[traffic.current().urgency]
        self._observe(QuotaSpent(upstream=self._upstream, urgency=urgency, outcome=outcome))

    def _new_budget(self) -> Budget:
        return Budget(
            reserve=self._reserve, warm_reserve=self._warm_reserve, monotonic=self._monotonic
        )
