"""What is kept: tiers, S3, Redis, claims."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True, kw_only=True)
class Evicted:
    """Blobs were removed to make room."""

    count: int
    size: int


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
