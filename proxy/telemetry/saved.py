"""What the upstreams were spared, and how much sooner clients had their answers.

The time is an estimate, and a modest one: an answer from the cache is compared with what this
very upstream took lately for its heads and, by the byte, for whole fills; only
what was faster counts, and nothing before a fill has shown how fast the upstream
is. Fills from S3 or from another replica say nothing about an upstream: a fill is
taken for the upstream's only if it sent as many bytes meanwhile.
"""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge

from proxy.events import (
    BytesFetched,
    FlightEnded,
    FlightStarted,
    PullsServed,
    RequestServed,
    UpstreamAnswered,
)

# A small fill is all head; its bytes tell nothing of the line.
_TELLING_BYTES = 256 * 1024
# What is remembered: about the last twenty fills and heads.
_KEPT_SHARE = 0.95
_FROM_CACHE = frozenset({"hit", "join", "stale"})


class _Pace:
    """A mean in which the latest counts most: so many of `amount` for each `unit`."""

    __slots__ = ("amount", "units")

    def __init__(self) -> None:
        self.amount = 0.0
        self.units = 0.0

    def add(self, amount: float, units: float) -> None:
        self.amount = self.amount * _KEPT_SHARE + amount
        self.units = self.units * _KEPT_SHARE + units

    @property
    def mean(self) -> float:
        return self.amount / self.units if self.units else 0.0


class _Upstream:
    """What one upstream has shown."""

    __slots__ = ("byte_s", "fetched", "head_s", "saved_bytes", "saved_s")

    def __init__(self, saved_s: Counter, saved_bytes: Gauge) -> None:
        self.byte_s = _Pace()
        self.head_s = {"manifest": _Pace(), "blob": _Pace()}
        self.fetched = 0
        self.saved_s = saved_s
        self.saved_bytes = saved_bytes


class Saved:
    """The sums of it."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._saved_s = Counter(
            "entrepot_saved_seconds",
            "Time clients did not wait for an upstream, as estimated from its own pace.",
            ("upstream",),
            registry=registry,
        )
        self._saved_bytes = Gauge(
            "entrepot_saved_bytes",
            "Body bytes sent to clients less those fetched for them; falls when more is fetched "
            "than is taken.",
            ("upstream",),
            registry=registry,
        )
        self._pulls = Counter(
            "entrepot_pulls",
            "Images that clients began to pull.",
            ("upstream",),
            registry=registry,
        )
        self._saved_pulls = Counter(
            "entrepot_saved_pulls",
            "Of these, those that needed no GET of a manifest from the upstream.",
            ("upstream",),
            registry=registry,
        )
        self._upstreams: dict[str, _Upstream] = {}
        # Of fills in progress: what their upstream had sent when they began.
        self._begun: dict[str, int] = {}

    def expect(self, upstream: str) -> None:
        """There is such an upstream."""
        self._saved_s.labels(upstream)
        self._saved_bytes.labels(upstream)
        self._pulls.labels(upstream)
        self._saved_pulls.labels(upstream)

    def answered(self, event: UpstreamAnswered) -> None:
        """How long an upstream takes to begin."""
        pace = self._of(event.upstream).head_s.get(event.operation)
        if pace is not None and 200 <= event.status < 300:
            pace.add(event.duration_s, 1)

    def fetched(self, event: BytesFetched) -> None:
        """Bytes came from an upstream."""
        one = self._of(event.upstream)
        one.fetched += event.count
        one.saved_bytes.dec(event.count)

    def started(self, event: FlightStarted) -> None:
        """A fill began."""
        self._begun[event.digest] = self._of(event.upstream).fetched

    def ended(self, event: FlightEnded) -> None:
        """How long an upstream takes to send what it sends."""
        one = self._of(event.upstream)
        before = self._begun.pop(event.digest, one.fetched)
        whole = event.outcome in {"stored", "unkept"} and event.size >= _TELLING_BYTES
        if whole and one.fetched - before >= event.size:
            one.byte_s.add(event.duration_s, event.size)

    def request(self, event: RequestServed) -> None:
        """An answer: from the cache, it may have come sooner."""
        if event.upstream and event.outcome != "error":
            one = self._of(event.upstream)
            one.saved_bytes.inc(event.size * event.count)
            one.saved_s.inc(self.seconds(event) * event.count)

    def pulls(self, event: PullsServed) -> None:
        """Images began to be pulled."""
        self._pulls.labels(event.upstream).inc(event.count)
        if event.saved:
            self._saved_pulls.labels(event.upstream).inc(event.count)

    def seconds(self, event: RequestServed) -> float:
        """How much sooner one such answer came than the upstream's would have."""
        one = self._upstreams.get(event.upstream)
        if event.outcome not in _FROM_CACHE or one is None:
            return 0.0
        pace = one.head_s.get(event.kind)
        if pace is None or not one.byte_s.units:
            return 0.0
        return max(0.0, pace.mean + event.size * one.byte_s.mean - event.duration_s)

    def _of(self, upstream: str) -> _Upstream:
        one = self._upstreams.get(upstream)
        if one is None:
            one = self._upstreams[upstream] = _Upstream(
                self._saved_s.labels(upstream), self._saved_bytes.labels(upstream)
            )
        return one
