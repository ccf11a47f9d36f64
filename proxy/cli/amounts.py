"""Amounts as people read them: one way for all commands."""

from __future__ import annotations


def size(count: float) -> str:
    """Bytes: `512 B`, `1.2 MB`, `34 GB`."""
    sign, count = ("-", -count) if count < 0 else ("", count)
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if count < 999.5 or unit == "TB":
            whole = unit == "B" or count >= 9.95
            return f"{sign}{count:.0f} {unit}" if whole else f"{sign}{count:.1f} {unit}"
        count /= 1000
    return ""


def several(count: int, what: str) -> str:
    """`1 image`, `2 images`."""
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


def duration(seconds: float) -> str:
    """`40 s`, `12 min`, `5 h`, `14 d`."""
    for length, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= 2 * length:
            return f"{seconds // length:.0f} {unit}"
    return f"{seconds:.0f} s"
