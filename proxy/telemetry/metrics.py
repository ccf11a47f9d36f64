"""All of them in one registry; which event counts where."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import assert_never

from prometheus_client import CollectorRegistry, Gauge, generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector

from proxy import __version__, events
from proxy.events import Event, RequestServed
from proxy.telemetry.clients import ClientMetrics
from proxy.telemetry.fills import FillMetrics
from proxy.telemetry.fleet import FleetMetrics
from proxy.telemetry.lane import LaneMetrics
from proxy.telemetry.link import LinkMetrics
from proxy.telemetry.quota import QuotaMetrics
from proxy.telemetry.saved import Saved
from proxy.telemetry.stores import StoreMetrics
from proxy.telemetry.upstreams import UpstreamMetrics
from proxy.telemetry.warming import WarmMetrics


class _Late(Collector):
    """No metrics; the moment to bring the others up to date."""

    def __init__(self, hand_on: Callable[[], None]) -> None:
        self._hand_on = hand_on

    def describe(self) -> list[Metric]:
        return []

    def collect(self) -> list[Metric]:
        self._hand_on()
        return []


class Telemetry:
    """Counts events; renders them in the exposition format."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self._late: list[Callable[[], None]] = []
        self._hearers: list[Callable[[Event], None]] = []
        registry.register(_Late(self.hand_on))  # Collected first.
        ProcessCollector(registry=registry)
        build = Gauge(
            "entrepot_build_info", "1; which version runs.", ("version",), registry=registry
        )
        build.labels(__version__).set(1)
        self._clients = ClientMetrics(registry)
        self._lane = LaneMetrics(registry)
        self._upstreams = UpstreamMetrics(registry)
        self.link = LinkMetrics(registry)
        self._quota = QuotaMetrics(registry)
        self._saved = Saved(registry)
        self._fills = FillMetrics(registry)
        self._stores = StoreMetrics(registry)
        self._warm = WarmMetrics(registry)
        self._fleet = FleetMetrics(registry)

    def expect(self, upstreams: Iterable[str]) -> None:
        """Upstreams that there are: in order until something else is heard of them.

        What is rare is there from the start, as 0: Prometheus does not see the
        first event of a series that begins with it.
        """
        for name in upstreams:
            self._upstreams.expect(name)
            self.link.expect(name)
            self._fills.expect(name)
            self._saved.expect(name)
            self._clients.expect(name)
            self._lane.expect(name)

    def gauges(self, read: Mapping[str, tuple[str, Callable[[], float]]]) -> None:
        """Values that are read when asked for: name -> (help, function)."""
        for name, (text, function) in read.items():
            Gauge(name, text, registry=self.registry).set_function(function)

    def late(self, flush: Callable[[], None]) -> None:
        """`flush` hands on what was counted elsewhere, before each reading."""
        self._late.append(flush)

    def hand_on(self) -> None:
        """What was counted elsewhere is here after this, and with whoever else hears of it."""
        for flush in self._late:
            flush()

    def saved_s(self, event: RequestServed) -> float:
        """How much sooner one such answer came than the upstream's would have, estimated."""
        return self._saved.seconds(event)

    def tell(self, hear: Callable[[Event], None]) -> None:
        """`hear` gets every event, too; it never raises and never waits.

        In the task that states it.
        """
        self._hearers.append(hear)

    def render(self) -> bytes:
        """All metrics, in Prometheus' text format."""
        return generate_latest(self.registry)

    def observe(self, event: Event) -> None:  # noqa: C901, PLR0915 - a flat case per event
        """Count one event. Never raises, never waits."""
        match event:
            case events.RequestServed():
                self._clients.request(event)
                self._saved.request(event)
                self._lane.request(event)
            case events.UpstreamAnswered():
                self._upstreams.answered(event)
                self._saved.answered(event)
            case events.BytesFetched():
                self._upstreams.fetched(event)
                self._saved.fetched(event)
                self._fills.fetched(event)
            case events.TokenFetched():
                self._upstreams.token(event)
            case events.QuotaRead():
                self._quota.read(event)
            case events.QuotaSpent():
                self._quota.spent(event)
            case events.BreakerMoved():
                self._upstreams.moved(event)
            case events.LinkUsed():
                self.link.used(event)
            case events.CableMoved():
                self._upstreams.cut(event)
            case events.NotHeld():
                self._upstreams.not_held(event)
            case events.FlightStarted():
                self._saved.started(event)  # Else counted at its end.
            case events.FlightResumed():
                self._fills.resumed(event)
            case events.FlightEnded():
                self._fills.ended(event)
                self._saved.ended(event)
            case events.FollowerJoined():
                self._fills.joined(event)
            case events.PullsServed():
                self._saved.pulls(event)
            case events.WarmedUp():
                self._warm.warmed(event)
            case events.WarmUpFailed():
                self._warm.failed(event)
            case events.ServedStale():
                self._fills.stale(event)
            case events.TagMoved():
                self._fills.tag_moved(event)
            case events.Evicted():
                self._stores.evicted(event)
            case events.ScrubFound():
                self._stores.scrub_found(event)
            case events.StorageFailed():
                self._stores.failed(event)
            case events.StorageAsked():
                self._stores.asked(event)
            case events.BlobUploaded():
                self._stores.uploaded(event)
            case events.BytesRead():
                self._stores.read(event)
            case events.PeerServed():
                self._fleet.peer_served(event)
            case events.CoordinationMoved():
                self._fleet.moved(event)
            case events.CoordinationAsked():
                self._fleet.asked(event)
            case events.LeaseMoved():
                self._fleet.lease(event)
            case _:
                assert_never(event)
        for hear in self._hearers:
            hear(event)
