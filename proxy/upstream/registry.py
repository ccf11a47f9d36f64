"""`ports.Upstream` over the registry protocol: which question to ask, and what
its answer means. How it is asked is `exchange.py`'s part.

Never here: retries (the cache decides between another try, another source and
a stale copy) and verification of blobs (a flight hashes them as they pass).

Sources: distribution-spec; the oddities of single registries stand where they
are dealt with.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Literal

from proxy.cache.shared import Shared
from proxy.errors import AccessDenied, BadUpstreamAnswer
from proxy.events import BreakerMoved, BytesFetched
from proxy.oci.digest import Digest
from proxy.oci.manifests import Descriptor, Manifest
from proxy.oci.names import Reference, Repository, parse_reference
from proxy.ports import BlobStat, Body, Clock, Observe, TagPage, UpstreamHealth
from proxy.upstream.answers import PING, Answer, Ask, absent, blob_ask, manifest_ask
from proxy.upstream.authorization import Identity
from proxy.upstream.bodies import blob_chunks, blob_part, check_plain, discard, read_whole
from proxy.upstream.breaker import Breaker
from proxy.upstream.exchange import Exchange
from proxy.upstream.listings import Listings
from proxy.upstream.manifests import described, verified
from proxy.upstream.session import UpstreamConfig
from proxy.upstream.translate import naming

# HEAD may be refused where GET is not: GHCR's signed storage and ECR Public
# say 403, others 400 or 405.
_TRY_GET = frozenset({400, 403, 405})


class RegistryUpstream:
    """One upstream registry. Costs nothing until it is asked something."""

    def __init__(
        self,
        config: UpstreamConfig,
        *,
        observe: Observe,
        clock: Clock = time.time,
        monotonic: Callable[[], float] = time.monotonic,
        shared: Shared | None = None,
    ) -> None:
        """`shared`: one token serves all replicas."""
        self._config = config
        self._observe = observe
        self.breaker = self._breaker = Breaker(config.name, monotonic, self._moved)
        self._exchange = Exchange(
            config,
            breaker=self._breaker,
            observe=observe,
            clock=clock,
            monotonic=monotonic,
            shared=shared,
        )
        self.accounts = self._exchange.accounts
        self._listings = Listings(config, self._exchange, observe)
        self._link = config.link
        self._transfers = 0
        self._heads_refused = False

    @property
    def name(self) -> str:
        return self._config.name

    @property
    def url(self) -> str:
        return self._config.url

    @property
    def credentialed(self) -> bool:
        return self._config.credentials is not None

    @property
    def offline(self) -> bool:
        """Never by itself; see `offline.py`."""
        return False

    async def resolve(
        self, repository: Repository, reference: Reference
    ) -> Descriptor | Manifest | None:
        """See `ports.Upstream`. GET, which counts, only where HEAD won't do."""
        self._link.asks()
        ask = manifest_ask("HEAD", repository, reference)
        async with self._exchange.open(ask) as answer:
            if answer.status not in _TRY_GET:
                self._heads_refused = False
                if absent(self.name, ask, answer):
                    return None
                descriptor = described(answer.response.headers, reference)
                if descriptor is not None:
                    return descriptor
        self._heads_refused = True
        return await self.get_manifest(repository, reference)

    async def get_manifest(self, repository: Repository, reference: Reference) -> Manifest | None:
        self._link.asks()
        ask = manifest_ask("GET", repository, reference)
        async with self._exchange.open(ask) as answer:
            if absent(self.name, ask, answer):
                return None
            if answer.status != 200:
                raise BadUpstreamAnswer(f"{self.name} sent a part of a manifest")
            check_plain(answer.response, self.name)
            bytes_max = self._config.manifest_bytes_max
            body = await read_whole(answer.response, self.name, bytes_max=bytes_max)
            headers = answer.response.headers
        self._link.counted(len(body))
        self._observe(
            BytesFetched(
                upstream=self.name,
                kind="manifest",
                count=len(body),
                repository=repository,
                reference=str(reference),
            )
        )
        with naming(self.name):
            return verified(headers, body, reference)

    async def stat_blob(self, repository: Repository, digest: Digest) -> BlobStat | None:
        return await self._stat_blob(repository, digest, "ours")

    def open_blob(
        self, repository: Repository, digest: Digest, *, start: int = 0, end: int | None = None
    ) -> AbstractAsyncContextManager[Body | None]:
        return self._open_blob(repository, digest, start, end)

    @asynccontextmanager
    async def _open_blob(
        self, repository: Repository, digest: Digest, start: int, end: int | None
    ) -> AsyncIterator[Body | None]:
        span = ""
        if start > 0 or end is not None:
            span = f"bytes={start}-{'' if end is None else end - 1}"
        ask = blob_ask("GET", repository, digest, span=span, streams=True)
        # From here on, whether its connection is there already or it queues for one.
        self._transfers += 1
        try:
            async with self._link.transfer() as paced, self._exchange.open(ask) as answer:
                if absent(self.name, ask, answer):
                    yield None
                    return
                part = blob_part(answer.response, self.name, start=start, end=end)
                stall_s = self._config.stall_s
                chunks = blob_chunks(answer.response, part, self.name, stall_s=stall_s, paced=paced)
                yield Body(part.size, part.start, chunks, end=part.end)
        finally:
            self._transfers -= 1

    async def list_tags(
        self, repository: Repository, *, n: int | None = None, last: str | None = None
    ) -> TagPage | None:
        return await self._listings.tags(repository, n=n, last=last, identity="ours")

    async def referrers(self, repository: Repository, digest: Digest) -> bytes | None:
        return await self._listings.referrers(repository, digest)

    async def anonymous_may_read(
        self,
        repository: Repository,
        kind: Literal["manifests", "blobs", "tags"],
        reference: str,
    ) -> bool:
        """See `ports.Upstream`; asks as a stranger, whatever credentials we have."""
        try:
            match kind:
                case "manifests":
                    return await self._shows_manifest(repository, parse_reference(reference))
                case "blobs":
                    digest = Digest.parse(reference)
                    return await self._stat_blob(repository, digest, "anonymous") is not None
                case "tags":
                    page = await self._listings.tags(
                        repository, n=1, last=None, identity="anonymous"
                    )
                    return page is not None
        except AccessDenied:
            return False

    async def ping(self) -> tuple[int, str]:
        """Status and Date of `/v2/`, asked as whoever we are there. Raises as all do."""
        async with self._exchange.open(PING) as answer:
            await discard(answer.response, self.name)
            return answer.status, answer.response.headers.get("Date", "")

    def health(self) -> UpstreamHealth:
        state, reason, retry_in_s = self._breaker.state()
        return UpstreamHealth(
            state=state,
            reason=reason,
            retry_in_s=retry_in_s,
            quota=self.accounts.ledger.quota,
            saving=self.accounts.saving,
            asking_costs=self._heads_refused,
        )

    def spare_connections(self) -> int:
        """See `ports.Upstream`."""
        if not self._link.has_room():
            return 0
        return self._config.connections_max // 2 - self._transfers

    async def aclose(self) -> None:
        """Cut all connections and forget all tokens. Idempotent."""
        await self._exchange.aclose()

    async def _stat_blob(
        self, repository: Repository, digest: Digest, identity: Identity
    ) -> BlobStat | None:
        ask = blob_ask("HEAD", repository, digest, identity=identity)
        async with self._exchange.open(ask) as answer:
            # 401, too: HEAD may need a right that GET does not (ECR Public).
            if answer.status not in _TRY_GET | {401}:
                if absent(self.name, ask, answer):
                    return None
                check_plain(answer.response, self.name)
                return BlobStat(answer.response.content_length)
        ask = blob_ask("GET", repository, digest, span="bytes=0-1", identity=identity)
        async with self._exchange.open(ask) as answer:
            if answer.status == 416:
                # The only blob without a first byte.
                return BlobStat(0)
            if absent(self.name, ask, answer):
                return None
            return BlobStat(blob_part(answer.response, self.name, start=0, end=2).size)

    async def _shows_manifest(self, repository: Repository, reference: Reference) -> bool:
        ask = manifest_ask("HEAD", repository, reference, "anonymous")
        async with self._exchange.open(ask) as answer:
            # Not 403 as elsewhere: from a manifest it is what it says.
            if answer.status not in {400, 405}:
                return self._shows(ask, answer)
        ask = manifest_ask("GET", repository, reference, "anonymous")
        async with self._exchange.open(ask) as answer:
            return self._shows(ask, answer)

    def _shows(self, ask: Ask, answer: Answer) -> bool:
        if absent(self.name, ask, answer):
            return False
        check_plain(answer.response, self.name)
        return True

    def _moved(self, state: Literal["ok", "failing", "limited"], reason: str) -> None:
        self._observe(BreakerMoved(upstream=self.name, state=state, reason=reason))
