"""What SpaceSaving promises, for any stream."""

import json
import math
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.cache.heavy import HeavyHitters

KEYS = st.sampled_from([f"image-{number}" for number in range(40)])
STREAMS = st.lists(st.tuples(KEYS, st.integers(0, 50)), max_size=300)
CAPACITIES = st.integers(1, 12)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=12,
)


def counted(capacity: int, stream: list[tuple[str, int]]) -> tuple[HeavyHitters, Counter[str]]:
    hitters, truth = HeavyHitters(capacity), Counter[str]()
    for key, weight in stream:
        hitters.add(key, weight)
        truth[key] += weight
    return hitters, truth


@given(CAPACITIES, STREAMS)
def test_whatever_has_more_than_its_share_of_all_weight_is_in_it(
    capacity: int, stream: list[tuple[str, int]]
) -> None:
    hitters, truth = counted(capacity, stream)
    for key, weight in truth.items():
        assert weight <= hitters.total / capacity or key in hitters


@given(CAPACITIES, STREAMS)
def test_a_weight_is_never_too_small_and_too_large_by_no_more_than_its_error(
    capacity: int, stream: list[tuple[str, int]]
) -> None:
    hitters, truth = counted(capacity, stream)
    assert hitters.total == sum(truth.values())
    for key, weight in hitters.top(capacity):
        assert weight - hitters.error(key) <= truth[key] <= weight
        assert hitters.error(key) <= hitters.total / capacity


@given(CAPACITIES, STREAMS)
def test_it_never_grows_and_tells_who_had_to_go(
    capacity: int, stream: list[tuple[str, int]]
) -> None:
    hitters, here = HeavyHitters(capacity), set[str]()
    for key, weight in stream:
        gone = hitters.add(key, weight)
        here.add(key)
        if gone is not None:
            here.remove(gone)
        assert set(hitters) == here
        assert len(hitters) <= capacity


@given(STREAMS)
def test_with_room_for_all_it_only_counts(stream: list[tuple[str, int]]) -> None:
    hitters, truth = counted(40, stream)
    assert dict(hitters.top(40)) == dict(truth)


@given(CAPACITIES, STREAMS, st.integers(0, 12))
def test_the_top_is_sorted_and_as_long_as_asked(
    capacity: int, stream: list[tuple[str, int]], n: int
) -> None:
    hitters, _ = counted(capacity, stream)
    top = hitters.top(n)
    assert top == sorted(top, key=lambda one: (-one[1], one[0]))
    assert len(top) == min(n, len(hitters))
    assert top == hitters.top(capacity)[:n]


@given(CAPACITIES, STREAMS, STREAMS)
def test_halving_lets_the_past_count_half(
    capacity: int, old: list[tuple[str, int]], new: list[tuple[str, int]]
) -> None:
    hitters, truth = counted(capacity, old)
    hitters.halve()
    halved = Counter({key: weight / 2 for key, weight in truth.items()})
    for key, weight in new:
        hitters.add(key, weight)
        halved[key] += weight
    assert math.isclose(hitters.total, sum(halved.values()), abs_tol=1e-9)
    for key, weight in hitters.top(capacity):
        assert weight - hitters.error(key) - 1e-9 <= halved[key] <= weight + 1e-9
    for key, weight in halved.items():
        assert weight <= hitters.total / capacity + 1e-9 or key in hitters


@given(CAPACITIES, STREAMS, STREAMS)
def test_it_goes_on_from_its_document_as_if_nothing_had_happened(
    capacity: int, before: list[tuple[str, int]], after: list[tuple[str, int]]
) -> None:
    hitters, _ = counted(capacity, before)
    again = HeavyHitters(capacity)
    again.load(json.loads(json.dumps(hitters.document())))
    assert again.top(capacity) == hitters.top(capacity)
    for key, weight in after:
        assert again.add(key, weight) == hitters.add(key, weight)
    assert again.document() == {**hitters.document(), "keys": again.document()["keys"]}
    assert again.top(capacity) == hitters.top(capacity)


@given(JSON | st.fixed_dictionaries({"total": JSON, "keys": st.lists(st.lists(JSON))}))
def test_garbage_is_left_out(document: object) -> None:
    hitters = HeavyHitters(3)
    hitters.load(document)
    hitters.add("image", 1)
    assert len(hitters) <= 3
    assert math.isfinite(hitters.total)
    json.dumps(hitters.document(), allow_nan=False)


def test_what_can_be_read_beside_garbage_is_kept() -> None:
    hitters = HeavyHitters(2)
    hitters.load(
        {"keys": [["a", 3, 0], "x", ["b", True, 0], ["c", 5, 9], ["d", -1, 0], ["e", 1, 0]]}
    )
    assert hitters.top(9) == [("c", 5.0), ("a", 3.0)]
    assert hitters.error("c") == 5.0
    assert hitters.error("nobody") == 0.0
    assert hitters.total == 3.0


def test_a_capacity_of_none_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        HeavyHitters(0)
