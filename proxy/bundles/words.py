"""Amounts in the sentences of imports and exports, where commands and proxies share them."""

from __future__ import annotations


def blobs(count: int) -> str:
    """`1 blob`, `2 blobs`."""
    return "1 blob" if count == 1 else f"{count} blobs"


def size(count: float) -> str:
    """Bytes: `512 B`, `1.2 MB`, `34 GB`."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 999.5:
            return f"{count:.0f} {unit}" if unit == "B" or count >= 9.95 else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"
