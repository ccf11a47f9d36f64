"""How many pulls upstreams leave us, and what becomes of them."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge

from proxy.events import QuotaRead, QuotaSpent


class QuotaMetrics:
    """By upstream; of several logins the sums. Nothing of upstreams without a quota."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._limit = Gauge(
            "entrepot_upstream_quota_limit",
            "Pulls an upstream allows in its window, as its headers said.",
            ("upstream",),
            registry=registry,
        )
        self._remaining = Gauge(
            "entrepot_upstream_quota_remaining",
            "Pulls an upstream has left for us, as its headers said.",
            ("upstream",),
            registry=registry,
        )
        self._reserve = Gauge(
            "entrepot_upstream_quota_reserve",
            "Pulls that are kept for what nobody has here.",
            ("upstream",),
            registry=registry,
        )
        self._runs_out = Gauge(
            "entrepot_upstream_quota_runs_out_seconds",
            "Until no pulls are left, at the pace of the last hour; +Inf: they last.",
            ("upstream",),
            registry=registry,
        )
        self._spent = Counter(
            "entrepot_upstream_quota_pulls",
            "GETs that an upstream with a quota counts: counted, limited (429), or kept (not "
            "asked, for the sake of the budget).",
            ("upstream", "urgency", "outcome"),
            registry=registry,
        )

    def read(self, event: QuotaRead) -> None:
        """The newest reading."""
        if event.limit is not None:
            self._limit.labels(event.upstream).set(event.limit)
        if event.remaining is not None:
            self._remaining.labels(event.upstream).set(event.remaining)
            self._reserve.labels(event.upstream).set(event.reserve)
            self._runs_out.labels(event.upstream).set(event.runs_out_s)

    def spent(self, event: QuotaSpent) -> None:
        """One GET, or one that was not made."""
        self._spent.labels(event.upstream, event.urgency, event.outcome).inc()
