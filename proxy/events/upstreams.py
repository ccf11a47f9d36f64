"""What upstreams were asked, what they said, and how they are."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

Kind = Literal["manifest", "blob", "tags", "referrers"]
Part = Literal["main", "piece", "window"]
"""Of a blob that is being filled: what is missing from the first byte on, a stretch beside
that, or what a reader of a range is about to need.
"""


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
    part: Part | None = None
    """What this answer was asked for, by a fill."""


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
