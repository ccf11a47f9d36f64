"""How a file is cut for upload (pure)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

PART_BYTES_MIN = 16 * 1024 * 1024
"""A file below this goes in one request; AWS asks for parts of at least 5 MiB."""
PARTS_MAX = 10_000


@dataclass(frozen=True, slots=True)
class Part:
    """One part: `number` from 1, `start` and `size` in bytes."""

    number: int
    start: int
    size: int


def part_size(size: int) -> int:
    """Bytes of each part but the last of a file of `size` bytes."""
    return max(PART_BYTES_MIN, -(-size // PARTS_MAX))


def parts(size: int) -> Iterator[Part]:
    """The parts of a file of `size` bytes, in order."""
    step = part_size(size)
    for number, start in enumerate(range(0, size, step), 1):
        yield Part(number, start, min(step, size - start))
