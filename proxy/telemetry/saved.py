"""How much sooner clients had their answers than the upstream would have given them.

An estimate, and a modest one: an answer from the cache is compared with what this
very upstream took lately for its heads and, by the byte, for whole fills; only
what was faster counts, and nothing before a fill has shown how fast the upstream
is. Fills from S3 or from another replica say nothing about an upstream: a fill is
taken for the upstream's only if it sent as many bytes meanwhile.
"""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter

from proxy.events import BytesFetched, FlightEnded, FlightStarted, RequestServed, UpstreamAnswered

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

    __slots__ = ("byte_s", "fetched", "head_s", "saved")

    def __init__(self, saved: Counter) -> None:
        self.byte_s = _Pace()
        self.head_s = {"manifest": _Pace(), "blob": _Pace()}
        self.fetched = 0
        self.saved = saved


class SavedTime:
    """The sum of it."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._saved = Counter(
            "entrepot_saved_seconds",
            "Time clients did not wait for an upstream, as estimated from its own pace.",
            ("upstream",),
            registry=registry,
        )
        self._upstreams: dict[str, _Upstream] = {}
        # Of fills in progress: what their upstream had sent when they began.
        self._begun: dict[str, int] = {}

    def expect(self, upstream: str) -> None:
        """There is such an upstream."""
        self._saved.labels(upstream)

    def answered(self, event: UpstreamAnswered) -> None:
        """How long an upstream takes to begin."""
        pace = self._of(event.upstream).head_s.get(event.operation)
        if pace is not None and 200 <= event.status < 300:
            pace.add(event.duration_s, 1)

    def fetched(self, event: BytesFetched) -> None:
        """Bytes came from an upstream."""
        self._of(event.upstream).fetched += event.count

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
        if event.outcome not in _FROM_CACHE or event.upstream not in self._upstreams:
            return
        one = self._upstreams[event.upstream]
        pace = one.head_s.get(event.kind)
        if pace is not None and one.byte_s.units:
            expected_s = pace.mean + event.size * one.byte_s.mean
            one.saved.inc(max(0.0, expected_s - event.duration_s) * event.count)

    def _of(self, upstream: str) -> _Upstream:
        one = self._upstreams.get(upstream)
        if one is None:
            one = self._upstreams[upstream] = _Upstream(self._saved.labels(upstream))
        return one
