"""The importing side of a proxy without its listeners, over a real disk."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from proxy.bundles.importing import Importing
from proxy.bundles.importing_sending import verify
from proxy.bundles.importing_state import Done
from proxy.bundles.importing_store import ImportStore
from proxy.bundles.importing_tags import TagMoves
from proxy.bundles.importing_trust import Trust
from proxy.bundles.reader import Opened, open_bundle
from proxy.bundles.reader_media import chunks
from proxy.bundles.staging import Staging
from proxy.cache.facts import Facts
from proxy.cache.fleet import Fleet
from proxy.cache.lru import Lru
from proxy.cache.pins import Pins
from proxy.cache.small_store import SmallStore
from proxy.oci.digest import Digest
from proxy.ports import BlobKey
from proxy.storage.local import LocalStorage
from tests.support.bundles import KEY
from tests.support.memory_upstream import MemoryUpstream

NOW = 1_800_000_000.0


@dataclass(slots=True)
class Core:
    """`bring` and `commit` as the command does it."""

    importing: Importing
    storage: LocalStorage
    staging: Staging
    facts: Facts
    upstream: MemoryUpstream
    root: Path

    async def bring(self, path: Path, *, force: bool = False) -> Done:
        """All of an import. Raises `BadBundle` and what storage raises."""
        opened = open_bundle([path], [KEY.public])
        begun = await self.importing.begin(opened.body, opened.signature, force=force)
        try:
            sent = set()
            for key, size in begun.lacking:
                sent.add(key.digest)
                body = sent_from(opened, key.digest)
                await self.importing.receive(begun.token, key.group, key.digest, size, body)
            for digest in opened.blobs.keys() - sent:
                verify(opened, digest)
            return await self.importing.commit(begun.token, force=force)
        finally:
            self.importing.forget(begun.token)

    def visible(self) -> list[str]:
        """What anybody could see of an import."""
        return [
            str(path.relative_to(self.root))
            for top in ("repos", "pins")
            for path in (self.root / top).rglob("*")
            if path.is_file()
        ]


async def sent_from(opened: Opened, digest: Digest) -> AsyncIterator[bytes]:
    for chunk in chunks(opened.blobs[digest]):
        yield chunk


@asynccontextmanager
async def open_core(
    root: Path, *, through: Callable[[Any], Any] = lambda part: part, idle_s: float = 60.0
) -> AsyncIterator[Core]:
    """On `root`; its blobs and records are what `through` makes of the real ones."""
    storage = LocalStorage(root, bytes_max=None, free_bytes_min=0, observe=_ignore)
    upstream = MemoryUpstream("lab")
    with ThreadPoolExecutor(2) as disk:
        async with storage:
            local, records, fleet = through(storage.blobs), through(storage.records), Fleet()
            memory: Lru[BlobKey, bytes] = Lru(0, weigh=len)
            facts = Facts(records, _ignore, _clock)
            staging = Staging(local, None, disk)
            storage.blobs.pinned = staging.holds
            small = SmallStore(
                local=local, memory=memory, fleet=fleet, observe=_ignore, size_max=1 << 20
            )
            store = ImportStore(
                local=local,
                lacking_bytes=storage.blobs.room.lacking,
                small=small,
                fleet=fleet,
                records=records,
                facts=facts,
                pins=Pins(records, _ignore, _clock),
                expose={},
                clock=_clock,
            )
            importing = Importing(
                trust=Trust((KEY.public,), unsigned=True),
                upstreams={"lab": upstream},
                store=store,
                staging=staging,
                tags=TagMoves(records, facts, _clock, _ignore),
                clock=_clock,
                idle_s=idle_s,
            )
            yield Core(importing, storage, staging, facts, upstream, root)
            importing.aclose()


def _clock() -> float:
    return NOW


def _ignore(_event: object) -> None:
    pass
