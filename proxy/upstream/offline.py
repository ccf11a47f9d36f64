"""An upstream whose cable can be pulled: while it is, nothing is ever dialled.

Everything that is asked of an upstream goes through here, so this is the one place that
has to be right: no token, no name look-up and no probe is possible behind a pulled
cable. A body that is already being read when it is pulled is read to its end.
"""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from typing import Literal, NoReturn

from proxy.errors import UpstreamOffline
from proxy.events import CableMoved
from proxy.oci.digest import Digest
from proxy.oci.manifests import Descriptor, Manifest
from proxy.oci.names import Reference, Repository
from proxy.ports import BlobStat, Body, Observe, TagPage, Upstream, UpstreamHealth

SETTING = "the setting `offline`"


class Severable:
    """`ports.Upstream`. `client` is the real one; nobody else may ask it anything."""

    def __init__(self, client: Upstream, *, observe: Observe, offline: bool = False) -> None:
        self.client = client
        self._observe = observe
        self._cut_by: set[str] = set()
        if offline:
            self.cut(SETTING)

    @property
    def offline(self) -> bool:
        """Whether it may not be dialled."""
        return bool(self._cut_by)

    def cut(self, by: str) -> None:
        """From now on it may not be dialled, because of `by`. Idempotent."""
        before = self.offline
        self._cut_by.add(by)
        if not before:
            self._observe(CableMoved(upstream=self.name, cut=True))

    def mend(self, by: str) -> None:
        """`by` no longer forbids it. Idempotent."""
        before = self.offline
        self._cut_by.discard(by)
        if before and not self.offline:
            self._observe(CableMoved(upstream=self.name, cut=False))

    @property
    def name(self) -> str:
        return self.client.name

    @property
    def url(self) -> str:
        return self.client.url

    @property
    def credentialed(self) -> bool:
        return self.client.credentialed

    async def resolve(
        self, repository: Repository, reference: Reference
    ) -> Descriptor | Manifest | None:
        if self._cut_by:
            self._refuse(f"{reference} of {self.name}/{repository}")
        return await self.client.resolve(repository, reference)

    async def get_manifest(self, repository: Repository, reference: Reference) -> Manifest | None:
        if self._cut_by:
            self._refuse(f"{reference} of {self.name}/{repository}")
        return await self.client.get_manifest(repository, reference)

    async def stat_blob(self, repository: Repository, digest: Digest) -> BlobStat | None:
        if self._cut_by:
            self._refuse(f"{digest} of {self.name}/{repository}")
        return await self.client.stat_blob(repository, digest)

    def open_blob(
        self, repository: Repository, digest: Digest, *, start: int = 0, end: int | None = None
    ) -> AbstractAsyncContextManager[Body | None]:
        if self._cut_by:
            self._refuse(f"{digest} of {self.name}/{repository}")
        return self.client.open_blob(repository, digest, start=start, end=end)

    async def list_tags(
        self, repository: Repository, *, n: int | None = None, last: str | None = None
    ) -> TagPage | None:
        if self._cut_by:
            self._refuse(f"any tag of {self.name}/{repository}")
        return await self.client.list_tags(repository, n=n, last=last)

    async def referrers(self, repository: Repository, digest: Digest) -> bytes | None:
        if self._cut_by:
            self._refuse(f"what refers to {digest} of {self.name}/{repository}")
        return await self.client.referrers(repository, digest)

    async def anonymous_may_read(
        self,
        repository: Repository,
        kind: Literal["manifests", "blobs", "tags"],
        reference: str,
    ) -> bool:
        """See `ports.Upstream`. Offline, rights that are not known are no rights."""
        if self._cut_by:
            raise UpstreamOffline(
                f"{self.name} is offline and can't be asked whether anyone may read "
                f"{repository}; if anyone may, say so in `expose` of this upstream",
                final=True,
            )
        return await self.client.anonymous_may_read(repository, kind, reference)

    def health(self) -> UpstreamHealth:
        known = self.client.health()
        if not self._cut_by:
            return known
        reason = f"not to be dialled: {', '.join(sorted(self._cut_by))}"
        return replace(known, state="offline", reason=reason, retry_in_s=0.0)

    def spare_connections(self) -> int:
        return 0 if self._cut_by else self.client.spare_connections()

    async def aclose(self) -> None:
        """See `ports.Upstream`."""
        await self.client.aclose()

    def _refuse(self, what: str) -> NoReturn:
        raise UpstreamOffline(what)
