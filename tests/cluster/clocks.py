"""Replicas whose clock is wrong, as far as they can see."""

from __future__ import annotations

from pathlib import Path

from tests.support.programs import missing


def clock_off(seconds: int) -> dict[str, str]:
    """The environment of a process whose wall clock is so far ahead (or behind)."""
    found = sorted(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"))
    if not found:
        missing("needs libfaketime (Debian package libfaketime)")
        raise AssertionError("unreachable")
    return {
        "LD_PRELOAD": str(found[0]),
        "FAKETIME": f"{seconds:+d}s",
        # What has passed is not in dispute, nor what others wrote on their files.
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "NO_FAKE_STAT": "1",
    }
