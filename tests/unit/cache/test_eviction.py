"""What to drop: the least recently used, enough of it, never more than a quarter."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from proxy.cache.eviction import Candidate, choose

SAMPLES = st.lists(
    st.builds(
        Candidate,
        path=st.uuids().map(str),
        size=st.integers(0, 1000),
        used_at=st.floats(0, 1e9, allow_nan=False),
    ),
    max_size=100,
)


@given(sample=SAMPLES, need=st.integers(-10, 20_000))
def test_the_oldest_go_until_it_is_enough(sample: list[Candidate], need: int) -> None:
    chosen = choose(sample, need=need)
    stay = [one for one in sample if one not in chosen]
    assert all(one in sample for one in chosen)
    assert len(set(chosen)) == len(chosen)
    if need <= 0 or not sample:
        assert chosen == []
        return
    assert 1 <= len(chosen) <= max(1, len(sample) // 4)
    assert max(c.used_at for c in chosen) <= min((s.used_at for s in stay), default=1e9)
    # Not one more than needed.
    assert sum(one.size for one in chosen[:-1]) < need
    enough = sum(one.size for one in chosen) >= need
    assert enough or len(chosen) == max(1, len(sample) // 4)


def test_one_alone_is_chosen() -> None:
    only = Candidate("only", 5, 1.0)
    assert choose([only], need=1) == [only]
    assert choose(iter([only]), need=100) == [only]
