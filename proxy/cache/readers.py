"""Readers for the lanes of one fill: where each kind gets its bytes from.

The main lane claims the blob in the fleet. A window first looks for what it needs
in the durable store and at the replica that holds the claim; when neither had
anything, the next windows do not ask again for a while. A piece is only fetched
beside a main lane that reads from the upstream, and from there.
"""

from __future__ import annotations

import time

from proxy.cache.fleet import Fleet, FleetSupplies
from proxy.cache.flights import Flight
from proxy.cache.main_lane import trial_end
from proxy.cache.sources import Reader
from proxy.cache.stretches import Kind
from proxy.cache.supplies import Supplies, UpstreamSupplies
from proxy.cache.traffic import Urgency
from proxy.ports import Coordination, Observe

_NOTHING_ELSEWHERE_S = 10.0


class Readers:
    """Makes them; `main` are the supplies of the main lane."""

    def __init__(
        self,
        flight: Flight,
        main: FleetSupplies,
        *,
        fleet: Fleet,
        coordination: Coordination,
        observe: Observe,
        wide: bool,
    ) -> None:
        """`wide`: more than one connection for one blob is allowed."""
        self._wide = wide
        self._flight = flight
        self._main = main
        self._fleet = fleet
        self._coordination = coordination
        self._observe = observe
        self._last: FleetSupplies | None = None
        self._last_at = 0.0

    def open(
        self,
        kind: Kind,
        start: int,
        end: int | None,
        *,
        size: int | None,
        expected: int | None = None,
    ) -> Reader:
        """A reader of bytes `[start, end)` of a blob of `size` bytes, as far as known;
        `expected` is what it probably is, where it is not.
        """
        trial = trial_end(start, expected if size is None else size)
        return Reader(
            self._flight.key.digest,
            self._supplies(kind),
            observe=self._observe,
            start=start,
            end=end,
            size=size,
            picky=kind != "main",
            trial_end=trial if kind == "main" and self._wide else None,
            wanted=self._wanted,
            part=kind,
        )

    def _wanted(self) -> bool:
        """Whether a client reads what comes, or a warm-up asked for it."""
        flight = self._flight
        return flight.followers > 0 or flight.traffic.urgency is not Urgency.WAITING

    def _supplies(self, kind: Kind) -> Supplies:
        match kind:
            case "main":
                return self._main
            case "piece":
                return self._upstreams()
            case "window":
                return self._window()

    def _upstreams(self) -> UpstreamSupplies:
        flight = self._flight
        return UpstreamSupplies(flight.key.digest, flight.sources, flight.refused, flight.refuse)

    def _window(self) -> Supplies:
        now = time.monotonic()
        nothing_else = self._last is not None and self._last.alone
        if self._main.lease is not None or (
            nothing_else and now - self._last_at < _NOTHING_ELSEWHERE_S
        ):
            return self._upstreams()
        self._last_at = now
        self._last = FleetSupplies(
            self._flight.key,
            self._upstreams(),
            fleet=self._fleet,
            coordination=self._coordination,
            claims=False,
        )
        return self._last
