"""What was removed is asked for again, although a replica has asked a moment ago."""

from __future__ import annotations

from proxy.cache import keys, manifests, tag_answers
from proxy.cache.facts import Facts
from proxy.cache.forgetting import Forgetting
from proxy.cache.records import Link, TagRecord
from proxy.cache.shared import Shared
from proxy.coordination.local import LocalCoordination
from proxy.oci.digest import Digest
from proxy.oci.manifests import Descriptor
from proxy.oci.names import Repository, Tag
from tests.support.memory_storage import MemoryRecords
from tests.support.memory_upstream import MemoryUpstream

LAB, APP, V1 = MemoryUpstream("lab"), Repository("app"), Tag("v1")
ROOT = Digest.of(b"root")


async def test_records_memory_and_shared_answers_go() -> None:
    store = MemoryRecords()
    facts = Facts(store, lambda _event: None, lambda: 1000.0)
    shared = Shared(LocalCoordination(), alone=False)
    record = TagRecord(
        url=LAB.url,
        current=Descriptor(media_type="m", digest=ROOT, size=1),
        previous=None,
        fetched_at=1000.0,
        checked_at=1000.0,
    )
    await facts.move_tag(LAB, APP, V1, record)
    await facts.put_link(LAB, APP, ROOT, Link(url=LAB.url, media_type="m", size=1))
    names = (tag_answers.shared_name(LAB, APP, V1), manifests.shared_name(LAB, APP, ROOT))
    for name in names:
        await shared.tell(name, b"answer", ttl_s=3600)
    tag, link = facts.tag_life(LAB, APP, V1), facts.link_life(LAB, APP, ROOT)
    forgetting = Forgetting(facts, shared)
    for _ in range(2):
        await forgetting.tag(LAB, APP, V1)
        await forgetting.digest(LAB, APP, ROOT)
    assert await facts.tag(LAB, APP, V1) is None
    assert await facts.link(LAB, APP, ROOT) is None
    assert keys.tag("lab", APP, V1) not in store.kept
    assert [await shared.told(name) for name in names] == [False, False]
    assert tag is not None
    assert link is not None
    assert (tag[1].over, link[1].over) == (True, True), "what stood on it is gone in that step"
