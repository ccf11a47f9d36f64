"""When an image was last pulled: remembered, written now and then, told by replicas."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from proxy.cache import keys
from proxy.cache.records import TagRecord
from proxy.coordination.local import LocalCoordination
from proxy.keeping.images import Named
from proxy.keeping.pulls import WRITE_EVERY_S, Pulls
from proxy.oci.digest import Digest
from proxy.oci.manifests import Descriptor
from proxy.oci.names import Repository, Tag
from proxy.ports import BlobKey
from tests.support.memory_storage import MemoryRecords
from tests.support.memory_upstream import MemoryUpstream

LAB, APP, V1 = MemoryUpstream("lab"), Repository("app"), Tag("v1")
ROOT = Digest.of(b"root")
CURRENT = Descriptor(media_type="m", digest=ROOT, size=1)
RECORD = TagRecord(url=LAB.url, current=CURRENT, previous=None, fetched_at=5, checked_at=9)
NAMED = Named(upstream=LAB, repository=APP, tag=V1, record=RECORD)


class Fleet(LocalCoordination):
    """Where other replicas have told of uses."""

    def __init__(self, told: float | None = None) -> None:
        super().__init__()
        self.told = told

    async def last_used(self, keys: Sequence[BlobKey]) -> list[float | None]:
        return [self.told if key.digest == ROOT else None for key in keys]


class World:
    """Replicas that share records."""

    def __init__(self) -> None:
        self.records = MemoryRecords()
        self.now = 1e9

    def replica(self, told: float | None = None) -> Pulls:
        return Pulls(self.records, Fleet(told), lambda: self.now)


async def test_the_last_pull_by_tag_or_digest_counts_and_outlasts_a_restart() -> None:
    world = World()
    pulls = world.replica()
    assert await pulls.last(NAMED) is None
    await pulls.note(LAB, APP, V1)
    world.now += 10
    assert await pulls.last(NAMED) == 1e9
    await pulls.note(LAB, APP, Tag("v2"))
    assert await pulls.last(NAMED) == 1e9
    await pulls.note(LAB, APP, ROOT)
    assert await pulls.last(NAMED) == await world.replica().last(NAMED) == 1e9 + 10


async def test_a_busy_image_is_written_once_an_hour_and_known_to_the_second() -> None:
    world = World()
    pulls = world.replica()
    await pulls.note(LAB, APP, V1)
    world.now += WRITE_EVERY_S - 1
    await pulls.note(LAB, APP, V1)
    assert (await pulls.last(NAMED), await world.replica().last(NAMED)) == (world.now, 1e9)
    world.now += 1
    await pulls.note(LAB, APP, V1)
    assert await world.replica().last(NAMED) == world.now


async def test_what_other_replicas_know_counts_too() -> None:
    world = World()
    here, there = world.replica(), world.replica()
    await here.note(LAB, APP, V1)
    world.now += 2 * WRITE_EVERY_S
    await there.note(LAB, APP, V1)
    assert await here.last(NAMED) == world.now
    assert await world.replica(told=world.now + 1).last(NAMED) == world.now + 1


async def test_a_removed_image_was_never_pulled() -> None:
    world = World()
    pulls = world.replica()
    await pulls.note(LAB, APP, V1)
    await pulls.note(LAB, APP, ROOT)
    await pulls.forget(NAMED)
    assert await pulls.last(NAMED) is None
    assert world.records.kept == {}


async def test_a_store_that_fails_is_no_trouble_for_who_pulls() -> None:
    world = World()
    world.records.failing = True
    pulls = world.replica()
    await pulls.note(LAB, APP, V1)
    world.records.failing = False
    assert await pulls.last(NAMED) == 1e9
    assert await world.replica().last(NAMED) is None
    await pulls.note(LAB, APP, V1)
    assert await world.replica().last(NAMED) == 1e9


@pytest.mark.parametrize("value", [b"", b"[]", b"3", b'{"at":"x"}', b"\xff", b'{"v":1}'])
async def test_what_can_not_be_read_tells_nothing(value: bytes) -> None:
    world = World()
    await world.records.put(keys.pulled("lab", APP, V1), value)
    assert await world.replica().last(NAMED) is None
