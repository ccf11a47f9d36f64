"""The admin page of pulls that upstreams count: `GET /quota?top=10`.

How many are left for each login, when they run out, and who spent them in the last 24
hours. Only upstreams that spoke of a quota, or that have several logins, are told of.
Each replica of a fleet knows what is left for all, and what it spent itself.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from ipaddress import ip_address
from typing import Any

from aiohttp import web

from proxy.ports import Clock, Upstream
from proxy.upstream.account import Account
from proxy.upstream.offline import Severable
from proxy.upstream.quota_forecast import Forecast
from proxy.upstream.registry import RegistryUpstream

_TOP = 10
_TOP_MAX = 64


class Quotas:
    """Reads; changes nothing."""

    def __init__(self, upstreams: Mapping[str, Upstream], *, by_client: bool, clock: Clock) -> None:
        """`by_client`: whether it may be told which networks spent."""
        clients = {
            name: one.client if isinstance(one, Severable) else one
            for name, one in upstreams.items()
        }
        self._upstreams = {
            name: one for name, one in clients.items() if isinstance(one, RegistryUpstream)
        }
        self._by_client = by_client
        self._clock = clock

    def tell(self) -> None:
        """State for the metrics how long it lasts as of now."""
        for upstream in self._upstreams.values():
            upstream.accounts.ledger.tell()

    def document(self, top: int = _TOP) -> dict[str, Any]:
        """The page."""
        found = {name: self._upstream(one, top) for name, one in self._upstreams.items()}
        return {"upstreams": {name: one for name, one in found.items() if one is not None}}

    def _upstream(self, upstream: RegistryUpstream, top: int) -> dict[str, Any] | None:
        accounts = upstream.accounts
        ledger, logins = accounts.ledger, list(accounts)
        if ledger.quota is None and len(logins) == 1:
            return None
        clients = ledger.spenders.clients(top) if self._by_client else None
        return {
            "limit": None if ledger.quota is None else ledger.quota.limit,
            "remaining": None if ledger.quota is None else ledger.quota.remaining,
            "reserve": ledger.reserve,
            "saving": accounts.saving,
            "forecast": self._forecast(ledger.forecast()),
            "credentials": [self._login(one) for one in logins],
            "spent": ledger.spenders.total,
            "images": [
                {"image": name, "pulls": pulls} for name, pulls in ledger.spenders.images(top)
            ],
            "clients": clients and [{"client": name, "pulls": pulls} for name, pulls in clients],
        }

    def _login(self, account: Account) -> dict[str, Any]:
        budget = account.budget
        quota = budget.quota if budget.metered else None
        reason, left_s = account.passed_over
        return {
            "name": account.name,
            "metered": budget.metered,
            "limit": None if quota is None else quota.limit,
            "remaining": None if quota is None else quota.remaining,
            "window_s": None if quota is None else quota.window_s,
            "reserve": budget.reserve,
            "warm_reserve": budget.warm_reserve,
            "read_s_ago": None if quota is None else round(budget.age_s, 1),
            "counted_by": None if quota is None else _counted_by(quota.source),
            "passed_over": reason or None,
            "passed_over_s": round(left_s, 1),
            "forecast": self._forecast(budget.forecast()),
        }

    def _forecast(self, forecast: Forecast) -> dict[str, Any]:
        lasts = math.isinf(forecast.runs_out_s)
        return {
            "lasts": lasts,
            "pulls_an_hour": round(forecast.pace * 3600, 1),
            "runs_out_s": None if lasts else round(forecast.runs_out_s),
            "runs_out_at": None if lasts else round(self._clock() + forecast.runs_out_s),
        }


def _counted_by(source: str | None) -> str | None:
    """Whose pulls they are: of an address of ours, or of the account."""
    if not source:
        return None
    try:
        ip_address(source)
    except ValueError:
        return "account"
    return "address"


def pages(quotas: Quotas) -> list[web.RouteDef]:
    """For the admin listener."""

    async def page(request: web.Request) -> web.Response:
        text = request.query.get("top", str(_TOP))
        if not (text.isascii() and text.isdecimal() and 1 <= int(text[:9]) <= _TOP_MAX):
            return web.Response(status=400, text=f"top must be a number from 1 to {_TOP_MAX}\n")
        body = json.dumps(quotas.document(int(text)), indent=2).encode()
        return web.Response(body=body, content_type="application/json")

    return [web.get("/quota", page)]
