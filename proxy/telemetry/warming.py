"""Warm-ups: how many images they left complete, how much they fetched for it, which failed."""

from __future__ import annotations

from typing import get_args

from prometheus_client import CollectorRegistry, Counter

from proxy.events import WarmedUp, WarmTrigger, WarmUpFailed


class WarmMetrics:
    """Counted when a warm-up has come to its end, or to none."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._images = Counter(
            "entrepot_warm_images",
            "Images that warm-ups were to bring: whether all of them is here.",
            ("trigger", "outcome"),
            registry=registry,
        )
        self._bytes = Counter(
            "entrepot_warm_fetched_bytes",
            "Bytes of blobs that came for warm-ups.",
            ("trigger",),
            registry=registry,
        )
        self._failures = Counter(
            "entrepot_warm_failures",
            "Scheduled warm-ups that failed as a whole, as when their list can't be read.",
            ("trigger",),
            registry=registry,
        )
        for trigger in get_args(WarmTrigger):
            self._bytes.labels(trigger)
            if trigger != "asked":
                self._failures.labels(trigger)
            for outcome in ("complete", "incomplete"):
                self._images.labels(trigger, outcome)

    def warmed(self, event: WarmedUp) -> None:
        """One more."""
        self._images.labels(event.trigger, "complete").inc(event.complete)
        self._images.labels(event.trigger, "incomplete").inc(event.incomplete)
        self._bytes.labels(event.trigger).inc(event.fetched_bytes)

    def failed(self, event: WarmUpFailed) -> None:
        """One more."""
        self._failures.labels(event.trigger).inc()
