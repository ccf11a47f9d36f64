"""Pins: what they keep, that every replica learns of them, that nothing breaks them."""

from __future__ import annotations

import contextlib
import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.cache import keys
from proxy.cache.pin_records import Pin, PinnedImage, decode_pin, encode_pin
from proxy.cache.pin_store import Unwritten
from proxy.cache.pins import Pins
from proxy.errors import StorageUnavailable
from proxy.events import Event, StorageFailed
from proxy.oci.digest import Digest
from proxy.oci.names import Repository, Tag
from proxy.ports import PUBLIC, BlobKey, Record
from tests.support.memory_storage import MemoryRecords
from tests.support.memory_upstream import MemoryUpstream

APP, V1 = Repository.parse("team/app"), Tag.parse("v1")
OPEN, OURS = MemoryUpstream("lab"), MemoryUpstream("ours", credentialed=True)


def digest(word: str) -> Digest:
    return Digest.of(word.encode())


def digests(*words: str) -> list[Digest]:
    return [digest(word) for word in words]


def key(word: str, group: str = PUBLIC) -> BlobKey:
    return BlobKey(group, digest(word))


class World:
    """Replicas over one store."""

    def __init__(self) -> None:
        self.store = MemoryRecords()
        self.events: list[Event] = []
        self.now = 1000.0

    def replica(self) -> Pins:
        return Pins(self.store, self.events.append, lambda: self.now)


async def test_what_a_pin_lists_is_pinned_in_its_group_and_nothing_else() -> None:
    pins = World().replica()
    pin = await pins.pin(OPEN, APP, V1, source="cli", closure=digests("root", "layer"))
    assert pin.name == "lab/team/app:v1"
    assert pins.pinned(key("root"))
    assert pins.pinned(key("layer"))
    assert not pins.pinned(key("other"))
    assert not pins.pinned(key("layer", "ours"))
    await pins.pin(OURS, APP, digest("mine"), source="import", closure=digests("mine"))
    assert pins.pinned(key("mine", "ours"))
    assert not pins.pinned(key("mine"))


async def test_a_shared_layer_stays_until_the_last_pin_of_it_goes() -> None:
    pins = World().replica()
    one = await pins.pin(OPEN, APP, V1, source="cli", closure=digests("a", "base"))
    two = await pins.pin(OPEN, APP, Tag("v2"), source="cli", closure=digests("b", "base"))
    await pins.remove([one])
    assert (pins.pinned(key("a")), pins.pinned(key("base"))) == (False, True)
    await pins.remove([two, one])
    assert not pins.pinned(key("base"))
    assert len(pins) == 0


async def test_replicas_learn_of_pins_and_of_their_end() -> None:
    world = World()
    here, there = world.replica(), world.replica()
    pin = await here.pin(OPEN, APP, V1, source="cli", closure=digests("root"))
    pattern = await here.pin_pattern("lab/*:*", source="config")
    assert not there.pinned(key("root"))
    await there.refresh()
    assert there.pinned(key("root"))
    assert there.all() == here.all() == [pattern, pin]
    assert [one.is_pattern for one in there.all()] == [True, False]
    await there.remove(there.of("lab/team/app:v1"))
    await here.refresh()
    assert not here.pinned(key("root"))
    assert here.all() == [pattern]


async def test_sources_do_not_take_each_others_pins_away() -> None:
    pins = World().replica()
    await pins.pin(OPEN, APP, V1, source="cli", closure=digests("root"))
    await pins.pin(OPEN, APP, V1, source="import", closure=digests("root"))
    await pins.pin(OPEN, APP, V1, source="cli", closure=digests("root"), pattern="lab/*")
    assert len(pins.of("lab/team/app:v1")) == 3
    await pins.remove([one for one in pins.of("lab/team/app:v1") if one.source == "cli"])
    assert [one.source for one in pins.all()] == ["import"]
    assert pins.pinned(key("root"))


