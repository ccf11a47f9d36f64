"""Which tags have been kept long enough: rules by pattern, last pull and number. Pure.

Of several rules the first that matches counts. A tag goes when it has not been pulled
for the rule's time and is not among the newest of its repository that the rule keeps in
any case; new is what came here last.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from proxy.cache.globs import matches
from proxy.config import RetentionRule
from proxy.config.units import format_duration
from proxy.keeping.images import Named
from proxy.oci.listings import subject_of


@dataclass(frozen=True, slots=True)
class Pulled:
    """A tag and when it was last pulled, in seconds since the epoch; if nobody `ever` did,
    when it came.
    """

    named: Named
    at: float
    ever: bool = True


@dataclass(frozen=True, slots=True)
class Outdated:
    """A tag that a rule lets go, and why."""

    pulled: Pulled
    why: str


def rule_for(rules: Sequence[RetentionRule], name: str) -> RetentionRule | None:
    """The first that matches a full name."""
    return next((rule for rule in rules if matches(rule.match, name)), None)


def outdated(tags: Iterable[Pulled], rules: Sequence[RetentionRule], now: float) -> list[Outdated]:
    """Those of one repository's tags that go."""
    by_rule: dict[int, list[Pulled]] = {}
    for one in tags:
        rule = rule_for(rules, one.named.name)
        if rule is not None and subject_of(one.named.tag) is None:
            by_rule.setdefault(rules.index(rule), []).append(one)
    found: list[Outdated] = []
    for number, matching in by_rule.items():
        rule = rules[number]
        newest_first = sorted(
            matching, key=lambda one: (-one.named.record.fetched_at, one.named.tag)
        )
        for one in newest_first[rule.newest or 0 :]:
            idle_s = now - one.at
            if rule.unused_s is None or idle_s >= rule.unused_s:
                found.append(Outdated(one, _why(rule, idle_s, ever=one.ever)))
    return found


def _why(rule: RetentionRule, idle_s: float, *, ever: bool) -> str:
    """In words."""
    said = [f"rule {rule.match}"]
    if rule.unused_s is not None:
        for_s, kept = format_duration(_coarse(idle_s)), format_duration(rule.unused_s)
        how = f"not pulled for {for_s}" if ever else f"never pulled, here for {for_s}"
        said.append(f"{how}, kept {kept}")
    if rule.newest is not None:
        said.append(f"not among the newest {rule.newest}")
    return "retention: " + ", ".join(said)


def _coarse(seconds: float) -> float:
    """In whole days, hours, minutes or seconds: as exact as one cares for."""
    unit = next((unit for unit in (86400, 3600, 60) if seconds >= 2 * unit), 1)
    return seconds // unit * unit
