"""The import side of a proxy, put together: what it needs, its pages, its end."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from aiohttp import web

from proxy.backing import Backing
from proxy.bundles.import_pages import pages
from proxy.bundles.importing import Importing
from proxy.bundles.importing_names import ForeignNames
from proxy.bundles.importing_store import ImportStore
from proxy.bundles.importing_tags import TagMoves
from proxy.bundles.importing_trust import Trust
from proxy.bundles.staging import Staging
from proxy.cache.assembly import Cache
from proxy.cache.small_store import SmallStore
from proxy.config import Settings
from proxy.naming import Names
from proxy.ports import BlobKey, Clock, Observe, Upstream
from proxy.upstreams import expose

# One writes and hashes while the other forces its blob to the disk.
_DISK_THREADS = 3


@asynccontextmanager
async def open_importing(
    settings: Settings,
    cache: Cache,
    backing: Backing,
    upstreams: Mapping[str, Upstream],
    names: Names,
    *,
    observe: Observe,
    clock: Clock,
    alone: Callable[[], AbstractAsyncContextManager[object]],
) -> AsyncIterator[list[web.RouteDef]]:
    """Its pages for the admin listener. `alone`: within it nobody removes images here.
    Raises `StartupError` for keys that can't be read.
    """
    trust = Trust.load(settings.bundles.keys, unsigned=settings.bundles.unsigned)
    local, fleet = backing.local.blobs, backing.fleet
    with ThreadPoolExecutor(_DISK_THREADS, thread_name_prefix="import") as disk:
        staging = Staging(local, fleet.uploader, disk)
        kept_before = local.pinned

        def kept(key: BlobKey) -> bool:
            return staging.holds(key) or kept_before(key)

        local.pinned = kept
        cache.pins.held = staging.holds
        small = SmallStore(
            local=local,
            memory=cache.memory,
            fleet=fleet,
            observe=observe,
            size_max=settings.manifest_bytes_max,
        )
        # The other side may know a registry by another of its names.
        called = {
            alias: upstreams[name]
            for name, one in settings.upstreams.items()
            for alias in one.aliases
        }
        importing = Importing(
            trust=trust,
            upstreams={**called, **upstreams},
            store=ImportStore(
                local=local,
                lacking_bytes=local.room.lacking,
                small=small,
                fleet=fleet,
                records=backing.records,
                facts=cache.facts,
                pins=cache.pins,
                expose=expose(settings),
                clock=clock,
            ),
            staging=staging,
            tags=TagMoves(backing.records, cache.facts, clock, observe),
            clock=clock,
            alone=alone,
        )
        try:
            yield pages(importing, ForeignNames(names.understood))
        finally:
            importing.aclose()
