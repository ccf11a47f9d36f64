"""What the fast lane answers, below the HTTP parser.

Its answers are among all others in `clients.py`, too; how many bytes its tables hold is a
gauge, read when asked for.
"""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter

from proxy.events import RequestServed


class LaneMetrics:
    """By upstream; pings are of none."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._answers = Counter(
            "entrepot_fast_lane_answers",
            "Client requests that were answered again below the HTTP parser.",
            ("upstream",),
            registry=registry,
        )

    def expect(self, upstream: str) -> None:
        """There is such an upstream."""
        self._answers.labels(upstream)

    def request(self, event: RequestServed) -> None:
        """Count one, or as many as it stands for, if it was the fast lane's."""
        if event.repeated:
            self._answers.labels(event.upstream).inc(event.count)
