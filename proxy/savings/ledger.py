"""Enters what is served and what is fetched, and tells what was saved."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable

from proxy.cache import traffic
from proxy.cache.subnets import subnet_of
from proxy.events import BytesFetched, Event, PullsServed, RequestServed
from proxy.ports import Clock, Observe
from proxy.savings.history import DAYS, History
from proxy.savings.images import Images, Spell
from proxy.savings.sums import Sums
from proxy.web.uses import Use

_SPARED = frozenset({"hit", "join", "stale"})
_GIVEN = frozenset({200, 206, 304})


class Ledger:
    """One replica's. All of it on the event loop; never waits, never raises."""

    def __init__(
        self,
        *,
        spell: Spell,
        seconds: Callable[[RequestServed], float],
        observe: Observe,
        clock: Clock,
        by_client: bool,
    ) -> None:
        """`seconds`: how much sooner an answer came than the upstream's would have."""
        self.history = History(clock())
        self.by_client = by_client
        self._images = Images(spell)
        self._seconds = seconds
        self._observe = observe
        self._clock = clock

    def use(self, use: Use) -> None:
        """Something was served: see `web/uses.py`."""
        served, given, clients = use
        if served.outcome == "error" or served.status not in _GIVEN or not served.upstream:
            return
        image, pulled = None, False
        if given is not None and served.kind == "manifest":
            image, top = self._images.manifest(
                served.upstream, given.repository, given.reference, given.digest, given.manifest
            )
            pulled = top and served.method == "GET"
        elif given is not None:
            image = self._images.blob(served.upstream, given.repository, str(given.digest))
        spared = served.outcome in _SPARED
        one = Sums(
            pulls=int(pulled),
            pulls_saved=int(pulled and spared),
            served_bytes=served.size,
            saved_s=self._seconds(served),
        )
        self._enter(served.upstream, image, one.times(served.count))
        if self.by_client:
            for client, count in clients.items():
                self._enter_client(client, one.times(count))
        if pulled:
            self._observe(PullsServed(upstream=served.upstream, count=served.count, saved=spared))

    def hear(self, event: Event) -> None:
        """If something came from an upstream: it is for whomever the running task works,
        or ahead of all.
        """
        if not isinstance(event, BytesFetched) or not event.count:
            return
        image = None
        if event.repository:
            look = self._images.blob if event.kind == "blob" else self._images.fetched
            image = look(event.upstream, event.repository, event.reference)
        now = traffic.current()
        ahead = now.urgency is not traffic.Urgency.WAITING
        sums = Sums(fetched_bytes=event.count, ahead_bytes=event.count if ahead else 0)
        self._enter(event.upstream, image, sums)
        if self.by_client and not ahead:
            self._enter_client(now.client, sums)

    def pulled(self, n: int) -> list[tuple[str, float]]:
        """The `n` most pulled tags of the last 30 days, each in full
        (`docker.io/library/alpine:3.20`) with how often; the most pulled first.
        """
        images = self.history.last_days(self._clock(), DAYS).images.items()
        tags = ((name, sums.pulls) for name, sums in images if sums.pulls and _by_tag(name))
        return [(name, float(pulls)) for name, pulls in _most(tags, n)]

    def _enter(self, upstream: str, image: str | None, sums: Sums) -> None:
        bucket = self.history.at(self._clock())
        mine = bucket.upstreams.get(upstream)
        if mine is None:
            mine = bucket.upstreams[upstream] = Sums()
        mine.add(sums)
        if image is not None:
            bucket.images.add(image, sums)

    def _enter_client(self, client: str, sums: Sums) -> None:
        self.history.at(self._clock()).clients.add(subnet_of(client), sums)


def _by_tag(image: str) -> bool:
    return "@" not in image and ":" in image.rpartition("/")[2]


def _most(tags: Iterable[tuple[str, int]], n: int) -> list[tuple[str, int]]:
    return heapq.nsmallest(n, tags, key=lambda one: (-one[1], one[0]))
