"""The parts of the cache put together: one place that knows who needs whom."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import Executor
from dataclasses import dataclass

from proxy.cache.blobs import BlobCache
from proxy.cache.closure import Closure
from proxy.cache.exposure import Expose, ExposureGuard
from proxy.cache.facts import Facts
from proxy.cache.fill import Filler
from proxy.cache.fleet import Fleet
from proxy.cache.flights import Flights
from proxy.cache.forgetting import Forgetting
from proxy.cache.freshness import Policy
from proxy.cache.listings import Listings
from proxy.cache.local import LocalBlobs
from proxy.cache.lru import Lru
from proxy.cache.manifests import ManifestCache
from proxy.cache.pins import Pins
from proxy.cache.scanproof import ScanProof
from proxy.cache.shared import Shared
from proxy.cache.small_store import SmallStore
from proxy.cache.standing import Lives
from proxy.cache.tags import TagCache
from proxy.cache.uses import ImageUses
from proxy.oci.digest import Digest
from proxy.ports import BlobKey, Clock, Coordination, Observe, Records

_SIZE_HINTS_MAX = 50_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Bounds, as in the settings of the same names."""

    memory_bytes_max: int
    memory_object_bytes_max: int
    manifest_bytes_max: int
    flights_max: int
    blob_connections_max: int
    header_budget_s: float
    revalidate_budget_s: float
    negative_s: float
    expose_recheck_s: float


class Cache:
    """All of it. `aclose` ends fills; what they have is kept for the next start."""

    def __init__(
        self,
        *,
        local: LocalBlobs,
        records: Records,
        fleet: Fleet,
        shared: Shared,
        coordination: Coordination,
        disk: Executor,
        observe: Observe,
        clock: Clock,
        policies: Mapping[str, Policy],
        expose: dict[str, Expose],
        limits: Limits,
        health: Lives,
    ) -> None:
        self.memory: Lru[BlobKey, bytes] = ScanProof(
            limits.memory_bytes_max, weigh=len, heaviest=limits.memory_object_bytes_max
        )
        size_hints: Lru[Digest, int] = Lru(_SIZE_HINTS_MAX)
        self.facts = facts = Facts(records, observe, clock)
        self.pins = Pins(records, observe, clock)
        self.uses = ImageUses()
        facts.history.noticed = self.uses.moved
        self.forgetting = Forgetting(facts, shared)
        self._exposure = ExposureGuard(
            expose, facts=facts, clock=clock, recheck_s=limits.expose_recheck_s
        )
        filler = Filler(
            local=local,
            facts=facts,
            memory=self.memory,
            size_hints=size_hints,
            fleet=fleet,
            coordination=coordination,
            disk=disk,
            observe=observe,
            lanes_max=limits.blob_connections_max,
        )
        self.flights = Flights(filler.fill, limit=limits.flights_max, observe=observe)
        self.blobs = BlobCache(
            local=local,
            facts=facts,
            memory=self.memory,
            size_hints=size_hints,
            flights=self.flights,
            exposure=self._exposure,
            fleet=fleet,
            coordination=coordination,
            observe=observe,
            header_budget_s=limits.header_budget_s,
            memory_object_bytes_max=min(limits.memory_object_bytes_max, limits.memory_bytes_max),
            negative_s=limits.negative_s,
        )
        store = SmallStore(
            local=local,
            memory=self.memory,
            fleet=fleet,
            observe=observe,
            size_max=limits.manifest_bytes_max,
        )
        self.manifests = ManifestCache(
            store=store,
            facts=facts,
            size_hints=size_hints,
            blobs=self.blobs,
            shared=shared,
            coordination=coordination,
            negative_s=limits.negative_s,
            health=health,
        )
        self.manifests.came = self.pins.grow
        self.tags = TagCache(
            manifests=self.manifests,
            facts=facts,
            exposure=self._exposure,
            shared=shared,
            coordination=coordination,
            observe=observe,
            clock=clock,
            policies=policies,
            negative_s=limits.negative_s,
            revalidate_budget_s=limits.revalidate_budget_s,
            header_budget_s=limits.header_budget_s,
            uses=self.uses,
            pinned=self.pins.named,
        )
        self.listings = Listings(
            tags=self.tags,
            facts=facts,
            records=records,
            exposure=self._exposure,
            observe=observe,
            clock=clock,
            policies=policies,
            header_budget_s=limits.header_budget_s,
        )
        self.closure = Closure(self.tags, self.manifests, self.listings)

    async def aclose(self) -> None:
        """End everything that is under way."""
        await self.flights.aclose(grace_s=0)
        for part in (self.listings, self.tags, self.manifests, self.blobs, self._exposure):
            await part.aclose()
        await self.facts.aclose()
