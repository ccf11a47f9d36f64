"""May a tag be answered from its record? Pure: values in, a decision out.

Two questions, in this order: `before` asking the upstream, and `after`. The
caller does the asking and carries the decision out.

- What is fresh is served; nobody is asked.
- Trouble at the upstream (down, 5xx, 429, nonsense) never takes away what is
  held: it is served stale, however old, and marked.
- A refusal (401, 403) may be a passing fault of a token server or a revoked
  right; the record is served until `stale_max_s` after the last confirmation.
- "There is no such tag" from an upstream that knows us is the truth; but what
  somebody pinned stays, as it does when we are refused: what came by file may never
  have been at that upstream.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal, assert_never

from proxy.cache.records import TagRecord
from proxy.cache.tag_rules import Rule, rule_for
from proxy.errors import AccessDenied, EntrepotError, UpstreamUnavailable
from proxy.oci.manifests import Descriptor
from proxy.oci.names import Repository, Tag

# A clock that was set back must not keep a tag "fresh" for the difference.
_SKEW_S = 5.0
# A sum and a difference of the same times may round differently.
_ROUNDING_S = 1e-3


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """How long a tag counts as fresh, and how long after a refusal it is served.

    `fresh_s` is infinite for a tag that never moves. Not `cached`: nothing is written
    down of it. `upstream` and its `rules` say what of this differs by tag; `as_of`
    (seconds since the epoch): tags are served as they stood then.
    """

    fresh_s: float
    stale_max_s: float
    cached: bool = True
    upstream: str = ""
    rules: tuple[Rule, ...] = ()
    as_of: float | None = None

    def of(self, repository: Repository, tag: Tag) -> Policy:
        """That of one tag."""
        rule = rule_for(self.rules, self.upstream, repository, tag)
        if rule is None:
            return self
        if rule.immutable:
            return replace(self, fresh_s=math.inf)
        if not rule.cached:
            return replace(self, fresh_s=0.0, cached=False)
        return self if rule.fresh_s is None else replace(self, fresh_s=rule.fresh_s)


@dataclass(frozen=True, slots=True)
class Fresh:
    """Serve the record; ask nobody."""

    record: TagRecord


@dataclass(frozen=True, slots=True)
class Ask:
    """Ask the upstream what the tag names now."""


@dataclass(frozen=True, slots=True)
class Confirmed:
    """Unchanged: note the time, serve the record."""

    record: TagRecord


@dataclass(frozen=True, slots=True)
class Move:
    """Get that manifest, then write the record."""

    record: TagRecord


@dataclass(frozen=True, slots=True)
class Stale:
    """Serve the record, marked."""

    record: TagRecord
    reason: Literal["unreachable", "limited", "refused", "gone"]


@dataclass(frozen=True, slots=True)
class Gone:
    """There is no such tag (any more): forget the record."""


@dataclass(frozen=True, slots=True)
class Fail:
    """Nothing can be served; raise this."""

    error: EntrepotError


def before(record: TagRecord | None, *, now: float, policy: Policy) -> Fresh | Ask:
    """Whether the record may be served without asking."""
    if record is None:
        return Ask()
    if policy.fresh_s == math.inf:
        return Fresh(record)
    age_s = now - record.checked_at
    return Fresh(record) if -_SKEW_S <= age_s < policy.fresh_s else Ask()


def fresh_window(record: TagRecord, policy: Policy) -> tuple[float, float]:
    """From when until when `before` says `Fresh` (rounded to the shorter)."""
    if policy.fresh_s == math.inf:
        return -math.inf, math.inf
    return (
        record.checked_at - _SKEW_S + _ROUNDING_S,
        record.checked_at + policy.fresh_s - _ROUNDING_S,
    )


def after(
    record: TagRecord | None,
    answer: Descriptor | AccessDenied | UpstreamUnavailable | None,
    *,
    url: str,
    now: float,
    policy: Policy,
    limited: bool = False,
    pinned: bool = False,
) -> Confirmed | Move | Stale | Gone | Fail:
    """What the upstream's answer means. `None`: it has no such tag.

    `limited`: the trouble is a rate limit (for the mark only). `pinned`: what the record
    names is to stay.
    """
    match answer:
        case None if record is not None and pinned:
            return Stale(record, "gone")
        case None:
            return Gone()
        case Descriptor():
            if record is None or record.current.digest != answer.digest:
                return Move(moved(record, answer, url=url, now=now))
            return Confirmed(record)
        case AccessDenied():
            if record is not None and (pinned or now - record.checked_at <= policy.stale_max_s):
                return Stale(record, "refused")
            return Fail(answer)
        case UpstreamUnavailable():
            if record is not None:
                return Stale(record, "limited" if limited else "unreachable")
            return Fail(answer)
        case _:
            assert_never(answer)


def moved(record: TagRecord | None, current: Descriptor, *, url: str, now: float) -> TagRecord:
    """The record after the tag came to name `current`."""
    return TagRecord(
        url=url,
        current=current,
        previous=None if record is None else record.current,
        fetched_at=now,
        checked_at=now,
        extra={} if record is None else record.extra,
    )
