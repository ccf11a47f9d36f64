"""Intervals against a set of bytes."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from proxy.cache.extents import Extents

SIZE = 40
SPANS = st.lists(st.tuples(st.integers(0, SIZE), st.integers(0, SIZE)), max_size=12)


def filled(spans: list[tuple[int, int]]) -> tuple[Extents, set[int]]:
    extents, model = Extents(), set()
    for start, end in spans:
        extents.add(start, end)
        model |= set(range(start, end))
    return extents, model


@given(SPANS)
def test_they_cover_what_was_added_sorted_and_never_touching(spans: list[tuple[int, int]]) -> None:
    extents, model = filled(spans)
    assert {offset for start, end in extents for offset in range(start, end)} == model
    assert extents.total == len(model)
    listed = list(extents)
    assert len(extents) == len(listed)
    assert all(one[1] < other[0] for one, other in pairwise(listed))


@given(SPANS, SPANS)
def test_a_copy_is_one_of_its_own(
    spans: list[tuple[int, int]], more: list[tuple[int, int]]
) -> None:
    extents, model = filled(spans)
    copy = extents.copy()
    for span in more:
        copy.add(*span)
    assert {offset for start, end in extents for offset in range(start, end)} == model
    assert list(copy) == list(filled(spans + more)[0])
    assert (extents.total, copy.total) == (len(model), len(filled(spans + more)[1]))


@given(SPANS, st.integers(0, SIZE))
def test_end_at_is_the_first_missing_byte(spans: list[tuple[int, int]], offset: int) -> None:
    extents, model = filled(spans)
    end = offset
    while end in model:
        end += 1
    assert extents.end_at(offset) == end


@given(SPANS, st.integers(0, SIZE), st.integers(0, SIZE))
def test_a_gap_is_the_first_stretch_of_missing_bytes(
    spans: list[tuple[int, int]], start: int, end: int
) -> None:
    extents, model = filled(spans)
    missing = [offset for offset in range(start, end) if offset not in model]
    if not missing:
        assert extents.gap(start, end) is None
        return
    stop = missing[0]
    while stop < end and stop not in model:
        stop += 1
    assert extents.gap(start, end) == (missing[0], stop)


@given(SPANS, st.integers(0, SIZE), st.integers(0, 5))
def test_the_next_start_is_that_of_a_long_enough_interval_behind(
    spans: list[tuple[int, int]], offset: int, length: int
) -> None:
    extents, _ = filled(spans)
    starts = [a for a, b in extents if a > offset and b - a > length]
    assert extents.next_start(offset, longer_than=length) == (starts[0] if starts else None)
