"""Which blobs of the durable store go, and that it costs no memory to know."""

from __future__ import annotations

import asyncio
import tracemalloc
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.cache.expiry import Expiry
from proxy.coordination.local import LocalCoordination
from proxy.errors import StorageUnavailable
from proxy.events import Event, Evicted
from proxy.oci.digest import Digest
from proxy.ports import PUBLIC, BlobKey, StoredBlob
from tests.support.memory_storage import MemoryBlobs

NOW = 1_700_000_000.0
HOUR_S, DAY_S = 3600.0, 86_400.0


def key(number: int) -> BlobKey:
    return BlobKey(PUBLIC, Digest("sha256", f"{number:064x}"))


@dataclass(slots=True)
class Store(MemoryBlobs):
    """`listed` are (size, age in seconds) by key; fails after so many deletions."""

    listed: dict[BlobKey, tuple[int, float]] = field(default_factory=dict)
    deletions_left: int | None = None

    async def inventory(self, group: str) -> AsyncIterator[StoredBlob]:
        for one, (size, age_s) in list(self.listed.items()):
            if one.group == group:
                yield StoredBlob(one, size, NOW - age_s)

    async def delete(self, key: BlobKey) -> None:
        if self.deletions_left is not None:
            if self.deletions_left == 0:
                raise StorageUnavailable("killed half way")
            self.deletions_left -= 1
        self.listed.pop(key, None)

    @property
    def total(self) -> int:
        return sum(size for size, _ in self.listed.values())


class Used(LocalCoordination):
    """Knows when some blobs were used."""

    def __init__(self, ages_s: dict[BlobKey, float]) -> None:
        super().__init__()
        self.ages_s = ages_s

    async def last_used(self, keys: Sequence[BlobKey]) -> list[float | None]:
        return [NOW - self.ages_s[one] if one in self.ages_s else None for one in keys]


def store(*blobs: tuple[int, float]) -> Store:
    return Store(listed={key(number): blob for number, blob in enumerate(blobs)})


def expiry(
    durable: MemoryBlobs,
    *,
    bytes_max: int | None = None,
    expire_s: float | None = None,
    coordination: LocalCoordination | None = None,
    events: list[Event] | None = None,
) -> Expiry:
    return Expiry(
        durable,
        groups=[PUBLIC],
        bytes_max=bytes_max,
        expire_s=expire_s,
        coordination=coordination or LocalCoordination(),
        observe=([] if events is None else events).append,
        clock=lambda: NOW,
    )


BLOBS = st.lists(
    st.tuples(st.integers(0, 1000), st.floats(600, 400 * DAY_S)), min_size=1, max_size=60
)


def same_or_older(age_s: float, than_s: float) -> bool:
    """To the accuracy that ages are told apart with."""
    return age_s + 600 >= (than_s + 600) * 0.989


@given(blobs=BLOBS, bytes_max=st.integers(1, 20_000))
def test_a_budget_is_met_by_the_oldest_and_by_no_more_than_needed(
    blobs: list[tuple[int, float]], bytes_max: int
) -> None:
    durable = store(*blobs)
    before, total = dict(durable.listed), durable.total
    done = asyncio.run(expiry(durable, bytes_max=bytes_max).round())
    gone = [before[one] for one in before.keys() - durable.listed.keys()]
    assert durable.total <= bytes_max
    assert (done.kept, done.kept_bytes) == (len(durable.listed), durable.total)
    assert (done.dropped, done.dropped_bytes) == (len(gone), total - durable.total)
    if total <= bytes_max:
        assert gone == []
    else:
        biggest = max(size for size, _ in blobs)
        assert done.dropped_bytes < total - int(bytes_max * 0.95) + max(biggest, 1)
    youngest = min((age_s for size, age_s in gone if size), default=None)
    if youngest is not None:
        oldest_kept = max((age_s for _, age_s in durable.listed.values()), default=0.0)
        assert same_or_older(youngest, oldest_kept)


