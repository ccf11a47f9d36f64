"""Events to Prometheus metrics. Every metric name lives here and nowhere else.

No label can grow with what clients ask for: upstream names come from the
configuration, the rest from closed sets. Repositories and digests are for the
log.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import assert_never

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    generate_latest,
)
from prometheus_client.process_collector import ProcessCollector

from proxy import events
from proxy.events import Event

_SECONDS = (0.001, 0.005, 0.025, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)
_STATES = ("ok", "failing", "limited")


class Telemetry:
    """Counts events; renders them in the exposition format."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
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
            buckets=_SECONDS,
            registry=registry,
        )
        self._duration = Histogram(
            "entrepot_request_duration_seconds",
            "From a request to the last byte of its answer.",
            ("kind", "outcome"),
            buckets=_SECONDS,
            registry=registry,
        )
        self._upstream_requests = Counter(
            "entrepot_upstream_requests",
            "Requests to upstreams by operation and status (0: no answer).",
            ("upstream", "operation", "method", "status"),
            registry=registry,
        )
        self._upstream_head = Histogram(
            "entrepot_upstream_head_seconds",
            "From a request to an upstream to the head of its answer.",
            ("upstream", "operation"),
            buckets=_SECONDS,
            registry=registry,
        )
        self._fetched = Counter(
            "entrepot_fetched_bytes",
            "Body bytes received from upstreams.",
            ("upstream", "kind"),
            registry=registry,
        )
        self._tokens = Counter(
            "entrepot_tokens",
            "Token requests to upstreams.",
            ("upstream", "granted"),
            registry=registry,
        )
        self._quota_limit = Gauge(
            "entrepot_upstream_quota_limit",
            "Pulls an upstream allows in its window, as its headers said.",
            ("upstream",),
            registry=registry,
        )
        self._quota_remaining = Gauge(
            "entrepot_upstream_quota_remaining",
            "Pulls an upstream has left for us, as its headers said.",
            ("upstream",),
            registry=registry,
        )
        self._state = Gauge(
            "entrepot_upstream_state",
            "1 for the state an upstream is in.",
            ("upstream", "state"),
            registry=registry,
        )
        self._flights = Counter(
            "entrepot_flights",
            "Fills that ended, by outcome.",
            ("upstream", "outcome"),
            registry=registry,
        )
        self._flight_duration = Histogram(
            "entrepot_flight_duration_seconds",
            "From the start of a fill to its end.",
            ("outcome",),
            buckets=_SECONDS,
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
        self._evicted = Counter(
            "entrepot_evicted_blobs", "Files removed to make room.", registry=registry
        )
        self._evicted_bytes = Counter(
            "entrepot_evicted_bytes", "Bytes removed to make room.", registry=registry
        )
        self._peer_served = Counter(
            "entrepot_peer_served_bytes", "Blob bytes sent to other replicas.", registry=registry
        )
        self._read = Counter(
            "entrepot_read_bytes",
            "Blob bytes that came from S3 (storage) or from another replica (peer).",
            ("origin",),
            registry=registry,
        )
        self._scrub_found = Counter(
            "entrepot_scrub_bad_blobs",
            "Stored blobs that did not match their digest and were removed.",
            ("where",),
            registry=registry,
        )
        self._uploaded = Counter(
            "entrepot_uploaded_bytes", "Bytes stored in S3.", registry=registry
        )
        self._storage_failures = Counter(
            "entrepot_storage_failures",
            "Reads and writes of storage that failed; the requests went on without.",
            ("operation",),
            registry=registry,
        )

        self._coordination_up = Gauge(
            "entrepot_coordination_up",
            "0 while Redis is configured and can't be used.",
            registry=registry,
        )
        self._coordination_up.set(1)
        self._coordination_failures = Counter(
            "entrepot_coordination_failures",
            "Commands that Redis refused or did not answer in time; the work went on without.",
            ("operation",),
            registry=registry,
        )
        self._coordination_seconds = Histogram(
            "entrepot_coordination_seconds",
            "From a command to Redis to its reply.",
            ("operation",),
            buckets=_SECONDS[:8],
            registry=registry,
        )
        self._leases = Counter(
            "entrepot_leases",
            "Claims by outcome: held, taken over, busy (somebody else's), lost.",
            ("outcome",),
            registry=registry,
        )

    def gauges(self, read: Mapping[str, tuple[str, Callable[[], float]]]) -> None:
        """Values that are read when asked for: name -> (help, function)."""
        for name, (text, function) in read.items():
            Gauge(name, text, registry=self.registry).set_function(function)

    def render(self) -> bytes:
        """All metrics, in Prometheus' text format."""
        return generate_latest(self.registry)

    def observe(self, event: Event) -> None:  # noqa: C901 - one flat case per event
        """Count one event. Never raises, never waits."""
        match event:
            case events.RequestServed():
                self._request(event)
            case events.UpstreamAnswered():
                labels = (event.upstream, event.operation, event.method, str(event.status))
                self._upstream_requests.labels(*labels).inc()
                self._upstream_head.labels(event.upstream, event.operation).observe(
                    event.duration_s
                )
            case events.BytesFetched():
                self._fetched.labels(event.upstream, event.kind).inc(event.count)
            case events.TokenFetched():
                self._tokens.labels(event.upstream, str(event.granted).lower()).inc()
            case events.QuotaRead():
                self._quota(event)
            case events.BreakerMoved():
                for state in _STATES:
                    self._state.labels(event.upstream, state).set(state == event.state)
            case events.FlightStarted():
                pass  # Counted at its end; those in progress are a gauge.
            case events.FlightResumed():
                self._resumes.labels(event.upstream).inc()
            case events.FlightEnded():
                self._flights.labels(event.upstream, event.outcome).inc()
                self._flight_duration.labels(event.outcome).observe(event.duration_s)
            case events.FollowerJoined():
                self._joins.labels(event.upstream).inc()
            case events.Evicted():
                self._evicted.inc(event.count)
                self._evicted_bytes.inc(event.size)
            case events.ScrubFound():
                self._scrub_found.labels(event.where).inc()
            case events.BlobUploaded():
                self._uploaded.inc(event.size)
            case events.PeerServed():
                self._peer_served.inc(event.count)
            case events.BytesRead():
                self._read.labels(event.origin).inc(event.count)
            case events.ServedStale():
                self._stale.labels(event.upstream, event.reason).inc()
            case events.TagMoved():
                self._tag_moves.labels(event.upstream).inc()
            case events.StorageFailed():
                self._storage_failures.labels(event.operation).inc()
            case events.CoordinationMoved():
                self._coordination_up.set(event.state == "ok")
            case events.CoordinationAsked():
                self._coordination(event)
            case events.LeaseMoved():
                self._leases.labels(event.outcome).inc()
            case _:
                assert_never(event)

    def _request(self, event: events.RequestServed) -> None:
        self._requests.labels(
            event.kind, event.method, event.upstream, event.outcome, str(event.status)
        ).inc()
        self._served.labels(event.kind, event.upstream, event.outcome).inc(event.size)
        if not event.complete:
            self._cut.labels(event.kind, event.upstream).inc()
        self._first_byte.labels(event.kind, event.outcome).observe(event.first_byte_s)
        self._duration.labels(event.kind, event.outcome).observe(event.duration_s)

    def _coordination(self, event: events.CoordinationAsked) -> None:
        if event.answered:
            self._coordination_seconds.labels(event.operation).observe(event.duration_s)
        else:
            self._coordination_failures.labels(event.operation).inc()

    def _quota(self, event: events.QuotaRead) -> None:
        if event.limit is not None:
            self._quota_limit.labels(event.upstream).set(event.limit)
        if event.remaining is not None:
            self._quota_remaining.labels(event.upstream).set(event.remaining)
