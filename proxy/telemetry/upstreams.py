"""What upstreams were asked, what they sent, and how they are."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from proxy.events import BreakerMoved, BytesFetched, QuotaRead, TokenFetched, UpstreamAnswered
from proxy.telemetry.buckets import SECONDS

_STATES = ("ok", "failing", "limited")


class UpstreamMetrics:
    """By upstream, of which there are as many as are configured."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._requests = Counter(
            "entrepot_upstream_requests",
            "Requests to upstreams by operation and status (0: no answer).",
            ("upstream", "operation", "method", "status"),
            registry=registry,
        )
        self._head = Histogram(
            "entrepot_upstream_head_seconds",
            "From a request to an upstream to the head of its answer.",
            ("upstream", "operation"),
            buckets=SECONDS,
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

    def expect(self, upstream: str) -> None:
        """There is such an upstream, and it is in order."""
        self.moved(BreakerMoved(upstream=upstream, state="ok", reason=""))
        self._requests.labels(upstream, "manifest", "GET", "200")
        for kind in ("manifest", "blob"):
            self._fetched.labels(upstream, kind)
        for granted in ("true", "false"):
            self._tokens.labels(upstream, granted)

    def answered(self, event: UpstreamAnswered) -> None:
        """One exchange."""
        labels = (event.upstream, event.operation, event.method, str(event.status))
        self._requests.labels(*labels).inc()
        self._head.labels(event.upstream, event.operation).observe(event.duration_s)

    def fetched(self, event: BytesFetched) -> None:
        """Body bytes."""
        self._fetched.labels(event.upstream, event.kind).inc(event.count)

    def token(self, event: TokenFetched) -> None:
        """A token, or none."""
        self._tokens.labels(event.upstream, str(event.granted).lower()).inc()

    def quota(self, event: QuotaRead) -> None:
        """The newest reading."""
        if event.limit is not None:
            self._quota_limit.labels(event.upstream).set(event.limit)
        if event.remaining is not None:
            self._quota_remaining.labels(event.upstream).set(event.remaining)

    def moved(self, event: BreakerMoved) -> None:
        """The state it is in now."""
        for state in _STATES:
            self._state.labels(event.upstream, state).set(state == event.state)
