"""How content came in, and what tags name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


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
class TagMoved:
    """A tag names another digest than before."""

    upstream: str
    repository: str
    tag: str
    digest: str
    back: bool = False
    """It named this digest before the one that it leaves."""


WarmTrigger = Literal["asked", "schedule", "learned"]
"""A person; the configured times; what people pull."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WarmedUp:
    """A warm-up came to its end: how many images are all here, and how many are not."""

    trigger: WarmTrigger
    complete: int
    incomplete: int
    fetched_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class WarmUpFailed:
    """A scheduled warm-up did not come to its end; it is tried again at its next time."""

    trigger: WarmTrigger
