"""The access line: one log line a request, with route, outcome and bytes."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import structlog

from proxy.web.exchange import Exchange
from proxy.web.fastlane import Line

_TEXT_MAX = 200


def access_log(*, enabled: bool) -> Callable[[Exchange], None]:
    """What to call when a request is over."""
    if not enabled:
        return lambda _exchange: None
    log = structlog.get_logger("entrepot")

    def line(exchange: Exchange) -> None:
        facts = access_facts(exchange)
        served = exchange.served()
        error = {"error": exchange.error} if exchange.error else {}
        client = exchange.request.remote
        log.info("request", **facts, ms=_ms(served.duration_s), client=client, **error)

    return line


def repeated_log(*, enabled: bool) -> Callable[[Sequence[Line]], None] | None:
    """The same for requests that the fast lane answered, many at once and a little later.

    Of equal lines one is made as every other line is, and all are written in one go.
    """
    if not enabled:
        return None
    log = structlog.get_logger("entrepot")

    def write(lines: Sequence[Line]) -> None:
        if not log.is_enabled_for(logging.INFO):
            return
        around: dict[tuple[int, str | None, float], tuple[str, str]] = {}
        written: list[str] = []
        for facts, client, at, duration_s in lines:
            ms = _ms(duration_s)
            key = (id(facts), client, ms)
            if key not in around:
                try:
                    around[key] = _around_time({**facts, "ms": ms, "client": client or None})
                except structlog.DropEvent:
                    continue  # As a processor may decide.
            before, after = around[key]
            # As the log's own time stamps are written.
            time = datetime.fromtimestamp(at, UTC).isoformat().removesuffix("+00:00")
            written.append(f"{before}{time}Z{after}")
        structlog.get_config()["logger_factory"]().info("\n".join(written))

    return write


def _around_time(facts: dict[str, object]) -> tuple[str, str]:
    """A line as it stands around its time."""
    token = secrets.token_hex(16)
    event: Any = {**facts, "timestamp": token, "event": "request"}
    for process in structlog.get_config()["processors"]:
        event = process(None, "info", event)
    before, _, after = str(event).partition(token)
    return before, after


def access_facts(exchange: Exchange) -> Mapping[str, object]:
    """What is the same for each request with this head."""
    request = exchange.request
    return {
        "method": request.method[:16],
        "target": request.raw_path[:_TEXT_MAX],
        "route": exchange.kind,
        "upstream": exchange.upstream,
        "status": exchange.status,
        "outcome": exchange.outcome,
        "bytes": exchange.size,
        "complete": exchange.complete,
        "agent": request.headers.get("User-Agent", "")[:_TEXT_MAX],
    }


def _ms(duration_s: float) -> float:
    return round(duration_s * 1000, 1)
