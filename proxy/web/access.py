"""The access line: one log line a request, with route, outcome and bytes."""

from __future__ import annotations

from collections.abc import Callable

import structlog

from proxy.web.exchange import Exchange

_TEXT_MAX = 200


def access_log(*, enabled: bool) -> Callable[[Exchange], None]:
    """What to call when a request is over."""
    if not enabled:
        return lambda _exchange: None
    log = structlog.get_logger("entrepot")

    def line(exchange: Exchange) -> None:
        request = exchange.request
        served = exchange.served()
        facts: dict[str, object] = {
            "method": request.method[:16],
            "target": request.raw_path[:_TEXT_MAX],
            "route": exchange.kind,
            "upstream": exchange.upstream,
            "status": exchange.status,
            "outcome": exchange.outcome,
            "bytes": exchange.size,
            "complete": exchange.complete,
            "ms": round(served.duration_s * 1000, 1),
            "client": request.remote,
            "agent": request.headers.get("User-Agent", "")[:_TEXT_MAX],
        }
        if exchange.error:
            facts["error"] = exchange.error
        log.info("request", **facts)

    return line
