"""The history of tags: what is noted, what is read back, and what it says of a moment."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.cache import history, keys
from proxy.cache.history import History
from proxy.cache.records import Move, TagRecord, decode_move, encode_move
from proxy.oci.digest import Digest
from proxy.oci.manifests import OCI_MANIFEST, Descriptor
from proxy.oci.names import Repository, Tag
from tests.support.memory_storage import MemoryRecords

APP, V1 = Repository.parse("team/app"), Tag.parse("v1")
URL = "https://lab"


def content(name: str) -> Descriptor:
    return Descriptor(media_type=OCI_MANIFEST, digest=Digest.of(name.encode()), size=len(name))


def record(name: str, at: float, before: TagRecord | None = None) -> TagRecord:
    return TagRecord(
        url=URL,
        current=content(name),
        previous=None if before is None else before.current,
        fetched_at=at,
        checked_at=at,
    )


@dataclass(slots=True)
class Told:
    """A tag that goes from one thing to the next."""

    history: History
    known: TagRecord | None = None

    async def move(self, name: str | None, at: float) -> None:
        """To `name` (None: gone) at that time."""
        old = self.known
        if name is None:
            assert old is not None
            await self.history.gone("lab", APP, V1, old, at)
            self.known = None
        else:
            new = record(name, at, old)
            await self.history.moved("lab", APP, V1, old, new)
            self.known = new

    async def moves(self) -> list[tuple[float, Descriptor | None, Descriptor | None]]:
        found = await self.history.moves("lab", URL, APP, V1, known=self.known)
        return [(one.at, one.before, one.after) for one in found]

    async def at(self, when: float) -> Descriptor | None:
        then = await self.history.at("lab", URL, APP, V1, when, known=self.known)
        return then.named


async def test_each_move_is_told_with_what_it_left_and_what_it_came_to() -> None:
    told = Told(History(MemoryRecords()))
    for name, at in (("a", 10.0), ("b", 20.0), (None, 30.0), ("a", 40.0)):
        await told.move(name, at)
    assert await told.moves() == [
        (10.0, None, content("a")),
        (20.0, content("a"), content("b")),
        (30.0, content("b"), None),
        (40.0, None, content("a")),
    ]


async def test_a_move_that_is_noted_twice_is_one() -> None:
    records = MemoryRecords()
    for _ in range(2):
        told = Told(History(records))
        await told.move("a", 10.0)
        await told.move("b", 20.0)
    # Another replica heard of it a little later.
    await History(records).moved("lab", APP, V1, record("a", 10.0), record("b", 20.25))
    assert [after for _, _, after in await told.moves()] == [content("a"), content("b")]


async def test_a_record_from_before_there_was_a_history_is_the_first_of_it() -> None:
    records = MemoryRecords()
    old = record("a", 10.0)
    told = Told(History(records), old)
    assert await told.moves() == [(10.0, None, content("a"))]
    assert (await told.at(9.0), await told.at(10.0)) == (None, content("a"))
    await told.move("b", 20.0)
    assert [at for at, _, _ in await told.moves()] == [10.0, 20.0]
    assert (await told.at(15.0), await told.at(25.0)) == (content("a"), content("b"))


async def test_the_newest_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history, "MOVES_MAX", 5)
    told = Told(History(MemoryRecords()))
    for number in range(12):
        await told.move(f"image {number}", 100.0 + number)
    assert [at for at, _, _ in await told.moves()] == [107.0, 108.0, 109.0, 110.0, 111.0]


async def test_a_history_of_another_url_is_nobodys() -> None:
    told = Told(History(MemoryRecords()))
    await told.move("a", 10.0)
    assert await told.history.moves("lab", "https://other", APP, V1, known=None) == []
    then = await told.history.at("lab", "https://other", APP, V1, 20.0, known=None)
    assert (then.named, then.first_at) == (None, None)


async def test_tags_with_a_history_are_listed_once() -> None:
    records = MemoryRecords()
    told = Told(History(records))
    await told.move("a", 10.0)
    await told.move("b", 20.0)
    await told.history.moved("lab", APP, Tag.parse("v0"), None, record("a", 10.0))
    await told.history.moved("lab", Repository.parse("team/other"), V1, None, record("a", 10.0))
    assert [tag async for tag in told.history.tags("lab", APP)] == ["v0", "v1"]


_STORIES = st.lists(
    st.tuples(st.sampled_from(["a", "b", "c", None]), st.integers(1, 5000)), min_size=1, max_size=8
)


@given(_STORIES, st.integers(0, 50_000))
def test_what_a_tag_named_then_is_its_last_move_until_then(
    story: list[tuple[str | None, int]], when_ms: int
) -> None:
    async def play() -> None:
        told = Told(History(MemoryRecords()))
        at_ms, expected, first = 0, None, None
        for name, step_ms in story:
            if name is None and told.known is None:
                continue
            at_ms += step_ms
            await told.move(name, at_ms / 1000)
            first = at_ms if first is None else first
            if at_ms <= when_ms:
                expected = None if name is None else content(name)
        assert await told.at(when_ms / 1000) == expected
        then = await told.history.at("lab", URL, APP, V1, when_ms / 1000, known=told.known)
        assert then.first_at == (None if first is None else first / 1000)

    asyncio.run(play())


@given(
    st.floats(0, 1e11),
    st.sampled_from([None, content("a")]),
    st.sampled_from([None, content("b")]),
)
def test_a_move_is_read_as_it_was_written(
    at: float, before: Descriptor | None, after: Descriptor | None
) -> None:
    move = Move(url=URL, at=at, before=before, after=after)
    assert decode_move(encode_move(move), URL) == move
    assert decode_move(encode_move(move), "https://other") is None


@given(st.binary(max_size=60))
def test_what_is_no_move_is_none(value: bytes) -> None:
    assert decode_move(value, URL) is None


@given(st.floats(0, 1e11), st.floats(0, 1e11))
def test_keys_are_in_order_of_time(one: float, other: float) -> None:
    first, second = (keys.move("lab", APP, V1, at, "x") for at in sorted((one, other)))
    assert first <= second
    assert len(first) == len(second)
