"""Fills and tags: how content came in, and what was served without asking."""

from __future__ import annotations

from typing import get_args

from prometheus_client import CollectorRegistry, Counter, Histogram

from proxy.events import (
    BytesFetched,
    FlightEnded,
    FlightResumed,
    FollowerJoined,
    Part,
    ServedStale,
    TagMoved,
)
from proxy.telemetry.buckets import SECONDS

_OUTCOMES = ("stored", "partial", "unkept", "failed", "mismatch", "refused")
_REASONS = ("unreachable", "limited", "refused", "slow", "quota", "gone")


class FillMetrics:
    """Fills in progress are a gauge, read when asked for; here they are counted."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._flights = Counter(
            "entrepot_flights",
            "Fills that ended, by outcome.",
            ("upstream", "outcome"),
            registry=registry,
        )
        self._duration = Histogram(
            "entrepot_flight_duration_seconds",
            "From the start of a fill to its end.",
            ("outcome",),
            buckets=SECONDS,
            registry=registry,
        )
        self._joins = Counter(
            "entrepot_joins",
            "Requests that joined a fill in progress instead of starting one.",
            ("upstream",),
            registry=registry,
        )
        self._resumes = Counter(
            "entrepot_resumes",
            "Fills that went on after a break, or from a spool that was left.",
            ("upstream",),
            registry=registry,
        )
        self._parts = Counter(
            "entrepot_fetch_parts",
            "Answers of upstreams that fills read: what was missing from the first byte on (main), "
            "a piece beside that over another connection, a window for who asked for a range.",
            ("upstream", "part"),
            registry=registry,
        )
        self._stale = Counter(
            "entrepot_stale_answers",
            "Answers from a record because the upstream could not be asked.",
            ("upstream", "reason"),
            registry=registry,
        )
        self._tag_moves = Counter(
            "entrepot_tag_moves",
            "Tags seen to name another digest.",
            ("upstream",),
            registry=registry,
        )
        self._tag_reversals = Counter(
            "entrepot_tag_reversals",
            "Tags seen to name again what they named before: rolled back, "
            "or those who answer disagree.",
            ("upstream",),
            registry=registry,
        )

    def expect(self, upstream: str) -> None:
        """There is such an upstream."""
        for outcome in _OUTCOMES:
            self._flights.labels(upstream, outcome)
        for part in get_args(Part):
            self._parts.labels(upstream, part)
        for reason in _REASONS:
            self._stale.labels(upstream, reason)
        for counter in (self._joins, self._resumes, self._tag_moves, self._tag_reversals):
            counter.labels(upstream)

    def ended(self, event: FlightEnded) -> None:
        """A fill is over."""
        self._flights.labels(event.upstream, event.outcome).inc()
        self._duration.labels(event.outcome).observe(event.duration_s)

    def fetched(self, event: BytesFetched) -> None:
        """An upstream's answer was read, to its end or not."""
        if event.part is not None:
            self._parts.labels(event.upstream, event.part).inc()

    def joined(self, event: FollowerJoined) -> None:
        """A request found a fill that was in progress."""
        self._joins.labels(event.upstream).inc()

    def resumed(self, event: FlightResumed) -> None:
        """A fill went on."""
        self._resumes.labels(event.upstream).inc()

    def stale(self, event: ServedStale) -> None:
        """A record instead of an answer."""
        self._stale.labels(event.upstream, event.reason).inc()

    def tag_moved(self, event: TagMoved) -> None:
        """Forth, or back."""
        self._tag_moves.labels(event.upstream).inc()
        if event.back:
            self._tag_reversals.labels(event.upstream).inc()
