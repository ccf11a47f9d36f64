"""Memory that a scan can't flush: its bounds, and what survives what."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from proxy.cache.lru import Lru
from proxy.cache.scanproof import ScanProof

KEYS = st.sampled_from("abcdefgh")
STEPS = st.lists(
    st.tuples(st.sampled_from(("put", "get", "peek", "pop", "clear")), KEYS, st.binary(max_size=9)),
    max_size=80,
)


@given(steps=STEPS, budget=st.integers(0, 24))
def test_it_holds_what_was_put_last_or_nothing_and_never_more_than_its_budget(
    steps: list[tuple[str, str, bytes]], budget: int
) -> None:
    dropped: list[bytes] = []
    memory: ScanProof[str, bytes] = ScanProof(budget, weigh=len, dropped=dropped.append, heaviest=8)
    latest: dict[str, bytes] = {}
    put = 0
    for step, key, value in steps:
        match step:
            case "put":
                put += 1
                memory.put(key, value)
                latest[key] = value
                if len(value) > min(8, budget):
                    assert key not in memory
            case "get" | "peek":
                found = memory.get(key) if step == "get" else memory.peek(key)
                assert found is None or found == latest[key]
                assert (found is not None) == (key in memory)
            case "pop":
                memory.pop(key)
                assert key not in memory
            case _:
                memory.clear()
                assert len(memory) == 0
        held = [memory.peek(key) for key in "abcdefgh" if key in memory]
        assert memory.weight == sum(len(one) for one in held if one is not None) <= budget
        # Each value that was put is held or was reported as dropped, once.
        assert len(dropped) + len(held) == put == len(dropped) + len(memory)


def hit_share(memory: Lru[int, bytes], *, scan: int) -> float:
    """Of a hot set of half the memory, after `scan` values that are read once each
    while the hot set is in use now and then.
    """
    draw = random.Random(7)
    hot = range(500)
    for _ in range(4):
        for key in hot:
            if memory.get(key) is None:
                memory.put(key, bytes(10))
    for key in range(1000, 1000 + scan):
        if memory.get(key) is None:
            memory.put(key, bytes(10))
        # A twentieth of the requests are for what is hot.
        if draw.random() < 0.05:
            one = draw.choice(hot)
            if memory.get(one) is None:
                memory.put(one, bytes(10))
    return sum(key in memory for key in hot) / len(hot)


def test_a_scan_of_ten_times_its_size_leaves_what_is_hot() -> None:
    assert hit_share(ScanProof(10_000, weigh=len), scan=10_000) >= 0.9
    # Which a plain LRU does not.
    assert hit_share(Lru(10_000, weigh=len), scan=10_000) < 0.7


def test_even_a_scan_while_nothing_else_is_read() -> None:
    memory: ScanProof[int, bytes] = ScanProof(10_000, weigh=len)
    for _ in range(3):
        for key in range(400):
            if memory.get(key) is None:
                memory.put(key, bytes(10))
    for key in range(1000, 11_000):
        memory.put(key, bytes(10))
    assert sum(key in memory for key in range(400)) >= 360


def test_what_comes_back_soon_stays_although_it_was_dropped_once() -> None:
    memory: ScanProof[str, bytes] = ScanProof(100, weigh=len)
    memory.put("returns", bytes(10))
    for number in range(11):
        memory.put(f"first {number}", bytes(10))
    assert "returns" not in memory
    memory.put("returns", bytes(10))
    for number in range(100):
        memory.put(f"second {number}", bytes(10))
    assert "returns" in memory


def test_a_change_of_what_is_hot_is_followed() -> None:
    memory: ScanProof[int, bytes] = ScanProof(1000, weigh=len)
    for start in (0, 1000):
        for _ in range(6):
            for key in range(start, start + 60):
                if memory.get(key) is None:
                    memory.put(key, bytes(10))
    assert sum(key in memory for key in range(1000, 1060)) >= 55
