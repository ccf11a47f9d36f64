"""The link to the upstreams: what came over it for whom, and what was held back."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial

from prometheus_client import CollectorRegistry, Counter, Gauge

from proxy.events import LinkUsed

CLASSES = ("waiting", "refresh", "warm")


class LinkMetrics:
    """By upstream and class; gauges are read on demand."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry
        self._bytes = Counter(
            "entrepot_link_bytes",
            "Body bytes that came over the link, by upstream and by how urgent they were.",
            ("upstream", "class"),
            registry=registry,
        )
        self._paused = Counter(
            "entrepot_link_paused_seconds",
            "How long transfers were not read from, for the sake of a cap or of others.",
            ("upstream", "class"),
            registry=registry,
        )

    def expect(self, upstream: str) -> None:
        """There is such an upstream."""
        for urgency in CLASSES:
            self._bytes.labels(upstream, urgency)
            self._paused.labels(upstream, urgency)

    def used(self, event: LinkUsed) -> None:
        """Since the last one."""
        self._bytes.labels(event.upstream, event.urgency).inc(event.count)
        self._paused.labels(event.upstream, event.urgency).inc(event.paused_s)

    def read(
        self,
        upstreams: Iterable[str],
        rate: Callable[[str], float],
        waiting: Callable[[str], float],
    ) -> None:
        """Where gauges find their values: `rate` by upstream (empty: all of them),
        `waiting` by class.
        """
        rates = Gauge(
            "entrepot_link_rate_bytes",
            "The cap in force, bytes a second; 0: none. With no upstream: of all together.",
            ("upstream",),
            registry=self._registry,
        )
        for name in ("", *upstreams):
            rates.labels(name).set_function(partial(rate, name))
        held = Gauge(
            "entrepot_link_waiting_transfers",
            "Transfers that may not be read from now, or not begin yet.",
            ("class",),
            registry=self._registry,
        )
        for urgency in CLASSES:
            held.labels(urgency).set_function(partial(waiting, urgency))