@given(blobs=BLOBS, expire_s=st.floats(HOUR_S, 100 * DAY_S))
def test_age_takes_exactly_what_is_old_enough(
    blobs: list[tuple[int, float]], expire_s: float
) -> None:
    durable = store(*blobs)
    asyncio.run(expiry(durable, expire_s=expire_s).round())
    stay = {number for number, (_, age_s) in enumerate(blobs) if NOW - (NOW - age_s) < expire_s}
    assert set(durable.listed) == {key(number) for number in stay}


@given(blobs=BLOBS, bytes_max=st.integers(1, 20_000), steps=st.integers(0, 20))
def test_a_round_that_was_killed_half_way_is_finished_by_the_next(
    blobs: list[tuple[int, float]], bytes_max: int, steps: int
) -> None:
    whole, broken = store(*blobs), store(*blobs)
    asyncio.run(expiry(whole, bytes_max=bytes_max).round())
    broken.deletions_left = steps
    try:
        asyncio.run(expiry(broken, bytes_max=bytes_max).round())
    except StorageUnavailable:
        broken.deletions_left = None
        asyncio.run(expiry(broken, bytes_max=bytes_max).round())
    assert broken.total <= bytes_max
    # The second looks at what is left: it takes no more than one round would, give or take a blob.
    assert broken.total >= whole.total - 1000


@given(blobs=BLOBS, bytes_max=st.integers(1, 20_000))
def test_a_dry_run_says_the_same_and_removes_nothing(
    blobs: list[tuple[int, float]], bytes_max: int
) -> None:
    durable, events = store(*blobs), list[Event]()
    one = expiry(durable, bytes_max=bytes_max, expire_s=30 * DAY_S, events=events)
    said = asyncio.run(one.round(dry_run=True))
    assert len(durable.listed) == len(blobs)
    assert events == []
    done = asyncio.run(one.round())
    assert (said.dropped, said.dropped_bytes) == (done.dropped, done.dropped_bytes)
    if done.dropped:
        assert events == [Evicted(count=done.dropped, size=done.dropped_bytes)]


async def test_a_use_makes_a_blob_young_again() -> None:
    durable = store((60, 10 * DAY_S), (60, 5 * DAY_S))
    used = Used({key(0): HOUR_S})
    await expiry(durable, bytes_max=100, coordination=used).round()
    assert set(durable.listed) == {key(0)}


async def test_what_was_stored_just_now_stays_whatever_the_budget() -> None:
    durable = store((500, 10.0), (60, -30.0), (60, DAY_S))
    await expiry(durable, bytes_max=100).round()
    assert set(durable.listed) == {key(0), key(1)}


async def test_what_was_dropped_before_the_store_went_away_is_counted() -> None:
    durable, events = store((60, 3 * DAY_S), (60, 2 * DAY_S), (60, DAY_S)), list[Event]()
    durable.deletions_left = 1
    with pytest.raises(StorageUnavailable):
        await expiry(durable, bytes_max=60, events=events).round()
    assert events == [Evicted(count=1, size=60)]


async def test_one_replica_at_a_time() -> None:
    coordination = LocalCoordination()
    durable = store((60, 3 * DAY_S), (60, DAY_S))
    one = expiry(durable, bytes_max=80, coordination=coordination)
    async with coordination.try_hold("expiry"):
        elsewhere = await one.round()
    assert elsewhere.elsewhere
    assert len(durable.listed) == 2
    assert not (await one.round()).elsewhere
    assert len(durable.listed) == 1


class Endless(MemoryBlobs):
    """A million blobs that are nowhere."""

    async def inventory(self, group: str) -> AsyncIterator[StoredBlob]:
        # Some over and over: making a million takes longer than what is measured.
        some = [
            StoredBlob(BlobKey(group, key(0).digest), 1000, NOW - number * 7919 * 10.0)
            for number in range(1000)
        ]
        for _ in range(1000):
            for blob in some:
                yield blob


async def test_a_million_blobs_take_no_memory() -> None:
    one = expiry(Endless(), bytes_max=900_000_000)
    tracemalloc.start()
    try:
        done = await one.round(dry_run=True)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert done.kept + done.dropped == 1_000_000
    assert done.kept_bytes <= 900_000_000
    assert peak < 2_000_000
