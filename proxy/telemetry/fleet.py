"""What replicas do with each other: Redis, claims, bytes from one to another."""

from __future__ import annotations

from typing import get_args

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from proxy.events import (
    CoordinationAsked,
    CoordinationMoved,
    CoordinationOperation,
    LeaseMoved,
    PeerServed,
)
from proxy.telemetry.buckets import SHORT_SECONDS


class FleetMetrics:
    """Nothing moves here in a process that is alone."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._peer_served = Counter(
            "entrepot_peer_served_bytes", "Blob bytes sent to other replicas.", registry=registry
        )
        self._up = Gauge(
            "entrepot_coordination_up",
            "0 while Redis is configured and can't be used.",
            registry=registry,
        )
        self._up.set(1)
        self._failures = Counter(
            "entrepot_coordination_failures",
            "Commands that Redis refused or did not answer in time; the work went on without.",
            ("operation",),
            registry=registry,
        )
        self._seconds = Histogram(
            "entrepot_coordination_seconds",
            "From a command to Redis to its reply.",
            ("operation",),
            buckets=SHORT_SECONDS,
            registry=registry,
        )
        self._leases = Counter(
            "entrepot_leases",
            "Claims by outcome: held, taken over, busy (somebody else's), lost.",
            ("outcome",),
            registry=registry,
        )

        for operation in get_args(CoordinationOperation):
            self._failures.labels(operation)
        for outcome in ("held", "taken", "busy", "lost"):
            self._leases.labels(outcome)

    def peer_served(self, event: PeerServed) -> None:
        """Bytes to another replica."""
        self._peer_served.inc(event.count)

    def moved(self, event: CoordinationMoved) -> None:
        """Redis came, or went."""
        self._up.set(event.state == "ok")

    def asked(self, event: CoordinationAsked) -> None:
        """One command."""
        if event.answered:
            self._seconds.labels(event.operation).observe(event.duration_s)
        else:
            self._failures.labels(event.operation).inc()

    def lease(self, event: LeaseMoved) -> None:
        """A claim."""
        self._leases.labels(event.outcome).inc()
