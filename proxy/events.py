"""Frozen facts that the inner layers state; `telemetry` turns them into
metrics and log lines. Nobody in `cache` or `upstream` knows Prometheus.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

Kind = Literal["manifest", "blob", "tags", "referrers"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestServed:
    """A client's request came to its end, whichever."""

    kind: Literal["manifest", "blob", "tags", "referrers", "catalog", "ping", "other"]
    method: str
    upstream: str
    outcome: Literal["hit", "miss", "join", "stale", "pass", "error"]
    status: int
    size: int
    """Body bytes sent."""
    complete: bool
    """False: the client left, or we had to cut the body."""
    duration_s: float
    first_byte_s: float
    count: int = 1
    """So many equal ones; the times are their means."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UpstreamAnswered:
    """One HTTP exchange with an upstream (redirect hops count as one)."""

    upstream: str
    operation: Literal["manifest", "blob", "tags", "referrers", "token", "ping"]
    method: str
    status: int
    """0: no answer at all (refused, reset, timed out)."""
    duration_s: float
    """Until the head had arrived."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BytesFetched:
    """Body bytes that came from an upstream."""

    upstream: str
    kind: Kind
    count: int
    repository: str = ""
    reference: str = ""
    """Of what: a tag or a digest. Empty for lists."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenFetched:
    """A token request was made."""

    upstream: str
    granted: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class QuotaRead:
    """An upstream told its quota; of several logins the sums."""

    upstream: str
    limit: int | None
    remaining: int | None
    reserve: int = 0
    """Pulls that are kept for what nobody has here."""
    runs_out_s: float = math.inf
    """Until none is left at the pace of the last hour; infinite if they last."""


@dataclass(frozen=True, slots=True, kw_only=True)
class QuotaSpent:
    """A GET that an upstream with a quota counts: what became of it."""

    upstream: str
    urgency: Literal["waiting", "refresh", "warm"]
    outcome: Literal["counted", "limited", "kept"]
    """limited: answered 429. kept: not asked, for the sake of the budget."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BreakerMoved:
    """An upstream's circuit breaker changed state."""

    upstream: str
    state: Literal["ok", "failing", "limited"]
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkUsed:
    """Bytes that came over the link, and how long their transfers were held back, since
    this was last stated.
    """

    upstream: str
    urgency: Literal["waiting", "refresh", "warm"]
    count: int
    paused_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class CableMoved:
    """An upstream may no longer be dialled (`cut`), or may be again."""

    upstream: str
    cut: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class NotHeld:
    """A client asked for what is not here, of an upstream that is not to be dialled.

    `image` as it is written in full, `platform` where it is known whose the missing
    part is, `client`: its address.
    """

    upstream: str
    kind: Kind
    image: str
    platform: str | None
    client: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FlightStarted:
    """A fill began."""

    digest: str
    upstream: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FlightResumed:
    """A source broke (or a spool from before a restart was found); went on at `offset`."""

    digest: str
    upstream: str
    offset: int
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FlightEnded:
    """A fill ended."""

    digest: str
    upstream: str
    outcome: Literal["stored", "partial", "unkept", "failed", "mismatch", "refused", "cancelled"]
    size: int
    duration_s: float
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class FollowerJoined:
    """A reader joined a fill that somebody else had started."""

    digest: str
    upstream: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Evicted:
    """Blobs were removed to make room."""

    count: int
    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerServed:
    """Blob bytes went to another replica."""

    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class BytesRead:
    """Blob bytes came from the durable store or from another replica."""

    origin: Literal["storage", "peer"]
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ScrubFound:
    """A stored blob is not what its digest says; it was removed."""

    where: Literal["local", "storage"]
    digest: str


@dataclass(frozen=True, slots=True, kw_only=True)
class BlobUploaded:
    """A verified blob is now in the durable store."""

    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PullsServed:
    """Images were begun to be pulled: each a GET of a manifest that is no part of an index."""

    upstream: str
    count: int
    saved: bool
    """No GET of it went to the upstream for them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServedStale:
    """A tag was answered from its record because the upstream could not be asked."""

    upstream: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TagMoved:
    """A tag names another digest than before."""

    upstream: str
    repository: str
    tag: str
    digest: str
    back: bool = False
    """It named this digest before the one that it leaves."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StorageFailed:
    """Something could not be kept or read; the request went on without."""

    operation: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StorageAsked:
    """One call to S3, with all its tries."""

    operation: str
    """As botocore names it: one of those that `storage/s3` uses."""
    answered: bool
    """False: no answer, or one that says "later". A refusal is an answer."""
    duration_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class CoordinationMoved:
    """Redis came into use, or went out of it."""

    state: Literal["ok", "down"]
    reason: str


CoordinationOperation = Literal[
    "claim", "renew", "release", "get", "put", "delete", "touch", "last_used", "probe"
]


@dataclass(frozen=True, slots=True, kw_only=True)
class CoordinationAsked:
    """One command to Redis."""

    operation: CoordinationOperation
    answered: bool
    """False: refused, or not within its time."""
    duration_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseMoved:
    """A claim was tried for, or lost."""

    outcome: Literal["held", "taken", "busy", "lost"]
    """taken: over from an owner that was gone; busy: somebody else has it."""


WarmTrigger = Literal["asked", "schedule", "learned"]
"""A person; the configured times; what people pull."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WarmedUp:
    """A warm-up came to its end: how many images are all here, and how many are not."""

    trigger: WarmTrigger
    complete: int
    incomplete: int
    fetched_bytes: int


Event = (
    RequestServed
    | UpstreamAnswered
    | BytesFetched
    | TokenFetched
    | QuotaRead
    | QuotaSpent
    | BreakerMoved
    | LinkUsed
    | CableMoved
    | NotHeld
    | FlightStarted
    | FlightResumed
    | FlightEnded
    | FollowerJoined
    | Evicted
    | PeerServed
    | BytesRead
    | ScrubFound
    | BlobUploaded
    | PullsServed
    | ServedStale
    | TagMoved
    | StorageFailed
    | StorageAsked
    | CoordinationMoved
    | CoordinationAsked
    | LeaseMoved
    | WarmedUp
)
