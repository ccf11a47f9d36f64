"""Uses of whole images: noted once a minute, in bounded memory."""

from __future__ import annotations

from proxy.cache import uses
from proxy.cache.traffic import Urgency, working_as
from proxy.cache.uses import ImageUses
from proxy.oci.digest import Digest
from proxy.oci.manifests import OCI_MANIFEST, Descriptor, Manifest
from proxy.oci.names import Repository, Tag
from tests.support.memory_upstream import MemoryUpstream

LAB = MemoryUpstream("lab")
APP, V1 = Repository("app"), Tag("v1")


def manifest(body: bytes = b"{}") -> Manifest:
    descriptor = Descriptor(media_type=OCI_MANIFEST, digest=Digest.of(body), size=len(body))
    return Manifest(descriptor=descriptor, body=body)


def test_a_use_is_noted_once_a_minute_for_each_reference() -> None:
    now = 0.0
    noted = ImageUses(lambda: now)
    for _ in range(3):
        noted.note(LAB, APP, V1, manifest())
    noted.note(LAB, APP, Tag("v2"), manifest())
    assert [(use.upstream, use.repository, use.reference) for use in noted.take()] == [
        (LAB, APP, V1),
        (LAB, APP, Tag("v2")),
    ]
    assert noted.take() == []
    now = uses.EVERY_S - 1
    noted.note(LAB, APP, V1, manifest())
    assert noted.take() == []
    noted.note(LAB, APP, V1, manifest(b"moved"))
    now = uses.EVERY_S * 2
    noted.note(LAB, APP, V1, manifest(b"moved"))
    assert len(noted.take()) == 2, "a move is noted at once"


def test_what_nobody_waits_for_is_no_use() -> None:
    noted = ImageUses()
    with working_as(Urgency.WARM):
        noted.note(LAB, APP, V1, manifest())
    with working_as(Urgency.REFRESH):
        noted.note(LAB, APP, V1, manifest())
    assert noted.take() == []
    with working_as(Urgency.WAITING, client="192.0.2.1"):
        noted.note(LAB, APP, V1, manifest())
    assert len(noted.take()) == 1


def test_more_than_can_be_handled_is_let_go() -> None:
    noted = ImageUses()
    for number in range(5000):
        noted.note(LAB, APP, Tag(f"v{number}"), manifest())
    assert len(noted.take()) == 2000


def test_tags_that_moved_are_told_once_for_whomever_they_moved() -> None:
    noted = ImageUses()
    with working_as(Urgency.WARM):
        for tag in ("v1", "v2", "v1"):
            noted.moved("lab", APP, Tag(tag))
    assert noted.take_moved() == [("lab", APP, Tag("v1")), ("lab", APP, Tag("v2"))]
    assert noted.take_moved() == []


def test_whoever_asks_only_for_the_digest_uses_the_tag_as_well() -> None:
    noted = ImageUses()
    noted.note(LAB, APP, V1, None)
    noted.note(LAB, APP, V1, None)
    noted.note(LAB, APP, V1, manifest())
    assert [use.manifest for use in noted.take()] == [None, manifest()]
