"""What is going on right now, for gauges, the status page and the drain."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence

from proxy import __version__
from proxy.backing import Backing
from proxy.cache.assembly import Cache
from proxy.cache.flights import Flight
from proxy.ports import Upstream
from proxy.upstream.link.report import LinkReport
from proxy.web.server import PullServer

_IDLE_LOOK_S = 0.05


class Status:
    """Reads; changes nothing."""

    def __init__(
        self,
        cache: Cache,
        backing: Backing,
        upstreams: Mapping[str, Upstream],
        link: LinkReport,
    ) -> None:
        self._link = link
        self._cache = cache
        self._backing = backing
        self._upstreams = upstreams
        self._started_at = time.monotonic()
        self.servers: Sequence[PullServer] = ()

    def gauges(self) -> dict[str, tuple[str, Callable[[], float]]]:
        """Name -> (help, function), for the metrics."""
        room = self._backing.local.blobs.room
        return {
            "entrepot_flights_in_progress": ("Fills in progress.", self._flight_count),
            "entrepot_followers": ("Readers of fills in progress.", self._follower_count),
            "entrepot_connections": ("Open client connections.", self._connection_count),
            "entrepot_disk_bytes": ("Bytes of blobs kept on disk.", lambda: room.used),
            "entrepot_disk_reserved_bytes": (
                "Disk set aside for fills in progress.",
                lambda: room.reserved,
            ),
            "entrepot_disk_limit_bytes": (
                "How much disk may be kept in use: by the settings, and by what is free.",
                lambda: room.limit,
            ),
            "entrepot_pending_uploads": (
                "Blobs that wait to be stored in S3.",
                lambda: 0 if self._backing.uploads is None else len(self._backing.uploads),
            ),
            "entrepot_memory_bytes": (
                "Bytes of small objects in memory.",
                lambda: self._cache.memory.weight,
            ),
            "entrepot_fast_lane_bytes": (
                "Bytes of answers that are ready to be given again below the HTTP parser.",
                self._lane_bytes,
            ),
        }

    def document(self) -> dict[str, object]:
        """The status page."""
        room = self._backing.local.blobs.room
        return {
            "version": __version__,
            "uptime_s": round(time.monotonic() - self._started_at, 1),
            "connections": self._connection_count(),
            "disk": {
                "bytes": room.used,
                "reserved_bytes": room.reserved,
                "counted": room.counted,
            },
            "memory": {"bytes": self._cache.memory.weight, "objects": len(self._cache.memory)},
            "link": self._link.document(),
            "flights": [_flight(flight) for flight in self._cache.flights.all()],
            "upstreams": {name: _upstream(one) for name, one in self._upstreams.items()},
        }

    async def wait_idle(self) -> None:
        """Until no client is being served."""
        while self._connection_count() > 0:
            for server in self.servers:
                server.pre_shutdown()
            await asyncio.sleep(_IDLE_LOOK_S)

    def _flight_count(self) -> float:
        return len(self._cache.flights)

    def _follower_count(self) -> float:
        return sum(flight.followers for flight in self._cache.flights.all())

    def _lane_bytes(self) -> float:
        return sum(server.lane.weight for server in self.servers if server.lane is not None)

    def _connection_count(self) -> int:
        return sum(len(server.connections) for server in self.servers)


def _flight(flight: Flight) -> dict[str, object]:
    return {
        "digest": str(flight.key.digest),
        "group": flight.key.group,
        "sources": [f"{one.upstream.name}/{one.repository}" for one in flight.sources],
        "size": flight.size,
        "written": flight.written,
        "followers": flight.followers,
        "urgency": flight.traffic.urgency.name.lower(),
        "age_s": round(time.monotonic() - flight.started_at, 1),
    }


def _upstream(upstream: Upstream) -> dict[str, object]:
    health = upstream.health()
    quota = health.quota
    return {
        "url": upstream.url,
        "credentialed": upstream.credentialed,
        "state": health.state,
        "reason": health.reason,
        "retry_in_s": round(health.retry_in_s, 1),
        "quota": None
        if quota is None
        else {"limit": quota.limit, "remaining": quota.remaining, "window_s": quota.window_s},
    }
