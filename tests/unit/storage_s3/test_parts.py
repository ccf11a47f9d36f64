"""How files are cut: never more than 10,000 parts, none too small, nothing lost."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.storage.s3.parts import PART_BYTES_MIN, PARTS_MAX, part_size, parts

MIB, TIB = 1 << 20, 1 << 40


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        (16 * MIB, 16 * MIB),
        (PART_BYTES_MIN * PARTS_MAX, PART_BYTES_MIN),
        (PART_BYTES_MIN * PARTS_MAX + 1, PART_BYTES_MIN + 1),
        (5 * TIB, -(-5 * TIB // 10_000)),
    ],
)
def test_parts_are_16_mib_until_there_would_be_too_many(size, expected):
    assert part_size(size) == expected
    assert -(-size // part_size(size)) <= 10_000


@given(st.integers(min_value=1, max_value=5 * TIB))
def test_parts_cover_a_file_of_any_size_without_gap_or_overlap(size):
    cut = list(parts(size))
    assert [part.number for part in cut] == list(range(1, len(cut) + 1))
    assert len(cut) <= 10_000
    end = 0
    for part in cut:
        assert part.start == end
        end += part.size
    assert end == size
    assert all(part.size == part_size(size) for part in cut[:-1])
