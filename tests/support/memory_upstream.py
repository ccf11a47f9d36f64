"""An `Upstream` in memory, verified by `tests/conformance/test_upstream.py`.

For tests of what lies above the port: no sockets, every call is counted, and
`trouble` or `break_at` make it fail the way a real one does.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Literal

from proxy.errors import AccessDenied, EntrepotError, TransferBroken
from proxy.oci.digest import Digest
from proxy.oci.listings import page_tags, referrers_index
from proxy.oci.manifests import Descriptor, Manifest
from proxy.oci.names import Reference, Repository
from proxy.ports import BlobStat, Body, TagPage, UpstreamHealth
from tests.support.fake_answers import Repo
from tests.support.images import Image

CHUNK_BYTES = 64 * 1024


class MemoryUpstream:
    """Holds images; see the module.

    `trouble`: raised by every call while set. `private`: repositories that a
    stranger may not read. `break_at`: offsets in a blob; the next transfer that
    reaches the first of them breaks there, and so on. `calls`: (operation,
    repository, reference) in order; `blob_bytes`: bytes that left.
    """

    def __init__(
        self, name: str = "memory", *, url: str = "memory://", credentialed: bool = False
    ) -> None:
        self.name = name
        self.url = url
        self.credentialed = credentialed
        self.offline = False
        self.repositories: dict[str, Repo] = {}
        self.private: set[str] = set()
        self.trouble: EntrepotError | None = None
        self.break_at: list[int] = []
        self.calls: list[tuple[str, str, str]] = []
        self.blob_bytes = 0

    def add(self, repository: str, image: Image, *tags: str) -> Image:
        """Hold `image` there under `tags`; an artifact becomes a referrer, too."""
        return self.repositories.setdefault(repository, Repo()).add(image, *tags)

    def count(self, operation: str) -> int:
        """How many calls of a method so far."""
        return sum(call[0] == operation for call in self.calls)

    async def resolve(
        self, repository: Repository, reference: Reference
    ) -> Descriptor | Manifest | None:
        manifest = self._manifest("resolve", repository, reference)
        return None if manifest is None else manifest.descriptor

    async def get_manifest(self, repository: Repository, reference: Reference) -> Manifest | None:
        return self._manifest("get_manifest", repository, reference)

    async def stat_blob(self, repository: Repository, digest: Digest) -> BlobStat | None:
        blob = self._repo("stat_blob", repository, digest).blobs.get(str(digest))
        return None if blob is None else BlobStat(blob.size)

    def open_blob(
        self, repository: Repository, digest: Digest, *, start: int = 0, end: int | None = None
    ) -> AbstractAsyncContextManager[Body | None]:
        return self._open_blob(repository, digest, start, end)

    @asynccontextmanager
    async def _open_blob(
        self, repository: Repository, digest: Digest, start: int, end: int | None
    ) -> AsyncIterator[Body | None]:
        blob = self._repo("open_blob", repository, digest).blobs.get(str(digest))
        if blob is None:
            yield None
        else:
            stop = blob.size if end is None else min(end, blob.size)
            yield Body(blob.size, start, self._chunks(blob.body, start, stop))

    async def list_tags(
        self, repository: Repository, *, n: int | None = None, last: str | None = None
    ) -> TagPage | None:
        repo = self._repo("list_tags", repository, "")
        if repository not in self.repositories:
            return None
        tags, more = page_tags(repo.tags, n, last)
        return TagPage(tuple(tags), more)

    async def referrers(self, repository: Repository, digest: Digest) -> bytes | None:
        found = self._repo("referrers", repository, digest).referrers.get(str(digest), [])
        return referrers_index(
            [m.descriptor(artifactType=json.loads(m.body)["artifactType"]) for m in found]
        )

    async def anonymous_may_read(
        self,
        repository: Repository,
        kind: Literal["manifests", "blobs", "tags"],
        reference: str,
    ) -> bool:
        repo = self._repo("anonymous_may_read", repository, reference, stranger=True)
        if repository in self.private or repository not in self.repositories:
            return False
        match kind:
            case "manifests":
                return str(repo.tags.get(reference, reference)) in repo.manifests
            case "blobs":
                return reference in repo.blobs
            case "tags":
                return True

    def spare_connections(self) -> int:
        return 32

    def health(self) -> UpstreamHealth:
        reason = "" if self.trouble is None else str(self.trouble)
        state: Literal["unused", "ok", "failing"] = "ok" if self.calls else "unused"
        return UpstreamHealth(
            state="failing" if reason else state, reason=reason, retry_in_s=0.0, quota=None
        )

    async def aclose(self) -> None:
        """Nothing to close."""

    def _repo(
        self, operation: str, repository: str, reference: object, *, stranger: bool = False
    ) -> Repo:
        self.calls.append((operation, repository, str(reference)))
        if self.trouble is not None:
            raise self.trouble
        if repository in self.private and not (self.credentialed or stranger):
            raise AccessDenied(f"{self.name} refuses access to {repository}")
        return self.repositories.get(repository, Repo())

    def _manifest(
        self, operation: str, repository: Repository, reference: Reference
    ) -> Manifest | None:
        repo = self._repo(operation, repository, reference)
        content = repo.manifests.get(str(repo.tags.get(str(reference), reference)))
        if content is None:
            return None
        descriptor = Descriptor(
            media_type=content.media_type, digest=content.digest, size=content.size
        )
        return Manifest(descriptor=descriptor, body=content.body)

    async def _chunks(self, body: bytes, start: int, stop: int) -> AsyncIterator[bytes]:
        for begin in range(start, stop, CHUNK_BYTES):
            chunk = body[begin : min(begin + CHUNK_BYTES, stop)]
            broken = bool(self.break_at) and self.break_at[0] < begin + len(chunk)
            if broken:
                chunk = chunk[: max(0, self.break_at.pop(0) - begin)]
            self.blob_bytes += len(chunk)
            if chunk:
                yield chunk
            if broken:
                raise TransferBroken(f"{self.name} broke off the transfer")
