"""The admin page of what was saved: `GET /savings?days=30`.

`hours=N` (1 to 24) or `ever=1` instead of `days=N` (1 to 30, the default); `top=N`
bounds the images and clients told. The current step of time counts as one, so an hour
is the last 55 to 60 minutes, and a day begins at midnight UTC.
"""

from __future__ import annotations

import heapq
import json
from collections.abc import Mapping
from typing import Any

from aiohttp import web

from proxy.savings.history import DAYS, HOURS, History, View
from proxy.savings.keeping import Savings
from proxy.savings.sums import Sums

_TOP = 50
_TOP_MAX = 10_000


def pages(savings: Savings) -> list[web.RouteDef]:
    """For the admin listener."""

    async def page(request: web.Request) -> web.Response:
        try:
            document = told(savings, request.query)
        except ValueError as error:
            return web.Response(status=400, text=f"{error}\n")
        body = json.dumps(document, indent=2).encode()
        return web.Response(body=body, content_type="application/json")

    return [web.get("/savings", page)]


def told(savings: Savings, query: Mapping[str, str]) -> dict[str, Any]:
    """The document of the page. Raises `ValueError` for a query that makes no sense."""
    top = _number(query, "top", _TOP, _TOP_MAX)
    now = savings.clock()
    window, view = _window(savings.ledger.history, query, now)
    return {
        "window": window,
        "since": view.since,
        "until": now,
        "total": view.total.document(),
        "upstreams": _listed(view.upstreams, len(view.upstreams)),
        "images": _listed(view.images, top),
        "clients": _listed(view.clients, top) if savings.ledger.by_client else None,
        "step_s": view.step_s,
        "series": [{"at": at, **sums.document()} for at, sums in sorted(view.series.items())],
    }


def _window(history: History, query: Mapping[str, str], now: float) -> tuple[str, View]:
    chosen = [name for name in ("hours", "days", "ever") if name in query]
    match chosen:
        case ["ever"]:
            return "ever", history.ever(now)
        case ["hours"]:
            hours = _number(query, "hours", 1, HOURS)
            if hours == 1:
                return "1 hour", history.last_hour(now)
            return f"{hours} hours", history.last_hours(now, hours)
        case [] | ["days"]:
            days = _number(query, "days", DAYS, DAYS)
            return f"{days} day{'s' if days > 1 else ''}", history.last_days(now, days)
        case _:
            raise ValueError("only one of hours, days and ever")


def _number(query: Mapping[str, str], name: str, default: int, most: int) -> int:
    text = query.get(name, str(default))
    if not (text.isascii() and text.isdecimal() and len(text) < 9 and 1 <= int(text) <= most):
        raise ValueError(f"{name} must be a number from 1 to {most}")
    return int(text)


def _listed(table: Mapping[str, Sums], top: int) -> list[dict[str, Any]]:
    """Those that saved most first."""
    chosen = heapq.nsmallest(
        top, table.items(), key=lambda one: (-one[1].saved_bytes, -one[1].pulls_saved, one[0])
    )
    return [{"name": name, **sums.document()} for name, sums in chosen]