async def test_pinning_again_replaces_what_is_kept_and_is_as_old_as_before() -> None:
    world = World()
    pins = world.replica()
    await pins.pin(OPEN, APP, V1, source="cli", closure=digests("old"))
    world.now += 50
    again = await pins.pin(OPEN, APP, V1, source="cli", closure=digests("new"))
    assert again.pinned_at == 1000.0
    assert (pins.pinned(key("old")), pins.pinned(key("new"))) == (False, True)
    assert len(world.store.kept) == 1
    before = dict(world.store.kept)
    await pins.pin(OPEN, APP, V1, source="cli", closure=digests("new"))
    assert world.store.kept == before, "the same again writes nothing"


async def test_killed_between_the_new_record_and_the_old_ones_end_both_keep() -> None:
    world = World()
    pins = world.replica()
    await pins.pin(OPEN, APP, V1, source="cli", closure=digests("old"))
    left = dict(world.store.kept)
    await pins.pin(OPEN, APP, V1, source="cli", closure=digests("new"))
    world.store.kept |= left
    after = world.replica()
    await after.refresh()
    assert after.pinned(key("old"))
    assert after.pinned(key("new"))
    await after.pin(OPEN, APP, V1, source="cli", closure=digests("new"))
    assert not after.pinned(key("old"))
    assert len(world.store.kept) == 1


async def test_a_store_that_is_away_takes_no_pin_back() -> None:
    world = World()
    pins = world.replica()
    await pins.pin(OPEN, APP, V1, source="cli", closure=digests("root"))
    world.store.failing = True
    with pytest.raises(StorageUnavailable):
        await pins.refresh()
    assert pins.pinned(key("root"))
    with pytest.raises(StorageUnavailable):
        await pins.pin(OPEN, APP, Tag("v2"), source="cli", closure=digests("second"))
    assert pins.pinned(key("second")), "it holds here all the same"


async def test_a_start_without_the_store_goes_by_the_copy() -> None:
    world = World()
    pin = await world.replica().pin(OPEN, APP, V1, source="cli", closure=digests("root"))
    copy = MemoryRecords(kept=dict(world.store.kept))
    copy.kept["pins/torn"] = Record(b"", "x")
    world.store.failing = True
    started = world.replica()
    await started.refresh(copy)
    with pytest.raises(StorageUnavailable):
        await started.refresh()
    assert started.all() == [pin]
    assert started.pinned(key("root"))
    world.store.failing = False
    world.store.kept.clear()
    await started.refresh()
    assert started.all() == []


async def test_damaged_records_count_for_nothing_and_are_told_once() -> None:
    world = World()
    pins = world.replica()
    await pins.pin(OPEN, APP, V1, source="cli", closure=digests("root"))
    (good,) = world.store.kept
    flipped = world.store.kept[good].value.replace(b"lab", b"lib")
    world.store.kept[good] = Record(flipped, "x")
    world.store.kept["pins/strange"] = Record(b"[[[", "y")
    value = b'{"v":1,"name":3,"source":"cli","pinned_at":1,"images":[]}'
    world.store.kept[keys.pin("0" * 64, hashlib.sha256(value).hexdigest())] = Record(value, "z")
    fresh = world.replica()
    for _ in range(2):
        await fresh.refresh()
    assert fresh.all() == []
    assert not fresh.pinned(key("root"))
    assert sum(isinstance(event, StorageFailed) for event in world.events) == 3


async def test_a_manifest_that_comes_later_brings_its_layers_under_the_pin() -> None:
    pins = World().replica()
    pin = await pins.pin(OPEN, APP, V1, source="cli", closure=digests("index", "manifest"))
    other = await pins.pin(OPEN, APP, Tag("v2"), source="cli", closure=digests("else"))
    assert not pins.has_grown(pin)
    pins.grow(key("manifest"), digests("layer", "index"))
    pins.grow(key("layer"), digests("deeper"))
    pins.grow(key("stranger"), digests("other"))
    assert [pins.pinned(key(word)) for word in ("layer", "deeper", "other")] == [True, True, False]
    assert (pins.has_grown(pin), pins.has_grown(other)) == (True, False)
    growth = pins.growth()
    pins.grow(key("manifest"), digests("late"))
    pins.settled(growth)
    assert [pins.pinned(key(word)) for word in ("layer", "late")] == [False, True]
    await pins.remove([pin])
    assert not pins.pinned(key("late")), "it was there for the manifest's sake"


