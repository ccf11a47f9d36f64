"""How much of a blob is asked for at first, before it is known what a second connection brings."""

from __future__ import annotations

import pytest

from proxy.cache.main_lane import PIECE_BYTES, trial_end

MIB = 1024 * 1024
GIB = 1024 * MIB


@pytest.mark.parametrize("missing", [0, 1, 31 * MIB, 32 * MIB - 1])
@pytest.mark.parametrize("start", [0, 5 * MIB])
def test_little_is_asked_for_in_one_go(start: int, missing: int) -> None:
    assert trial_end(start, start + missing) is None


def test_a_blob_of_unknown_size_too() -> None:
    assert trial_end(0, None) is None


@pytest.mark.parametrize("start", [0, 5 * MIB])
@pytest.mark.parametrize(
    ("missing", "first"),
    [
        (32 * MIB, 16 * MIB),
        (41 * MIB, 16 * MIB),
        (64 * MIB, 16 * MIB),
        (96 * MIB, 24 * MIB),
        (128 * MIB, 32 * MIB),
        (10 * GIB, 32 * MIB),
    ],
)
def test_of_much_the_beginning(start: int, missing: int, first: int) -> None:
    end = trial_end(start, start + missing)
    assert end == start + first
    # Something is left for another connection.
    assert end + PIECE_BYTES <= start + missing
