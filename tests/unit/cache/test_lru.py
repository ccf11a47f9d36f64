"""The bounded mapping against a list that does the same slowly."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from proxy.cache.lru import Lru

KEYS = st.sampled_from("abcdef")
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("put"), KEYS, st.binary(max_size=8)),
        st.tuples(st.just("get"), KEYS, st.none()),
        st.tuples(st.just("peek"), KEYS, st.none()),
        st.tuples(st.just("pop"), KEYS, st.none()),
        st.tuples(st.just("clear"), KEYS, st.none()),
    ),
    max_size=60,
)


@given(steps=STEPS, budget=st.integers(0, 20))
def test_it_forgets_what_was_used_least_recently(
    steps: list[tuple[str, str, bytes | None]], budget: int
) -> None:
    dropped: list[bytes] = []
    lru: Lru[str, bytes] = Lru(budget, weigh=len, dropped=dropped.append)
    model: list[tuple[str, bytes]] = []  # Oldest first.
    put = 0
    for step, key, value in steps:
        known = dict(model).get(key)
        others = [item for item in model if item[0] != key]
        match step:
            case "put":
                assert value is not None
                put += 1
                lru.put(key, value)
                model = others
                if len(value) <= budget:
                    model.append((key, value))
                while sum(len(one) for _, one in model) > budget:
                    model.pop(0)
            case "get":
                assert lru.get(key) == known
                if known is not None:
                    model = [*others, (key, known)]
            case "peek":
                assert lru.peek(key) == known
            case "pop":
                lru.pop(key)
                model = others
            case "clear":
                lru.clear()
                model = []
        assert {key: lru.peek(key) for key in "abcdef" if key in lru} == dict(model)
        assert len(lru) == len(model)
        assert lru.weight == sum(len(one) for _, one in model) <= budget
        # Each value that was put is held or was reported as dropped, once.
        assert len(dropped) + len(model) == put


def test_entries_count_where_nothing_else_is_said() -> None:
    lru: Lru[int, str] = Lru(2)
    for number in range(5):
        lru.put(number, "x" * number)
    assert [number for number in range(5) if number in lru] == [3, 4]
