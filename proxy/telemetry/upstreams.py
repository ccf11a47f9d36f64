"""What upstreams were asked, what they sent, and how they are."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from proxy.events import (
    BreakerMoved,
    BytesFetched,
    CableMoved,
    NotHeld,
    TokenFetched,
    UpstreamAnswered,
)
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
        self._state = Gauge(
            "entrepot_upstream_state",
            "1 for the state an upstream is in.",
            ("upstream", "state"),
            registry=registry,
        )

        self._offline = Gauge(
            "entrepot_upstream_offline",
            "1 while an upstream is not to be dialled: by `offline`, or in a rehearsal.",
            ("upstream",),
            registry=registry,
        )
        self._not_held = Counter(
            "entrepot_not_held",
            "Requests for what is not here, of upstreams that are not to be dialled.",
            ("upstream",),
            registry=registry,
        )

    def expect(self, upstream: str) -> None:
        """There is such an upstream, and it is in order."""
        self.moved(BreakerMoved(upstream=upstream, state="ok", reason=""))
        self._requests.labels(upstream, "manifest", "GET", "200")
        self._offline.labels(upstream)
        self._not_held.labels(upstream)
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

    def moved(self, event: BreakerMoved) -> None:
        """The state it is in now."""
        for state in _STATES:
            self._state.labels(event.upstream, state).set(state == event.state)

    def cut(self, event: CableMoved) -> None:
        """Whether it may be dialled."""
        self._offline.labels(event.upstream).set(event.cut)

    def not_held(self, event: NotHeld) -> None:
        """One request more that it would have been asked for."""
        self._not_held.labels(event.upstream).inc()
