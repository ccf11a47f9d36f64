"""What clients asked, and how they fared."""

from __future__ import annotations

from typing import NamedTuple

from prometheus_client import CollectorRegistry, Counter, Histogram

from proxy.events import RequestServed
from proxy.telemetry.buckets import SECONDS


class _Series(NamedTuple):
    requests: Counter
    served: Counter
    first_byte: Histogram
    duration: Histogram


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
        # Looking up the series of all labels costs more than counting in them.
        self._series: dict[tuple[str, str, str, str, int], _Series] = {}

    def expect(self, upstream: str) -> None:
        """There is such an upstream."""
        for kind in ("manifest", "blob"):
            self._cut.labels(kind, upstream)

    def request(self, event: RequestServed) -> None:
        """Count one, or as many as it stands for."""
        key = (event.kind, event.method, event.upstream, event.outcome, event.status)
        series = self._series.get(key)
        if series is None:
            series = self._series[key] = self._series_of(event)
        series.requests.inc(event.count)
        series.served.inc(event.size * event.count)
        if not event.complete:
            self._cut.labels(event.kind, event.upstream).inc()
        _observe(series.first_byte, event.first_byte_s, event.count)
        _observe(series.duration, event.duration_s, event.count)

    def _series_of(self, event: RequestServed) -> _Series:
        return _Series(
            self._requests.labels(
                event.kind, event.method, event.upstream, event.outcome, str(event.status)
            ),
            self._served.labels(event.kind, event.upstream, event.outcome),
            self._first_byte.labels(event.kind, event.outcome),
            self._duration.labels(event.kind, event.outcome),
        )


def _observe(histogram: Histogram, value: float, count: int) -> None:
    """The same as `count` times `observe(value)`, which is all that its API has."""
    if count > 1:
        histogram._sum.inc(value * (count - 1))  # noqa: SLF001 - see above
        for bound, bucket in zip(histogram._upper_bounds, histogram._buckets, strict=True):  # noqa: SLF001
            if value <= bound:
                bucket.inc(count - 1)
                break
    histogram.observe(value)
