"""What clients asked for, and what came of it."""

from __future__ import annotations

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
    repeated: bool = False
    """By the fast lane, below the HTTP parser."""


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
class PeerServed:
    """Blob bytes went to another replica."""

    count: int
