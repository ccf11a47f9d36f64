"""The link for people: the status page, the metrics."""

from __future__ import annotations

import math
import time
from typing import Literal

from proxy.cache.traffic import Urgency
from proxy.events import LinkUsed
from proxy.ports import Observe
from proxy.upstream.link.pacer import Link
from proxy.upstream.link.pacing import Scope

Class = Literal["waiting", "refresh", "warm"]
CLASSES: dict[Urgency, Class] = {
    Urgency.WAITING: "waiting",
    Urgency.REFRESH: "refresh",
    Urgency.WARM: "warm",
}


class LinkReport:
    """Reads; changes nothing."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._told: dict[tuple[str, Urgency], tuple[int, float]] = {}

    def document(self) -> dict[str, object]:
        """For the status page: rates in force (bytes a second), transfers by class."""
        self._link.look(time.monotonic())
        scopes, limits = self._link.scopes, self._link.limits
        upstreams = {
            name: self._scope(scope)
            for name, scope in scopes.items()
            if name and (scope.transfers or scope.fetches_max or limits[name].timetable.caps)
        }
        return {**self._scope(scopes[""]), "upstreams": upstreams}

    def _scope(self, scope: Scope) -> dict[str, object]:
        moment = self._link.clock()
        change = self._link.limits[scope.name].timetable.next_change(moment)
        return {
            "rate_bytes_s": scope.bucket.rate,
            "rate_changes_in_s": None if change is None else round(change - moment, 1),
            "fetches_max": scope.fetches_max,
            "transfers": {name: self._counts(scope, urgency) for urgency, name in CLASSES.items()},
        }

    def _counts(self, scope: Scope, urgency: Urgency) -> dict[str, int]:
        own = [
            one
            for one in self._link.pacing.transfers()
            if scope in one.scopes and one.traffic.urgency is urgency
        ]
        paused = sum(one.queued_at is not None for one in own)
        begun = sum(one.begun for one in own)
        return {"reading": begun - paused, "paused": paused, "not_begun": len(own) - begun}

    def waiting(self, name: str) -> int:
        """How many transfers of this class may not read now, or not begin yet."""
        return sum(
            CLASSES[one.traffic.urgency] == name and (one.queued_at is not None or not one.begun)
            for one in self._link.pacing.transfers()
        )

    def rate(self, name: str) -> float:
        """The cap in force (bytes a second); 0: none."""
        rate = self._link.rate(name)
        return 0.0 if math.isinf(rate) else rate

    def tell(self, observe: Observe) -> None:
        """State what has come since the last time, by upstream and class."""
        for name, scope in self._link.scopes.items():
            for urgency, said in CLASSES.items():
                count, paused_s = scope.bytes[urgency], scope.paused_s[urgency]
                had, had_s = self._told.get((name, urgency), (0, 0.0))
                if name and (count > had or paused_s > had_s):
                    self._told[name, urgency] = count, paused_s
                    observe(
                        LinkUsed(
                            upstream=name,
                            urgency=said,
                            count=count - had,
                            paused_s=paused_s - had_s,
                        )
                    )
