"""The Protocols that cache decisions rest on, and the nouns they exchange.

Absence is `None`; failure is an exception from `errors.py`. Each Protocol has
a real implementation and a memory one, and one conformance suite in
`tests/conformance` that both pass.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from proxy.events import Event
from proxy.oci.digest import Digest
from proxy.oci.manifests import Descriptor, Manifest
from proxy.oci.names import Reference, Repository

Observe = Callable[[Event], None]
Clock = Callable[[], float]
"""Seconds since the epoch; injected wherever a decision depends on it."""

PUBLIC = "public"
"""The sharing group of all upstreams without credentials."""


@dataclass(frozen=True, slots=True)
class BlobKey:
    """One blob inside one sharing group; the unit of storage and of flights."""

    group: str
    digest: Digest


Chunk = bytes | memoryview
"""Some bytes on their way. A view is of memory that is used again once it is gone."""


@dataclass(slots=True)
class Body:
    """Bytes on their way from a source.

    `size` is that of the *whole* blob in bytes, None if the source won't say.
    `offset` is where `chunks` begin: 0 when a source ignored the asked offset.
    `end` is where they end, if that is known; more than was asked when a source
    ignored the asked end.
    `chunks` raises `TransferBroken` when it ends early, stalls or is reset.
    """

    size: int | None
    offset: int
    chunks: AsyncIterator[Chunk]
    end: int | None = None


@dataclass(frozen=True, slots=True)
class BlobStat:
    """A blob that exists; `size` in bytes, None if the source won't say."""

    size: int | None


@dataclass(frozen=True, slots=True)
class TagPage:
    """One page of a tag list, in the upstream's order."""

    tags: tuple[str, ...]
    more: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Quota:
    """Pulls left at an upstream, as its headers said (Docker Hub)."""

    limit: int | None
    remaining: int | None
    window_s: int | None
    source: str | None
    read_at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class UpstreamHealth:
    """What is known of an upstream without asking it."""

    state: Literal["unused", "ok", "failing", "limited", "offline"]
    reason: str
    retry_in_s: float
    quota: Quota | None
    saving: bool = False
    """Few pulls are left: a manifest is fetched only if nothing here will do instead."""
    asking_costs: bool = False
    """Even asking what a tag names takes a GET there."""


