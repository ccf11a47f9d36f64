"""Lives and what stands on them."""

from __future__ import annotations

from proxy.cache.lru import Lru
from proxy.cache.scanproof import ScanProof
from proxy.cache.standing import Life, Lives, Standing


def test_a_life_ends_once_and_tells_those_who_still_watch() -> None:
    life, told = Life(), []
    one, other = object(), object()
    life.watch(one, lambda: told.append("one"))
    life.watch(other, lambda: told.append("other"))
    life.unwatch(other)
    life.unwatch(other)
    assert not life.over
    life.end()
    life.end()
    assert (life.over, told) == (True, ["one"])


def test_a_value_lives_until_it_leaves_or_is_replaced() -> None:
    for memory in (Lru[str, bytes](20, weigh=len), ScanProof[str, bytes](20, weigh=len)):
        assert memory.life("a") is None
        memory.put("a", b"x")
        first = memory.life("a")
        assert first is not None
        assert memory.life("a") is first
        memory.put("a", b"x")
        second = memory.life("a")
        assert second is not None
        assert (first.over, second.over) == (True, False)
        memory.put("b", bytes(20))  # There is no room for both.
        assert second.over != ("a" in memory)
        memory.put("c", b"x")
        last = memory.life("c")
        assert last is not None
        memory.clear()
        assert last.over


def test_a_use_of_a_life_is_a_use_of_the_value() -> None:
    memory: Lru[str, str] = Lru(2)
    memory.put("a", "A")
    memory.put("b", "B")
    life = memory.life("a")
    assert life is not None
    life.used()
    memory.put("c", "C")
    assert ["a" in memory, "b" in memory] == [True, False]


def test_who_asks_after_an_end_gets_another_life() -> None:
    lives = Lives()
    lives.end("lab")
    first = lives.of("lab")
    assert lives.of("lab") is first
    lives.end("lab")
    assert first.over
    assert not lives.of("lab").over


def test_an_answer_stands_on_all_of_its_grounds() -> None:
    touched: list[str] = []
    one, other = Life(lambda: touched.append("one")), Life(lambda: touched.append("other"))
    mine = Standing((one,), since=10, until=30, touch=lambda: touched.append("mine"))
    both = mine.on(Standing((other,), since=20, until=40))
    assert [both.holds(now) for now in (19.9, 20, 29.9, 30)] == [False, True, True, False]
    both.used()
    assert touched == ["one", "other", "mine"]
    other.end()
    assert not both.holds(25)
    assert mine.holds(25)
    assert Standing().holds(0)
