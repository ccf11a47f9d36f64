"""What clients asked, and how they fared."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Histogram

from proxy.events import RequestServed
from proxy.telemetry.buckets import SECONDS


class ClientMetrics:
    """Requests, the bytes sent for them, and how long they took."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._requests = Counter(
            "entrepot_requests",
            "Client requests by what was asked, how it was answered, and status.",
            ("kind", "method", "upstream", "outcome", "status"),
            registry=registry,
        )
        self._served = Counter(
            "entrepot_served_bytes",
            "Body bytes sent to clients.",
            ("kind", "upstream", "outcome"),
            registry=registry,
        )
        self._cut = Counter(
            "entrepot_cut_responses",
            "Bodies that did not reach their end: the client left, or we had to cut them.",
            ("kind", "upstream"),
            registry=registry,
        )
        self._first_byte = Histogram(
            "entrepot_first_byte_seconds",
            "From a request to the head of its answer.",
            ("kind", "outcome"),
            buckets=SECONDS,
            registry=registry,
        )
        self._duration = Histogram(
            "entrepot_request_duration_seconds",
            "From a request to the last byte of its answer.",
            ("kind", "outcome"),
            buckets=SECONDS,
            registry=registry,
        )

    def expect(self, upstream: str) -> None:
        """There is such an upstream."""
        for kind in ("manifest", "blob"):
            self._cut.labels(kind, upstream)

    def request(self, event: RequestServed) -> None:
        """Count one, or as many as it stands for."""
        self._requests.labels(
            event.kind, event.method, event.upstream, event.outcome, str(event.status)
        ).inc(event.count)
        self._served.labels(event.kind, event.upstream, event.outcome).inc(event.size * event.count)
        if not event.complete:
            self._cut.labels(event.kind, event.upstream).inc()
        labels = (event.kind, event.outcome)
        _observe(self._first_byte.labels(*labels), event.first_byte_s, event.count)
        _observe(self._duration.labels(*labels), event.duration_s, event.count)


def _observe(histogram: Histogram, value: float, count: int) -> None:
    """The same as `count` times `observe(value)`, which is all that its API has."""
    if count > 1:
        histogram._sum.inc(value * (count - 1))  # noqa: SLF001 - see above
        for bound, bucket in zip(histogram._upper_bounds, histogram._buckets, strict=True):  # noqa: SLF001
            if value <= bound:
                bucket.inc(count - 1)
                break
    histogram.observe(value)