class Upstream(Protocol):
    """A registry that content is fetched from.

    Every method may raise `UpstreamUnavailable` (with `UpstreamLimited`,
    `BadUpstreamAnswer`) and `AccessDenied`. `None` means that the upstream
    said, to a caller it knows, that there is no such thing.
    """

    @property
    def name(self) -> str: ...
    @property
    def url(self) -> str: ...
    @property
    def credentialed(self) -> bool:
        """Whether requests carry credentials of ours (then it is its own group)."""

    @property
    def offline(self) -> bool:
        """Whether it is not to be dialled; then all that asks it raises `UpstreamOffline`."""

    async def resolve(
        self, repository: Repository, reference: Reference
    ) -> Descriptor | Manifest | None:
        """What a reference names now, by HEAD (free on Docker Hub).

        A whole `Manifest` comes back where HEAD does not tell enough and a GET
        had to be spent.
        """

    async def get_manifest(self, repository: Repository, reference: Reference) -> Manifest | None:
        """The manifest; its body matches `descriptor.digest` and, for a digest
        reference, that digest (else `DigestMismatch`).
        """

    async def stat_blob(self, repository: Repository, digest: Digest) -> BlobStat | None: ...

    def open_blob(
        self, repository: Repository, digest: Digest, *, start: int = 0, end: int | None = None
    ) -> AbstractAsyncContextManager[Body | None]:
        """Bytes `[start, end)` of a blob; `end=None` is "to the last byte".

        The head has arrived when the context is entered. Bytes are *not*
        verified against the digest here.
        """

    async def list_tags(
        self, repository: Repository, *, n: int | None = None, last: str | None = None
    ) -> TagPage | None: ...

    async def referrers(self, repository: Repository, digest: Digest) -> bytes | None:
        """The OCI index of referrers, unfiltered, all pages joined; None where
        the upstream has no such API (the caller falls back to the tag schema).
        """

    async def anonymous_may_read(
        self,
        repository: Repository,
        kind: Literal["manifests", "blobs", "tags"],
        reference: str,
    ) -> bool:
        """Whether the upstream shows this to someone without credentials."""

    def health(self) -> UpstreamHealth: ...

    def spare_connections(self) -> int:
        """How many more transfers may begin now only to make others faster; 0 or less:
        none. Keeps at least half of the connections for those that are needed.
        """

    async def aclose(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Record:
    """A small durable fact; `version` changes whenever `value` does."""

    value: bytes
    version: str


class Records(Protocol):
    """Durable facts by key (`cache/keys.py`). May raise `StorageUnavailable`."""

    async def get(self, key: str) -> Record | None: ...

    async def latest(self, key: str) -> Record | None:
        """As `get`, but past any copy that may be behind what others wrote."""

    async def put(
        self, key: str, value: bytes, *, expect: Record | Literal["any"] | None = "any"
    ) -> bool:
        """Write, all or nothing.

        `expect="any"` writes always; `None` only if there is nothing yet; a
        `Record` only if that very version is still there. False if not written.
        """

    async def delete(self, key: str) -> None:
        """Idempotent."""

    def list(self, prefix: str, *, after: str = "") -> AsyncIterator[str]:
        """Keys under the folder `prefix`, in ASCII order, after the key `after`."""


@dataclass(frozen=True, slots=True)
class StoredBlob:
    """A stored blob as a listing tells it: size in bytes, time in seconds since the epoch."""

    key: BlobKey
    size: int
    stored_at: float


class Blobs(Protocol):
    """Verified content, durable. May raise `StorageUnavailable`."""

    async def stat(self, key: BlobKey) -> int | None:
        """Size in bytes."""

    def open(
        self, key: BlobKey, *, start: int = 0, end: int | None = None
    ) -> AbstractAsyncContextManager[Body | None]: ...

    async def put(self, key: BlobKey, source: Path) -> None:
        """Keep a sealed, verified file, all or nothing; idempotent.

        May consume `source`. Raises `NoSpace` when there is no room.
        """

    async def delete(self, key: BlobKey) -> None:
        """Idempotent."""

    def list(self, group: str) -> AsyncIterator[BlobKey]: ...

    def inventory(self, group: str) -> AsyncIterator[StoredBlob]:
        """All blobs of a group, in no particular order."""


@dataclass(frozen=True, slots=True)
class Held:
    """Somebody else's claim.

    `owner` is where that replica's peer listener is reached (a URL; empty where
    there is none), `token` tells this claim from any other of the same name.
    """

    owner: str
    token: str


class Lease(Protocol):
    """A claim on a name; it saves traffic and never decides correctness."""

    @property
    def lost(self) -> bool:
        """Whether it ran out or was taken; whoever works may go on working."""

    def progress(self) -> None:
        """The work moves (or stands still through no fault of ours): renew it.

        Without a call for a while it is left to run out, although we live.
        """


class Coordination(Protocol):
    """What replicas tell each other; all of it may be forgotten at any moment.

    Nothing here raises: without its server every claim succeeds, every value is
    absent, and the caller works as if it were alone.
    """

    def try_hold(
        self, name: str, *, instead_of: Held | None = None
    ) -> AbstractAsyncContextManager[Lease | Held]:
        """Claim `name` for as long as the context lasts, renewed while it moves.

        `Held` when somebody else has it. `instead_of`: take over exactly that
        claim, whose owner is gone; of several who try, one succeeds.
        """

    async def get(self, key: str) -> bytes | None: ...

    async def put(self, key: str, value: bytes, *, ttl_s: float) -> None: ...

    async def delete(self, key: str) -> None: ...

    def touch(self, key: BlobKey) -> None:
        """Note a use of a stored blob, for eviction. Never waits; may be lost."""

    async def last_used(self, keys: Sequence[BlobKey]) -> list[float | None]:
        """When each was last used, in seconds since the epoch; None if unknown."""

    async def aclose(self) -> None: ...
