"""The port's suite on the coordination inside one process, and its own clock and bounds."""

from __future__ import annotations

import pytest

from proxy.coordination import local
from proxy.coordination.local import LocalCoordination
from tests.support.coordination_suite import CoordinationSuite, Replicas


class TestLocalCoordination(CoordinationSuite):
    @pytest.fixture
    def replicas(self) -> Replicas:
        """In one process both users are users of the same."""
        one = LocalCoordination()
        return one, one


class Clock:
    """Seconds that pass when told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


async def test_a_value_lives_exactly_as_long_as_was_said() -> None:
    clock = Clock()
    coordination = LocalCoordination(clock)
    await coordination.put("short", b"1", ttl_s=10)
    await coordination.put("long", b"2", ttl_s=20)
    clock.now += 9.999
    assert await coordination.get("short") == b"1"
    clock.now += 0.001
    assert await coordination.get("short") is None
    assert await coordination.get("long") == b"2"


async def test_putting_again_begins_a_new_life() -> None:
    clock = Clock()
    coordination = LocalCoordination(clock)
    await coordination.put("key", b"1", ttl_s=10)
    clock.now += 9
    await coordination.put("key", b"2", ttl_s=10)
    clock.now += 9
    assert await coordination.get("key") == b"2"
    await coordination.put("gone at once", b"", ttl_s=0)
    assert await coordination.get("gone at once") is None


async def test_memory_is_bounded_by_forgetting_the_least_recently_used(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(local, "_VALUES_MAX", 3)
    coordination = LocalCoordination(Clock())
    for name in "abc":
        await coordination.put(name, name.encode(), ttl_s=100)
    assert await coordination.get("a") == b"a"
    await coordination.put("d", b"d", ttl_s=100)
    assert [await coordination.get(name) for name in "abcd"] == [b"a", None, b"c", b"d"]