WORDS = st.text("abc/:*-", max_size=8)
IMAGES = st.lists(st.sampled_from(digests(*"abcdef")), min_size=1, max_size=4, unique=True).map(
    lambda made: PinnedImage(tuple(made))
)
PINS = st.builds(
    Pin,
    name=WORDS,
    source=st.sampled_from(["cli", "import", "config"]),
    pinned_at=st.floats(0, 2e9),
    pattern=WORDS,
    upstream=WORDS,
    repository=WORDS,
    reference=WORDS,
    group=WORDS,
    url=WORDS,
    images=st.lists(IMAGES, max_size=2).map(tuple),
)


@given(pin=PINS)
def test_a_record_is_read_as_it_was_written(pin: Pin) -> None:
    assert decode_pin(encode_pin(pin)) == pin


@given(pin=PINS, at=st.integers(0, 400), value=st.integers(0, 255))
def test_any_damage_is_another_pin_or_none_and_never_an_error(
    pin: Pin, at: int, value: int
) -> None:
    damaged = bytearray(encode_pin(pin))
    damaged[at % len(damaged)] = value
    found = decode_pin(bytes(damaged))
    assert found is None or isinstance(found, Pin)
    cut = decode_pin(encode_pin(pin)[: at % len(damaged)])
    assert cut is None


@given(
    steps=st.lists(
        st.tuples(st.sampled_from(["v1", "v2", "v3"]), st.sets(st.sampled_from("abcde"))),
        max_size=12,
    )
)
async def test_what_is_pinned_is_the_union_of_the_pins(
    steps: list[tuple[str, set[str]]],
) -> None:
    world = World()
    pins, model = world.replica(), dict[str, set[str]]()
    for tag, words in steps:
        if words or tag not in model:
            await pins.pin(OPEN, APP, Tag(tag), source="cli", closure=digests(*sorted(words)))
            model[tag] = words
        else:
            await pins.remove(pins.of(f"lab/team/app:{tag}"))
            del model[tag]
    other = world.replica()
    await other.refresh()
    for word in "abcde":
        wanted = any(word in words for words in model.values())
        assert pins.pinned(key(word)) is other.pinned(key(word)) is wanted


async def test_a_pattern_keeps_what_it_fits_before_it_has_found_it() -> None:
    pins = World().replica()
    pattern = await pins.pin_pattern("lab/team/*:v?", source="config")
    assert pins.keeping("lab/team/app:v1") == [pattern]
    assert pins.keeping("lab/team/app:v10") == pins.keeping("lab/other:v1") == []
    own = await pins.pin(OPEN, APP, V1, source="cli", closure=digests("root"))
    assert pins.keeping("lab/team/app:v1") == [own, pattern]
    found = await pins.pin(
        OPEN, APP, V1, source="config", closure=digests("root"), pattern=pattern.name
    )
    assert {pin.identity for pin in pins.keeping("lab/team/app:v1")} == {
        own.identity,
        found.identity,
    }


async def test_a_pin_that_could_not_be_written_holds_and_is_written_later() -> None:
    world = World()
    pins = world.replica()
    world.store.failing = True
    with pytest.raises(Unwritten, match="until a restart"):
        await pins.pin(OPEN, APP, V1, source="cli", closure=digests("root"))
    with pytest.raises(StorageUnavailable):
        await pins.refresh()
    assert pins.pinned(key("root"))
    world.store.failing = False
    await pins.refresh()
    assert pins.pinned(key("root"))
    other = world.replica()
    await other.refresh()
    assert other.pinned(key("root"))
    # Unpinned before it could be written, it does not come back.
    world.store.failing = True
    with pytest.raises(Unwritten):
        await pins.pin(OPEN, APP, Tag("v2"), source="cli", closure=digests("two"))
    world.store.failing = False
    await pins.remove(pins.of("lab/team/app:v2"))
    await pins.refresh()
    assert not pins.pinned(key("two"))


async def test_the_same_pin_again_is_written_if_it_was_not() -> None:
    world = World()
    pins = world.replica()
    for failing in (True, False):
        world.store.failing = failing
        with contextlib.suppress(Unwritten):
            await pins.pin(OPEN, APP, V1, source="cli", closure=digests("root"))
    other = world.replica()
    await other.refresh()
    assert other.pinned(key("root"))
