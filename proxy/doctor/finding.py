"""What a check found, in words for the person who has to act."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Literal

State = Literal["ok", "warn", "fail", "skipped"]

SKEW_WARN_S = 30.0
SKEW_FAIL_S = 240.0
"""Tokens live for minutes, S3 refuses signatures that are 15 minutes off."""


@dataclass(frozen=True, slots=True)
class Finding:
    """`todo` is what to do about it, empty where there is nothing to do."""

    name: str
    state: State
    what: str
    todo: str = ""


def exit_code(findings: Sequence[Finding]) -> int:
    """0: all is well. 1: something may become trouble. 2: something does not work."""
    states = {one.state for one in findings}
    return 2 if "fail" in states else 1 if "warn" in states else 0


def skew(name: str, theirs: str, *, now: float, whose: str) -> Finding:
    """Our clock beside the one that wrote the HTTP date `theirs`."""
    try:
        at = parsedate_to_datetime(theirs)
    except ValueError:
        return Finding(name, "skipped", f"{whose} does not say what time it is")
    if at.tzinfo is None:
        at = at.replace(tzinfo=UTC)
    return skewed(name, at.timestamp(), now=now, whose=whose)


def skewed(name: str, theirs: float, *, now: float, whose: str) -> Finding:
    """The same, of seconds since the epoch."""
    off = now - theirs
    # A date has whole seconds, and was written before it was read.
    if abs(off) < SKEW_WARN_S:
        return Finding(name, "ok", f"the clocks agree with {whose}")
    state: State = "fail" if abs(off) >= SKEW_FAIL_S else "warn"
    direction = "ahead of" if off > 0 else "behind"
    there = datetime.fromtimestamp(theirs, UTC).isoformat(timespec="seconds")
    return Finding(
        name,
        state,
        f"this clock is {abs(off):.0f} s {direction} that of {whose} ({there})",
        "run a time service (chrony, systemd-timesyncd) on both machines",
    )
